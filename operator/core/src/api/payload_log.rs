//! The payload log of a served model: where requests and answers go, and what became of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{JwksKey, StoreAccess, schema};

/// A share of the requests goes, with the answers, to a sink of yours or into a table, as CloudEvents: of the types `dev.millrace.inference.request` and
/// `dev.millrace.inference.response`, paired by `requestid`. Routers send them, and no caller waits: what has no room is dropped and
/// counted. Of headers nothing is sent but `content-type`, `content-encoding` and `x-request-id`. Found is in `status.log` and in the
/// condition `PayloadLogged`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.sampling >= 0.0001 && self.sampling <= 1.0", "message": "sampling must be from 0.0001 to 1, which is every request" },
    { "rule": "has(self.sink) != has(self.table)", "message": "exactly one of sink and table is required: write one of them" }
]))]
pub struct PayloadLog {
    /// The share of the requests, from 0.0001 to 1, which is every request. They are drawn by chance; only POSTs are requests here.
    // The schema's bounds do not hold for whole numbers; a rule says them again.
    #[schemars(range(min = 0.0001, max = 1.0))]
    pub sampling: f64,
    /// A body that is longer is left out of its event, which says so. Default 65536.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_048_576))]
    pub max_body_bytes: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<LogSink>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<LogTable>,
}

/// A Delta table, which is Parquet files and a log of them: each event is a row. A Deployment of one small pod beside the model writes it, of
/// Millrace's own image, and has what `access.secretRef` names; routers and the model's server have none of it. The first rows make the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.access) || !self.uri.startsWith('pvc://')", "message": "a claim needs no access: take it out" }
]))]
pub struct LogTable {
    /// `s3://bucket/path`, the same with `gs://` or `az://`, or `pvc://claim/path` of a PersistentVolumeClaim of the namespace. Several
    /// ModelDeployments may write one table.
    #[schemars(length(min = 8, max = 1024), regex(pattern = r"^(s3|gs|az|pvc)://[!-~]+$"))]
    pub uri: String,
    /// How the bucket's server is reached, with a Secret of the namespace that has what its store's has. Without `secretRef` the identity of
    /// `server.serviceAccountName` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<StoreAccess>,
    /// Rows wait for so long at most until they are in the table, from 5s to 1h. Default 5m. Longer makes fewer and larger files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub interval: Option<String>,
}

/// What takes CloudEvents over HTTP, such as a Knative broker or a collector of your own. It answers with 2xx what it has taken; what it
/// answers with 408, 429 or 5xx is tried three times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!self.address.contains('@')", "message": "address must hold neither user nor password: write tokenSecret" },
    { "rule": "self.address.startsWith('http://') || has(self.caConfigMap)", "message": "https needs caConfigMap: the certificate authority, such as {name: kube-root-ca.crt, key: ca.crt}" },
    { "rule": "self.address.startsWith('https://') || !has(self.caConfigMap)", "message": "caConfigMap is for an address with https://" },
    { "rule": "self.address.startsWith('https://') || !has(self.tokenSecret)", "message": "tokenSecret needs an address with https://: others may read what goes over http" }
]))]
pub struct LogSink {
    /// Such as `http://broker-ingress.knative-eventing/team/default`.
    #[schemars(
        length(min = 8, max = 256),
        regex(pattern = r"^https?://[a-zA-Z0-9]([-.a-zA-Z0-9]*[a-zA-Z0-9])?(:[0-9]{1,5})?(/[-._~a-zA-Z0-9]+)*/?$")
    )]
    pub address: String,
    /// Default `Structured`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<LogMode>,
    /// An entry of a Secret of the namespace: a bearer token. It is mounted into the routers: naming another one replaces them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<JwksKey>,
    /// An entry of a ConfigMap of the namespace: the certificate authority of an address with `https`, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map: Option<JwksKey>,
}

/// The content mode of CloudEvents' HTTP binding. `Structured`: one event in a request, as `application/cloudevents+json`. `Batched`: those
/// that wait, of 64 requests at most, in one, as `application/cloudevents-batch+json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogMode {
    #[default]
    Structured,
    Batched,
}

/// What became of the events, as the routers that run now count them since they began. It is written when something is lost, once a minute
/// at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PayloadLogStatus {
    /// When the counts are from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_time: Option<Time>,
    /// Events that the sink has taken.
    pub delivered: i64,
    /// Events without room: they come faster than the sink takes them.
    pub dropped: i64,
    /// Events that the sink would not take, or that could not reach it.
    pub failed: i64,
}
