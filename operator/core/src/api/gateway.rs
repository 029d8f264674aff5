//! How requests come in through Gateways of the Gateway API.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who splits the requests that come through a Gateway. `Router`: Millrace's routers, to which the `HTTPRoute` leads; they count, hold and
/// start as they do for callers of the Service. `GatewayAPI`: the Gateway itself, by weights, header matches and a mirror in the `HTTPRoute`,
/// straight to the pods. The Service of the model goes on leading to the routers, with the same shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Provider {
    /// Millrace's routers.
    #[default]
    Router,
    /// The Gateway.
    GatewayAPI,
}

/// Where requests come in besides the Service. Millrace writes one `HTTPRoute` of the ModelDeployment's name and puts right what others
/// change of it; without `gateway` it is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.path) || !self.path.matches('/[.][.]?(/|$)')", "message": "path must not have the segments . and .." }
]))]
pub struct GatewayRoute {
    /// The Gateways. Each of them has to accept the route before it is `Routed`.
    #[schemars(length(min = 1, max = 8))]
    pub parent_refs: Vec<GatewayRef>,
    /// Requests for these hosts, such as `penguins.example.com`; a first label `*` stands for one or more. Default: those of the listeners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(
            length(min = 1, max = 253),
            regex(pattern = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
        )
    )]
    pub hostnames: Vec<String>,
    /// Requests whose path is this or begins with it and a `/`, such as `/v2/models/penguins`. Nothing of it is cut off. Default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 512),
        regex(pattern = r"^/([-A-Za-z0-9_.~:@!$&'()*+,;=]+(/[-A-Za-z0-9_.~:@!$&'()*+,;=]+)*)?$")
    )]
    pub path: Option<String>,
}

/// A Gateway, or one listener of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRef {
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Default: the ModelDeployment's own. The Gateway's listeners say from which namespaces they take routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
    /// Name of the listener. Default: all that take the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub section_name: Option<String>,
}

/// What Gateways have in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// Who splits the requests there.
    pub provider: Provider,
    /// With `GatewayAPI`: of which `trafficGeneration` every Gateway has accepted the weights.
    #[serde(default)]
    pub traffic_generation: i64,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}
