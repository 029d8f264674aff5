//! ModelDeployments: from a spec and what is there to a Deployment for each revision, a Service and a status.

mod observed;
mod plan;

pub use observed::{DeploymentView, Observed, ServiceView};
pub use plan::plan;
