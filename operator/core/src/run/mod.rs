//! Runs: from what is frozen and what is observed to the next effects.
//!
//! A pass goes: `start` (accept, freeze) → `advance` (every stage one step: `container`, `nested`, `nested_items`, `approve`,
//! `register` (then `keep`), `deploy`) →
//! `finish` (is the run over) → `status` (conditions). A stage with a program goes: `inputs` → `job` → `classify` (what
//! became of the attempt) → `attempt` (what follows from it) → `retry`, `heal`, `gate`; `cache` may spare it the attempt. Each decides from values alone.

mod advance;
mod again;
mod approve;
mod attempt;
mod awaited;
mod cache;
mod classify;
mod code;
mod container;
mod control;
mod deadline;
mod deploy;
mod ending;
mod fan_out;
mod finish;
mod gate;
mod graph;
mod heal;
mod hold;
mod inputs;
mod item_job;
mod items;
mod job;
mod keep;
mod locks;
mod memory;
mod mounts;
mod nested;
mod nested_items;
mod observed;
mod pass;
mod placed;
mod plan;
mod register;
mod render;
mod report;
mod retry;
mod scope;
mod start;
mod status;
mod turns;
mod usage;

pub use again::{asked as retry_asked, ended};
pub use approve::{asks, has_asked, misplaced, superseded};
pub use cache::{CacheIndex, CacheSnapshot, serializes};
pub use classify::runs;
pub(crate) use classify::waiting as pod_waits;
pub use fan_out::has_item_pods;
pub(crate) use graph::ancestors;
pub use keep::{frozen_versions, held_versions, pinned_versions};
pub use locks::{Claim, claims, has_locks, lock_names, takes_locks};
pub use nested::{Above, DEEPEST, ended_by, parent};
pub use nested_items::MOST_RUNS;
pub use observed::{ContainerView, JobItems, JobView, Observed, PodView, Terminated, Words};
pub use plan::plan;
pub(crate) use retry::refused as no_other_attempt;
pub use turns::{FRONT, Peer, Slot, bound, priority};
