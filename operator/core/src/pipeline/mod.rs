//! Pipelines: the checks that no schema can make, the frozen form that a run runs, and when a run starts.

mod check;
pub mod claims;
pub mod foreign;
mod frozen;
mod history;
mod numbers;
mod plan;
#[cfg(test)]
mod plan_tests;
mod sweep;
mod triggers;
mod worker;

pub use check::{
    MISSING_INPUT, asks_for_number, beside, bind, bind_inputs, bind_params, check, check_in_place, check_run,
    check_template,
};
pub(crate) use check::{REASONS, UNKNOWN_TEMPLATE};
pub use frozen::{Bond, Frozen, FrozenCache, FrozenContainer, FrozenKind, FrozenNested, FrozenStage, stage_path};
pub use plan::{Looks, PipelineObserved, plan, plan_template};
pub use sweep::{Needs, OutputRecord, RunRecord, StageRecord, sweep_is_due};
pub use triggers::{circles, starts};
