//! ModelDeployments: from a spec and what is there to a Deployment and a headless Service for each revision, a Service that leads to
//! the routers, and a status.
//!
//! A revision is never changed and never restarted: another version or other settings are another Deployment. Its pods answer, the
//! routers know them, it gets the weight, at once or in the steps of a rollout; the old one goes when no router has a request for it in
//! hand. Weights are in the status before the routers are told of them.

mod asked_model;
mod autoscaler;
mod budget;
mod chosen;
mod copies;
pub(crate) mod drift;
mod gateway;
mod gpu;
mod limits;
mod live;
pub(crate) mod log_writer;
mod look;
mod model;
mod model_cache;
mod monitoring;
mod objects;
mod observed;
mod origin;
mod payload_log;
mod plan;
mod queries;
mod revision;
mod rollout;
mod scaling;
pub(crate) mod security;
mod status;
mod steps;
mod stream;
mod traffic;
mod version;
mod watched;
mod words;

#[cfg(test)]
pub(crate) mod tests;

pub use autoscaler::{AutoscalerView, autoscaler_asked};
pub use budget::{BudgetView, budget_asked};
pub use drift::{Applied, asked, digest};
pub(crate) use gateway::splits;
pub use gateway::{
    GatewayApi, GatewayView, Gateways, RouteView, asks_for_features, gateway_key, gateway_view,
    named as named_gateways, route_asked, route_view,
};
pub(crate) use limits::{limits, protocol, queue, ready_path};
pub use live::{Live, is_told, live, promoted_version, take_report};
pub(crate) use model_cache::needed as needed_models;
pub use monitoring::{Monitored, has_drift_news, monitored, monitored_candidate};
pub use objects::{READY_PATH, SERVER_PORT, is_beside};
pub use observed::{DeploymentView, Observed, ServiceView};
pub use payload_log::has_log_news;
pub use plan::plan;
pub use queries::queries;
pub use revision::check;
pub use scaling::{counted, followed, is_awake, is_due, timed};
pub use status::{SCALED_TO_ZERO, is_settled};
pub use stream::{has_stream_news, stream};
pub use traffic::LONGEST_DRAIN;
pub(crate) use traffic::exposed;
pub use version::Version;
pub use watched::{has_news, watched};
pub(crate) use words::pod_words;

/// Annotation of a Deployment: the number of the model's version.
pub const VERSION_ANNOTATION: &str = "millrace.dev/version";
/// Annotation of a Deployment: where the model lies that is served, where that is no registered version.
pub const URI_ANNOTATION: &str = "millrace.dev/model-uri";
/// Annotations of a Deployment: where its pods listen and what shows that they can serve, if not as usual.
pub const PORT_ANNOTATION: &str = "millrace.dev/port";
pub const READY_PATH_ANNOTATION: &str = "millrace.dev/ready-path";
/// Annotation of a pod: digest of the model that it serves. A Deployment has it beside the one before and the one after.
pub const DIGEST_ANNOTATION: &str = "millrace.dev/model-digest";
/// What a cache knows the model by, where that is not its digest.
pub const ENTRY_ANNOTATION: &str = "millrace.dev/model-cache-entry";
/// Annotation of such a pod: the claim whose cache the model is taken from. A Deployment has it, if its pods have it.
pub const CACHE_ANNOTATION: &str = "millrace.dev/model-cache";
