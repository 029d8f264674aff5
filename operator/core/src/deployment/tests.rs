//! What a ModelDeployment decides, alone and in a simulated cluster.

mod budget;
pub(crate) mod cluster;
mod decisions;
mod drift;
mod drifting;
mod limits;
mod live;
mod log_writer;
mod model_cache;
mod monitoring;
mod payload_log;
mod pods;
mod rollouts;
mod routers;
mod scaling;
mod security;
mod stream;
mod swaps;
mod unregistered;
