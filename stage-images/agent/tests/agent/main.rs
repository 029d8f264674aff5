//! The agent as a process: what it does with a stage's folder, its program and its store.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests: they fail by panicking")]

mod archive;
mod checkpoints;
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
