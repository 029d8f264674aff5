//! What the chart's values settle for every decision.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{LocalObjectReference, ResourceRequirements};

use crate::api::AgentImage;

/// Settings of the installation. The controller reads them from its flags; core takes them as they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Where the operator itself runs.
    pub operator_namespace: String,
    /// The namespaces to work in; empty for all. Nothing can be read in others.
    pub namespaces: Vec<String>,
    /// Where StageTemplates and PodTemplates for everyone live.
    pub catalog_namespace: String,
    /// Brings the agent into images that do not carry it.
    pub agent_image: String,
    /// The model server.
    pub server_image: String,
    /// The same with ONNX Runtime's build for CUDA.
    pub server_cuda_image: String,
    /// The stock data stages: its program looks for new data. Empty where there is none.
    pub data_image: String,
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
    pub router: RouterConfig,
}

/// How the routers of a namespace run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouterConfig {
    /// The operator's own image: it has the router's program.
    pub image: String,
    /// The ClusterRole that says what a router may do in its namespace.
    pub role: String,
    pub replicas: i32,
    pub resources: ResourceRequirements,
    /// Connections of callers that each router has at once, for all models of the namespace together.
    pub max_connections: u32,
    /// Whether NetworkPolicies are made for the routers and for the pods behind them.
    pub network_policies: bool,
    /// Namespaces in which Gateways have their pods, besides their own: they are let to the pods that a Gateway leads to.
    pub gateway_namespaces: Vec<String>,
}

impl Config {
    /// What a run notes for those who read its store.
    pub(crate) fn agent(&self) -> AgentImage {
        let (image, pull_secrets) = (self.agent_image.clone(), self.image_pull_secrets.clone());
        AgentImage { pull_policy: self.image_pull_policy.clone(), image, pull_secrets }
    }

    /// The credentials for Millrace's own images, as a pod names them.
    pub(crate) fn pull_secrets(&self) -> Option<Vec<LocalObjectReference>> {
        let named = self.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
        Some(named.collect::<Vec<_>>()).filter(|secrets| !secrets.is_empty())
    }

    /// When this image is pulled. The cluster decides for images that are not Millrace's.
    pub(crate) fn pull_policy_of(&self, image: &str) -> Option<String> {
        let images = [&self.agent_image, &self.server_image, &self.server_cuda_image, &self.data_image];
        let own = images.iter().any(|own| *own == image) || self.stage_images.contains(image);
        self.image_pull_policy.clone().filter(|_| own)
    }
}
