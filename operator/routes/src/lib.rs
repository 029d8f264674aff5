//! What a router is told (`Routes`) and what it tells (`Stats`). Pure: no client, no clock, no runtime, so that the core can write
//! the one and read the other.

mod check;
mod document;
mod graph;
mod log;
mod query;
mod security;
mod stats;
mod stream;

pub use check::{Problem, RoutesError};
pub use document::{BUCKETS, HeaderRule, Limits, Model, Protocol, Queue, ROUTES_KEY, Revision, Routes, Shadow, Sticky};
pub use graph::{Ensemble, Graph, GraphInput, GraphNode, GraphStep, GraphTarget};
pub use log::{Log, LogStats, Sink};
pub use query::{Query, QueryStats};
pub use security::{ApiKeys, Auth, Entry, Jwks, Jwt, MOUNTED, Per, Published, Rate, Security, Source, Tls, Use};
pub use stats::{Histogram, ModelStats, Outcome, RevisionStats, SecurityStats, ShadowStats, Stats};
pub use stream::{BrokerTls, Mechanism, Obstacle, Sasl, Stream, StreamProblem, StreamRefusals, StreamStats};
