//! Counts the rows that a model is asked for and what it answers, in the bins of its profile: what drift is judged by.
//!
//! `profile` reads what the training stage wrote, `cells` finds a value's bin, `layout` counts columns, `window` keeps counts of the last time in constant memory,
//! `watch` puts them together. Nothing here judges: the operator does, over all pods.

mod cells;
mod layout;
mod profile;
mod watch;
mod window;

pub use watch::{Served, Watch};
