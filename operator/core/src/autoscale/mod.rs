//! How many pods a revision is to have: from what the routers count, by one pure function.
//!
//! ```text
//! /stats of each router ─► History (bounded, one for each model) ─► Window ────┐
//! spec.scale ─► Mode ──────────────────────────────────────────────────────────┴─► decide ─► how many pods, and why
//! ```
//! (`Latency` has a rule of its own, in `latency`.) Up at once, on the largest of three means; down on the most of a minute; to zero after a time without any request. What a router has
//! not said is never taken for no load.

mod answers;
mod counted;
mod decide;
mod history;
mod latencies;
mod latency;
mod mode;
mod series;

#[cfg(test)]
mod tests;

pub use answers::Blind;
pub use counted::Counted;
pub(crate) use decide::pods;
pub use decide::{Decision, State, decide};
pub use history::{History, Window};
pub use latencies::{Latency, Timed};
pub use mode::{Config, Follow, Mode, SHORTEST_TO_ZERO, mode, starts_from_zero};
