//! Batching: whatever waits when the model is free runs together; with a delay, groups wait for more.
//!
//! `queue` holds what waits, `group` decides what runs together, `runner` is the thread that runs it.

mod group;
mod job;
mod queue;
mod runner;
#[cfg(test)]
mod test_jobs;

pub use group::Rules;
pub use job::{Answer, Job, JobError};
pub use queue::Queue;
pub use runner::start;
