//! Containers of Millrace's own images: small ones, that do one thing beside what a person runs.

use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::container_security;
use crate::config::Config;

/// Without a command. What it prints last is its word where it wrote none.
pub fn own_container(name: &str, image: &str, config: &Config) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: config.pull_policy_of(image),
        security_context: Some(container_security()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// Requests, and a limit of memory. CPU has none: what is throttled delays whoever waits for it.
pub fn small(cpu: &str, memory: &str, limit: &str) -> ResourceRequirements {
    let amount = |name: &str, amount: &str| (name.to_owned(), Quantity(amount.to_owned()));
    ResourceRequirements {
        requests: Some([amount("cpu", cpu), amount("memory", memory)].into()),
        limits: Some([amount("memory", limit)].into()),
        ..ResourceRequirements::default()
    }
}
