//! Which requests go to which revision, besides the shares of a rollout, and how they come in.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GatewayRoute, Provider, schema};

/// Which requests go to which revision, besides the shares of a rollout, and how they come in besides the Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.provider) || self.provider != 'GatewayAPI' || has(self.gateway)", "message": "provider: GatewayAPI needs gateway: {parentRefs: [{name: ...}]}, the Gateways that split the requests" },
    { "rule": "!has(self.provider) || self.provider != 'GatewayAPI' || !has(self.sticky)", "message": "a Gateway knows no sticky header: leave out sticky, or write provider: Router, to which gateway leads as well" },
    { "rule": "!has(self.provider) || self.provider != 'GatewayAPI' || !has(self.headers) || size(self.headers) <= 15", "message": "an HTTPRoute has room for 15 headers: write fewer, or provider: Router, to which gateway leads as well" },
    { "rule": "!has(self.provider) || self.provider != 'GatewayAPI' || !has(self.queue)", "message": "queue is at the routers, which provider: GatewayAPI passes by: leave out queue, or write provider: Router, to which gateway leads as well" }
]))]
pub struct Routing {
    /// Rules by name. The first in the order of their names that a request matches decides, before `sticky` and the shares.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub headers: BTreeMap<String, HeaderRoute>,
    /// Callers stay with their revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<StickyHeader>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<RequestQueue>,
    /// Who splits the requests that come through `gateway`. Default `Router`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// Requests come through these Gateways too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayRoute>,
}

/// Requests whose header has exactly this value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderRoute {
    /// Upper and lower case are the same.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub header: String,
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[!-~]([ -~]*[!-~])?$"))]
    pub value: String,
    pub to: RouteTo,
}

/// `Canary`: the revision that comes, of whichever strategy, from its first step on; without one the rule does nothing. `Stable`: the one
/// that is promoted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RouteTo {
    #[default]
    Canary,
    Stable,
}

/// Requests with the same value of this header go to the same revision while the shares stay; where they grow, nobody goes back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StickyHeader {
    /// Such as `x-user`. Requests without it are drawn each for itself.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub header: String,
}

/// Requests that wait at the routers for a pod: for one that starts, or, under `server.concurrency`, for one that is free. Changing it restarts
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestQueue {
    /// So many at most, of each revision at each router; under `server.concurrency` at all routers together. One more is answered 503 with
    /// `Retry-After`. Each that waits has a connection of the router, of which there are 1,000 for all models of the namespace together, or
    /// `router.maxConnections` of the chart: no more than these ever wait. Default 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max: Option<u32>,
    /// One that waited so long is answered 504, from `100ms` to `1h`. A model at zero has as long to start: on a node that has to be made first,
    /// that may be minutes. Default `2m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub timeout: Option<String>,
}
