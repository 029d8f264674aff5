//! Batching without delay: whatever waits when the model is free runs together.
//!
//! `queue` holds what waits, `group` decides what runs together, `runner` is the thread that runs it.

mod group;
mod job;
mod queue;
mod runner;
#[cfg(test)]
mod test_jobs;

pub use job::{Answer, Job, JobError};
pub use queue::Queue;
pub use runner::start;
