//! ModelDeployments: from a spec and what is there to a Deployment for each revision, a Service and a status.
//!
//! A revision is never changed and never restarted: another version or other settings are another Deployment. When all
//! of its pods answer, the Service's selector moves to it; the old one goes a little later. What is served is what
//! the Service selects, never what somebody remembers.

mod objects;
mod observed;
mod plan;
mod revision;
mod status;
mod traffic;
mod words;

#[cfg(test)]
mod tests;

pub use observed::{Applied, DeploymentView, Observed, ServiceView};
pub use plan::plan;
pub use traffic::DRAIN;

/// Annotation of a Deployment: the model's version.
pub const VERSION_ANNOTATION: &str = "millrace.dev/version";
/// Annotation of a Service: when its selector moved last.
pub const SWITCHED_ANNOTATION: &str = "millrace.dev/switched-at";
/// Annotation of a pod: digest of the model that it serves.
pub const DIGEST_ANNOTATION: &str = "millrace.dev/model-digest";
