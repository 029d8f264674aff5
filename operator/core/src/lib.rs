//! The pure core of Millrace: the API types and every decision. No client, no clock, no runtime, no environment: what
//! it needs comes in as arguments, what it decides goes out as values. `make verify` fails if a client gets into its
//! dependencies.

mod access;
pub mod admission;
pub mod analysis;
pub mod api;
pub mod autoscale;
pub mod clip;
pub mod config;
pub mod deployment;
pub mod drift;
pub mod duration;
pub mod expr;
pub mod figure;
pub mod gateway_api;
pub mod graph;
pub mod item;
pub mod model_version;
pub mod names;
pub mod pipeline;
pub mod plan;
pub mod pod;
pub mod problem;
mod reach;
pub mod reader;
pub mod routing;
pub mod run;
pub mod store;
