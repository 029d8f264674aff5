//! Runs: from what is frozen and what is observed to the next effects.

mod observed;
mod plan;

pub use observed::{ContainerView, JobView, Observed, PodView, Terminated, Words};
pub use plan::plan;
