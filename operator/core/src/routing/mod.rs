//! The routers of a namespace: what they are told, the objects that run them, and what follows from what they say.
//!
//! What is routed is what the statuses of the namespace's ModelDeployments say: a ModelDeployment writes the weights of its
//! revisions there first, and acts on them when the routers say that they have them in force.

mod deployment;
mod document;
mod objects;
mod observed;
mod plan;
mod policies;
mod said;
mod security;

#[cfg(test)]
mod graph_tests;
#[cfg(test)]
mod tests;

pub use deployment::ADMIN_PORT;
pub(crate) use document::headers as header_rules;
pub use objects::{RouterObject, is_ours, key, selector};
pub use observed::{
    ModelReport, Observed, PartView, Report, RevisionReport, Router, RouterPod, Routers, RoutesView, SecurityReport,
    StreamReport,
};
pub use plan::{RouterPlan, Step, plan};
pub use policies::{FETCH_POLICY, LOG_WRITERS_POLICY, SERVERS_POLICY};
pub use said::Asked;
pub(crate) use security::check_security;
pub use security::security_id;
