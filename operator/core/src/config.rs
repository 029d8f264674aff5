//! What the chart's values settle for every decision.

use std::collections::BTreeSet;

/// Settings of the installation. The controller reads them from its flags; core takes them as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Where StageTemplates and PodTemplates for everyone live.
    pub catalog_namespace: String,
    /// Brings the agent into images that do not carry it.
    pub agent_image: String,
    /// The model server.
    pub server_image: String,
    /// Images of the stock stages.
    pub stage_images: BTreeSet<String>,
    /// When Millrace's own images are pulled: `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: Option<String>,
    /// Service accounts that stages and servers may name.
    pub service_accounts: BTreeSet<String>,
    /// Names of Secrets with credentials for Millrace's own images; empty for a public registry.
    pub image_pull_secrets: Vec<String>,
    /// Seconds after which a finished Job and its pods are deleted.
    pub job_ttl_seconds: i32,
}

impl Config {
    /// When this image is pulled. The cluster decides for images that are not Millrace's.
    pub(crate) fn pull_policy_of(&self, image: &str) -> Option<String> {
        let own = image == self.agent_image || image == self.server_image || self.stage_images.contains(image);
        self.image_pull_policy.clone().filter(|_| own)
    }
}
