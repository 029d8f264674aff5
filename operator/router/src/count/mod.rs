//! What is counted: plain atomics on the way of a request, made into text only when somebody asks.

mod counters;
mod histogram;
mod metrics;
mod snapshot;

pub use counters::{Counters, Span};
pub use histogram::Times;
pub use metrics::Metrics;
pub use snapshot::snapshot;
