//! Whether a revision that comes is as good as it has to be: from what the routers count, by one pure function.
//!
//! ```text
//! /stats of each router ─► Tally (one for each rollout, of one step) ─► Measured ─┐
//! spec.rollout.analysis ──────────────────────────────────────────────────────────┴─► judge ─► a verdict for each
//! ```
//! What a router counted before it had the step in force says nothing of the step, and what it counted before a start anew is lost: a
//! verdict then waits for as many requests again.

mod counts;
mod judge;
mod tally;

#[cfg(test)]
mod tests;

pub use counts::Counts;
pub use judge::{asked, judge};
pub use tally::{Asked, Measured, Step, Tally};
