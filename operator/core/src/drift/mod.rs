//! Drift: how far the rows of a window, as model servers counted them, are from the rows that a model was trained on.
//!
//! `figure` has the formulas, `checked` what of a server's answer is believed (its pods are a tenant's), `heard` adds up what pods said,
//! `judge` says what follows.

mod asked;
mod checked;
mod figure;
mod heard;
mod judge;

#[cfg(test)]
mod tests;

pub use asked::{Asked, LONGEST_WINDOW, SHORTEST_WINDOW};
pub use checked::{Unbelievable, checked};
pub use figure::{Figure, chi_square, ks, psi};
pub use heard::Heard;
pub use judge::{Judged, judge};
