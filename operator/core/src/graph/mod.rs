//! InferenceGraphs: what is wrong with one, what routers are told of it, and its Service and status. What runs it is the routers of its
//! namespace: a graph has no pods.

mod check;
mod document;
mod doors;
mod objects;
mod observed;
mod plan;
mod status;

#[cfg(test)]
mod tests;

pub use check::check;
pub(crate) use document::document;
pub(crate) use doors::Demand;
pub use observed::Observed;
pub use plan::plan;
pub use status::is_settled;

/// Bytes of a body where the spec says nothing.
pub(crate) const BODY_BYTES: i64 = 4 << 20;
/// From a request's arrival until its answer begins, where the spec says nothing.
const TIMEOUT: std::time::Duration = std::time::Duration::from_mins(5);
