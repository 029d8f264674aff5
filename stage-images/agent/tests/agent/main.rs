//! The agent as a process: what it does with a stage's folder, its program and its store.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests: they fail by panicking")]
#![allow(
    clippy::needless_pass_by_value,
    clippy::type_complexity,
    reason = "what a test is given is read where it is written"
)]

mod archive;
mod checkpoints;
mod clouds;
mod code;
mod ending;
mod get;
mod handing_back;
mod items;
mod logs;
mod memory;
mod model_cache;
mod objects;
mod objects_checkpoints;
mod objects_logs;
mod own_doing;
mod stage_folder;
mod store;
mod support;
mod sweep;
mod web_models;
