//! `ModelDeployment`: a served model.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Condition, DriftStatus, GatewayStatus, LiveMetrics, Monitoring, PayloadLogStatus, PrometheusQuery, ReadyProbe,
    Rollout, RolloutControl, RolloutRecord, RolloutStatus, Routing, Security, Server, ServerProtocol, StoreAccess,
    Stream, StreamStatus, schema,
};

/// A model behind an address: a version of a registered model, left to a pipeline's `deploy` stage or written here, or a model by the address where
/// it lies.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "millrace.dev",
    version = "v1alpha1",
    kind = "ModelDeployment",
    plural = "modeldeployments",
    shortname = "mld",
    category = "millrace",
    namespaced,
    status = "ModelDeploymentStatus",
    derive = "Default",
    derive = "PartialEq",
    crates(kube_core = "::kube_core"),
    scale(
        spec_replicas_path = ".spec.scale.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(
        name = "Since",
        type_ = "date",
        json_path = r#".status.conditions[?(@.type=="Ready")].lastTransitionTime"#
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model.name"),
    printcolumn(name = "Version", type_ = "integer", json_path = ".status.servedVersion"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.servedDigest", priority = 1),
    printcolumn(name = "Canary", type_ = "integer", json_path = ".status.rollout.weight"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas", priority = 1),
    printcolumn(name = "Drifted", type_ = "string", json_path = r#".status.conditions[?(@.type=="Drifted")].status"#),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address.url"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!(has(self.monitoring) && has(self.monitoring.drift) && has(self.server) && has(self.server.container))", "message": "monitoring.drift is for Millrace's own model server: leave out drift or server.container" },
    { "rule": "!(has(self.server) && has(self.server.container)) || !has(self.rollout) || !has(self.rollout.analysis) || self.rollout.analysis.all(a, !has(self.rollout.analysis[a].metric) || self.rollout.analysis[a].metric != 'Drift')", "message": "an analysis with metric: Drift is of what Millrace's own model server counts: leave it out, or server.container" },
    { "rule": "!(has(self.routing) && has(self.routing.gateway) && has(self.security) && has(self.security.tls))", "message": "the Gateway ends TLS and speaks HTTP to the routers: leave out security.tls or routing.gateway" },
    { "rule": by_router("!has(self.security)"), "message": "security holds at the routers, which routing.provider: GatewayAPI passes by: write provider: Router, to which routing.gateway leads as well, or leave out security and have the Gateway do it" },
    { "rule": by_router("!has(self.monitoring) || !has(self.monitoring.log)"), "message": "monitoring.log is of the requests at the routers, which routing.provider: GatewayAPI passes by: write provider: Router, to which routing.gateway leads as well, or leave out log" },
    { "rule": by_router("!has(self.scale) || !has(self.scale.min) || self.scale.min > 0"), "message": "a Gateway starts no pod and does not wait for one, as scale.min: 0 needs it: write min: 1, or routing.provider: Router, to which routing.gateway leads as well" },
    { "rule": by_router("!has(self.scale) || !has(self.scale.max) || (has(self.scale.metric) && self.scale.metric in ['CPU', 'Prometheus', 'QueueLag']) || self.scale.max == (has(self.scale.min) ? self.scale.min : 1)"), "message": "the routers count nothing for scale.metric, as routing.provider: GatewayAPI passes by them: write metric: CPU or Prometheus, or provider: Router, to which routing.gateway leads as well" },
    { "rule": by_router("!has(self.rollout) || self.rollout.strategy == 'Shadow' || !has(self.rollout.sample)"), "message": "a Gateway would copy what the revision that comes answers as well, as routing.provider: GatewayAPI passes by the routers: leave out rollout.sample, or write strategy: Shadow, or provider: Router, to which routing.gateway leads as well" },
    { "rule": by_router("!has(self.rollout) || self.rollout.strategy != 'Recreate'"), "message": "a Gateway does not wait until the new pods are there, as rollout.strategy: Recreate needs it: write Canary, or routing.provider: Router, to which routing.gateway leads as well" },
    { "rule": by_router("!has(self.rollout) || !has(self.rollout.analysis) || self.rollout.analysis.all(a, !has(self.rollout.analysis[a].metric) || self.rollout.analysis[a].metric == 'Drift')"), "message": "the routers count nothing for an analysis with metric, but for Drift, as routing.provider: GatewayAPI passes by them: write prometheus: {address, query} over what the Gateway or the servers count, or provider: Router, to which routing.gateway leads as well" },
    { "rule": by_router("!has(self.rollout) || !has(self.rollout.analysis) || self.rollout.analysis.all(a, !has(self.rollout.analysis[a].prometheus) || !has(self.rollout.analysis[a].minSamples))"), "message": "minSamples are requests at the routers, which routing.provider: GatewayAPI passes by: leave it out beside prometheus, and let the query have no answer while there are too few" },
    { "rule": by_router("!has(self.server) || !has(self.server.concurrency)"), "message": "server.concurrency holds at the routers, which routing.provider: GatewayAPI passes by: leave it out, or write provider: Router, to which routing.gateway leads as well" },
    { "rule": by_router("!has(self.server) || !has(self.server.timeout) || !has(self.server.container)"), "message": "server.timeout of a container holds at the routers, which routing.provider: GatewayAPI passes by: leave it out, or write provider: Router, to which routing.gateway leads as well" },
    { "rule": "!has(self.server) || !has(self.server.concurrency) || !has(self.scale) || !has(self.scale.target) || (has(self.scale.metric) && self.scale.metric != 'Concurrency') || self.scale.target <= double(self.server.concurrency)", "message": "scale.target must not be more than server.concurrency: a pod works on no more requests at a time, and the rest would wait where another pod could take them" },
    { "rule": "!(has(self.scale) && has(self.scale.metric) && self.scale.metric == 'QueueLag') || has(self.stream)", "message": "scale.metric: QueueLag follows the messages that wait for the model: write stream, with the topics" }
]))]
pub struct ModelDeploymentSpec {
    pub model: DeployedModel,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// What a person wants of the revision that comes. It stands beside `rollout`, because somebody else writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<RolloutControl>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // In a box, as `security` is.
    pub routing: Option<Box<Routing>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // In a box: futures that hold a ModelDeployment get large.
    pub security: Option<Box<Security>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Monitoring>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // In a box, as `security` is.
    pub stream: Option<Box<Stream>>,
}

/// A rule that holds where the requests of a Gateway do not come to the routers.
fn by_router(rule: &str) -> String {
    format!("!(has(self.routing) && has(self.routing.provider) && self.routing.provider == 'GatewayAPI') || ({rule})")
}

impl ModelDeployment {
    /// What the model is called in paths and labels: `spec.model.name`, and where `spec.model.uri` stands, the ModelDeployment's own name.
    #[must_use]
    pub fn model_name(&self) -> &str {
        let own = || self.metadata.name.as_deref().unwrap_or_default();
        self.spec.model.name.as_deref().unwrap_or_else(own)
    }
}

/// Which model: a registered one by `name`, or what lies at `uri`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.name) != has(self.uri)", "message": "exactly one of name and uri is required: name is a registered model, of which there are ModelVersions, and uri is where one lies that is not registered" },
    { "rule": "!has(self.uri) || !has(self.version)", "message": "version is of a registered model: leave it out beside uri; one that a deploy stage set goes with version: null" },
    { "rule": "has(self.uri) == has(self.digest) && has(self.uri) == has(self.format)", "message": "uri, format and digest belong together: the digest of what lies there is compared before it is served, and another one is another revision" },
    { "rule": "has(self.uri) || !has(self.access)", "message": "access is of uri: a ModelVersion says itself how its store is reached" },
    { "rule": "!has(self.access) || !(has(self.access.anonymous) && self.access.anonymous && has(self.access.secretRef))", "message": "who asks without a signature needs no credentials: take access.secretRef or access.anonymous out" }
]))]
pub struct DeployedModel {
    /// The model of the ModelVersions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 50), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: Option<String>,
    /// Set by a pipeline's `deploy` stage under its own field manager when left out here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub version: Option<i64>,
    /// The folder of a model that is not registered: `pvc://<claim>/<path>`, `s3://<bucket>/<path>`, `gs://<bucket>/<path>` or
    /// `az://<container>/<path>`; or its file on a web server, `https://<host>/<path>`. It is called as the ModelDeployment is, in paths such as `/v2/models/<name>/infer` too, and its version is the
    /// first twelve digits of `digest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = r"^((pvc|s3|gs|az)://[a-z0-9]([-a-z0-9._]*[a-z0-9])?|https?://[^/]+)/.+$")
    )]
    pub uri: Option<String>,
    /// Of what lies at `uri`: `onnx` for Millrace's own server, and with `server.container` whatever that reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub format: Option<String>,
    /// Of the folder, or of the file, at `uri`. What lies there and has another one is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
    /// How the store of `uri` is reached, unless it is a claim. Of a web server `secretRef` alone: a Secret with `HTTP_AUTHORIZATION`, the whole value
    /// of that header, and with `ca.crt` where the server's authority is one of your own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<StoreAccess>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<ModelCache>,
}

/// A claim that keeps models that are fetched, by digest: each is fetched into it once, for all pods of the namespace that name the claim.
/// Every pod compares the digest of what is there before its server starts; what is damaged is fetched anew. A version that lies on a claim
/// itself is mounted from there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelCache {
    /// Of a PersistentVolumeClaim of the namespace. Pods on several nodes need the access mode ReadWriteMany.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub claim: String,
    /// So much the models in it have together at most, such as `200Gi`; those that no revision serves make room, the one first that was not
    /// asked for the longest. Default: what the claim holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity")]
    pub max_size: Option<serde_json::Value>,
    /// A model that no revision serves is taken out when no pod has asked for it for so long. At least `10m`. Default `7d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub keep_unused: Option<String>,
}

/// How many pods the served revision has. Without `replicas`, Millrace chooses between `min` and `max` by what the routers count; with
/// neither of the three the number is left as it is, and 1 at first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.min) || !has(self.max) || self.min <= self.max", "message": "min must not be above max" },
    { "rule": "!has(self.max) || self.max <= 1 || (has(self.min) && self.min == self.max) || has(self.target)", "message": "max needs target: how much of the metric one pod is to take, such as target: 8" },
    { "rule": "!has(self.target) || self.target >= 0.01", "message": "target must be 0.01 or more" },
    { "rule": "!has(self.target) || has(self.max)", "message": "target needs max: the most pods that there may be" },
    { "rule": "!has(self.metric) || self.metric == 'External' || has(self.max)", "message": "metric needs max and target: the most pods that there may be, and how much one of them is to take" },
    { "rule": "!(has(self.metric) && self.metric == 'External') || !(has(self.min) || has(self.max) || has(self.target))", "message": "min, max and target are not for metric: External: write them into the HPA or KEDA object that sets replicas" },
    { "rule": "!(has(self.metric) && self.metric == 'CPU') || (has(self.target) && self.target >= 1.0 && self.target <= 1000.0)", "message": "metric: CPU needs target: the percent of its requested processor that a pod is to use, from 1 to 1000" },
    { "rule": "(has(self.metric) && self.metric == 'Prometheus') == has(self.prometheus)", "message": "metric: Prometheus and prometheus: {address, query} belong together: write both or none" },
    { "rule": "!has(self.percentile) || (has(self.metric) && self.metric == 'Latency')", "message": "percentile is for metric: Latency" },
    { "rule": "!has(self.toZeroAfter) || (has(self.min) && self.min == 0) || (has(self.metric) && self.metric == 'External')", "message": "toZeroAfter needs min: 0" }
]))]
pub struct Scale {
    /// Pods at least. With 0 the model goes to zero when nobody asks it; the next request starts a pod and waits for it. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub min: Option<i32>,
    /// Pods at most. Default: `min`, but at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max: Option<i32>,
    /// What decides between `min` and `max`. Default `Concurrency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<ScaleMetric>,
    /// How much of the metric one pod is to take: requests at a time, requests in a second. Pods come as soon as the mean of 2 or 6 seconds
    /// asks for more than a tenth beyond it, or the mean of a minute for more than it; they go when a minute has asked for less. With
    /// `Latency`: the milliseconds that it is to be. With `Prometheus`: how much of the answer one pod is to take, as KEDA's `AverageValue`.
    /// With `CPU`: the percent of its requested processor that a pod is to use, on average. With `QueueLag`: the messages that wait for one
    /// pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // The schema's minimum does not hold for whole numbers; a rule says it again.
    #[schemars(range(min = 0.01, max = 1_000_000.0))]
    pub target: Option<f64>,
    /// Of `Latency`: the share of the requests that take no longer than `target`. Default `P95`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentile: Option<Percentile>,
    /// What is asked for with `metric: Prometheus`. An answer above 0 starts a pod where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // In a box, as `security` is.
    pub prometheus: Option<Box<PrometheusQuery>>,
    /// The model goes to zero when for so long no request was at a router. At least `5s`. Default `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub to_zero_after: Option<String>,
    /// So many pods, whatever `min`, `max` and `metric` say, until it is taken out again: what `kubectl scale` writes, and an HPA or KEDA
    /// under `metric: External`. With 0 requests wait for a pod as long as `routing.queue` lets them, and are answered 504 then, and
    /// `Ready` is False (`ScaledToZero`); under `External` they start one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<i32>,
}

/// What the number of pods follows: `Concurrency`, the requests at the routers at a time, those that wait for a pod among them;
/// `RequestRate`, the requests that come in a second; `Latency`, how long requests take, from arrival to the last byte; `Prometheus`, the
/// answer to a query; `QueueLag`, the messages of `spec.stream` that wait; `CPU`, the processor, by a HorizontalPodAutoscaler that Millrace makes; `External`, an HPA or KEDA that writes `replicas`, where a request still starts a pod
/// while that is 0. Default `Concurrency`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScaleMetric {
    /// Requests at the routers at a time, those that wait for a pod among them.
    #[default]
    Concurrency,
    /// Requests that come in a second.
    RequestRate,
    /// How long requests take, in milliseconds from arrival to the last byte, of what pods answered.
    Latency,
    /// The answer to `prometheus`.
    Prometheus,
    /// The messages of `spec.stream` whose answers have not been written yet. One that waits starts a pod where there is none.
    QueueLag,
    /// The share of the requested processor that pods use. A HorizontalPodAutoscaler of the ModelDeployment's name chooses between `min`, 1 at
    /// least, and `max`; it needs a metrics server. With `min: 0` Millrace still goes to zero, and a request starts a pod.
    CPU,
    /// An HPA or KEDA that writes `replicas`. Where that is 0, a request still starts a pod.
    External,
}

impl ScaleMetric {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Concurrency => "Concurrency",
            Self::RequestRate => "RequestRate",
            Self::Latency => "Latency",
            Self::Prometheus => "Prometheus",
            Self::QueueLag => "QueueLag",
            Self::CPU => "CPU",
            Self::External => "External",
        }
    }
}

/// The share of the requests that took no longer: `P95` is 95 in 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Percentile {
    P50,
    P90,
    #[default]
    P95,
    P99,
}

impl Percentile {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::P50 => "P50",
            Self::P90 => "P90",
            Self::P95 => "P95",
            Self::P99 => "P99",
        }
    }

    /// The share, 0 to 1.
    #[must_use]
    pub fn share(self) -> f64 {
        match self {
            Self::P50 => 0.5,
            Self::P90 => 0.9,
            Self::P95 => 0.95,
            Self::P99 => 0.99,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, kstatus's `Ready`, `Reconciling`, `Stalled`, and, where `scale` is set, `ScalingActive`: whether Millrace chooses the
    /// number of pods, and why it chose the one of `desiredReplicas`. Where `monitoring.drift` is set, `Drifted`: whether a feature or the
    /// predictions have drifted; `Unknown` says why nobody can tell. Where `monitoring.log` is set, `PayloadLogged`: whether its events reach
    /// the sink. Where `stream` is set, `Streaming`: whether messages are answered, and which one is in the way. Where `security` is set,
    /// `Secured`: whether every router has it in force, and which Secret is missing or broken, or which keys cannot be fetched. Where
    /// `routing.gateway` is set, `Routed`: whether every Gateway has accepted the newest `HTTPRoute`, or what it says instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// The model that the address answers with, as the routers say: the one before, while another is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_model: Option<String>,
    /// The version of it that the address answers with; in a rollout that of the greater share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_version: Option<i64>,
    /// The digest of the model that the address answers with, where that is not registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_digest: Option<String>,
    /// The revision that the address answers with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_revision: Option<String>,
    /// Pods of the promoted revision.
    #[serde(default)]
    pub replicas: i32,
    /// How many there are to be. Where nothing sets a number, there is none here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// Counts the changes of the revisions' weights: a router says which of them it has in force.
    #[serde(default)]
    pub traffic_generation: i64,
    /// Port of this model on the routers of its namespace, to which its Service leads. It is kept for as long as the ModelDeployment lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_port: Option<i32>,
    /// Selects the pods of the promoted revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The revision that was promoted last: a rollout starts from it, and falls back to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_revision: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// Where `routing.gateway` is set and was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PayloadLogStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamStatus>,
    /// What `report` stages brought once there were labels, of the five versions that were reported last, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["version"]), length(max = 5))]
    pub live: Vec<LiveMetrics>,
    /// What was promoted or given up, the last ten, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<RolloutRecord>,
    /// What the routes are made of: a router knows these revisions and no others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub revisions: Vec<RevisionStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// Of the Service, within the cluster: the routers answer there, with every `routing.provider`.
    pub url: String,
    /// Where `routing.gateway` is accepted: the first of its hosts, or of the Gateway's addresses, and its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_url: Option<String>,
}

/// A model that is served and is not registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServedArtifact {
    pub uri: String,
    pub digest: String,
}

/// One revision: a Deployment named by the hash of what it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// What it serves instead of a version. As long as it is listed here, it stays in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ServedArtifact>,
    pub replicas: i32,
    pub ready_replicas: i32,
    /// Share of the traffic in percent.
    pub weight: i32,
    /// Where its pods listen, if not on 8080.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// What they answer with 200 once they can serve, if not `/v2/health/ready`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_path: Option<String>,
    /// Requests that one of its pods works on at a time, if `spec.server` bounded them when it asked for this revision last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How its pods show that they can serve, if not by `HTTP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_probe: Option<ReadyProbe>,
    /// How its pods are spoken to, if not as `Auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<ServerProtocol>,
    /// The share of the promoted revision's requests, over 0 to 1, of which it gets copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<f64>,
    /// Since when it has no share any more: it goes when no router has a request for it in hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining_since: Option<Time>,
    /// What its pods take out of the cache of `spec.model.cache`: it stays there for as long as the revision is listed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<CachedModel>,
    /// Why it is not ready, in the kubelet's or scheduler's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A model in a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CachedModel {
    pub claim: String,
    /// What the cache knows it by: its digest; of a file of a web server that is no ONNX model, one of digest and format.
    pub digest: String,
}
