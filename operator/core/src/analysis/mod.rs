//! Whether a revision that comes is as good as it has to be: from what the routers count, by one pure function.
//!
//! ```text
//! /stats of each router ─► Tally (one for each rollout, of one step) ─► Measured ─┐
//! spec.rollout.analysis ──────────────────────────────────────────────────────────┴─► judge ─► a verdict for each
//! ```
//! A live metric is a figure of the step if it was reported after that, and of the version that comes.
//! What the servers of the revision that comes counted of their rows is its drift, whichever step they came in.
//! What Prometheus answers to the routers is a figure of the step if it was asked after the step was in force.
//! What a router counted before it had the step in force says nothing of the step, and what it counted before a start anew is lost: a
//! verdict then waits for as many requests again.

mod answers;
mod counts;
mod drifted;
mod forgiven;
mod judge;
mod outside;
mod reported;
mod tally;

#[cfg(test)]
mod tests;

pub use answers::{Answers, Asks};
pub use counts::Counts;
pub(crate) use counts::milliseconds;
pub use drifted::Rows;
pub use forgiven::verdicts;
pub use judge::{asked, judge};
pub use tally::{Asked, Measured, Step, Tally};
