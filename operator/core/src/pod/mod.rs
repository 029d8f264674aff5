//! Pods of stages and of model servers: what every pod of Millrace has, what [`PodSettings`] add to it, and the
//! PodTemplate of the catalog below both. Made so that Pod Security `restricted` admits it.

mod check;
mod claims;
mod eviction;
mod hardened;
mod own;
mod probe;
mod resources;
mod settings;
mod template;
mod volumes;

#[cfg(test)]
mod tests;

pub use check::check;
pub(crate) use claims::requires;
pub use claims::{Access, Claims, name_claims, stay_together};
pub(crate) use eviction::{keeps_its_node, leaves_its_node};
pub use hardened::{USER, base, container_security};
pub(crate) use own::{own_container, small};
pub use probe::{grpc_probe, http_probe, tcp_probe};
pub use resources::{amount, is_extended};
pub use settings::{escape, quantity, settings_into};
pub use template::{end_with_main, over_template};

#[cfg(doc)]
use crate::api::PodSettings;

/// The container that runs the stage's program or the model server.
pub const MAIN: &str = "main";
/// The init container that brings the agent into images that do not carry it.
pub const AGENT_INIT: &str = "agent";
/// Begins the names of the volumes that Millrace adds; a person's volume cannot have one of these names.
pub const OWN_VOLUME: &str = "millrace-";
