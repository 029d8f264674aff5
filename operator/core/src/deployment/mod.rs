//! ModelDeployments: from a spec and what is there to a Deployment and a headless Service for each revision, a Service that leads to
//! the routers, and a status.
//!
//! A revision is never changed and never restarted: another version or other settings are another Deployment. Its pods answer, the
//! routers know them, it gets the weight; the old one goes when no router has a request for it in hand. Weights are in the status
//! before the routers are told of them.

mod chosen;
pub(crate) mod drift;
mod objects;
mod observed;
mod plan;
mod revision;
mod scaling;
mod status;
mod traffic;
mod words;

#[cfg(test)]
mod tests;

pub use drift::{Applied, asked, digest};
pub use objects::{READY_PATH, SERVER_PORT};
pub use observed::{DeploymentView, Observed, ServiceView};
pub use plan::plan;
pub use scaling::{followed, is_awake, is_due};
pub use status::is_settled;
pub use traffic::LONGEST_DRAIN;
pub(crate) use words::pod_words;

/// Annotation of a Deployment: the model's version.
pub const VERSION_ANNOTATION: &str = "millrace.dev/version";
/// Annotation of a pod: digest of the model that it serves.
pub const DIGEST_ANNOTATION: &str = "millrace.dev/model-digest";
