//! `spec.server` of a ModelDeployment: Millrace's own model server, or another one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PodSettings, schema};

/// How the model server runs: Millrace's, or another one in `container`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!(has(self.batching) && has(self.container))", "message": "batching is for Millrace's own model server: write it into the arguments of container" },
    { "rule": "!(has(self.threads) && has(self.container))", "message": "threads is for Millrace's own model server: write it into the arguments of container" },
    { "rule": "!(has(self.explainBudget) && has(self.container))", "message": "explainBudget is for Millrace's own model server: leave it out, or container" }
]))]
pub struct Server {
    /// Requests that one pod works on at a time, at most; the others wait at the routers, as `routing.queue` says. It holds over all routers
    /// of the namespace together. Changing it restarts nothing. Default: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub concurrency: Option<u32>,
    /// So long a pod has to begin its answer to a request, from `100ms` to `1h`; then the caller is answered 504. What it goes on to say, such as
    /// a stream of tokens, may take longer. A pod that ends gets as much time for what it has in hand, so a longer one than `30s` is a revision
    /// of its own. Default: `30s` of Millrace's own server, no bound of another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub timeout: Option<String>,
    /// So long a server has until it can serve for the first time, from `10s` to `1d`, once its container runs: loading a large model takes its
    /// time. Then the container is restarted. Default `15m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub startup_timeout: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batching: Option<Batching>,
    /// Threads of one inference, and as many that serve sockets. Default: the CPU limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u32>,
    /// Rows that the model is asked for, at most, to explain one. Default 2048.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub explain_budget: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ServerContainer>,
    #[serde(flatten)]
    pub settings: PodSettings,
}

/// Any server that speaks HTTP or gRPC, such as Triton, vLLM, MLServer or TensorFlow Serving. It finds the model's files, read-only, in
/// `/mnt/models`, whatever their format is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.readyPath) || !has(self.readyProbe) || self.readyProbe == 'HTTP'", "message": "readyPath is for readyProbe: HTTP: leave out one of them" }
]))]
pub struct ServerContainer {
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
    /// Default: the image's entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub command: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub args: Vec<String>,
    /// Where it listens, for everything that it speaks. Default 8080.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// How the routers speak to it, without TLS. Default `Auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<ServerProtocol>,
    /// How it shows that it can serve. Default `HTTP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_probe: Option<ReadyProbe>,
    /// What it answers with 200 once it can serve. Default `/v2/health/ready`, as the Open Inference Protocol has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^/[!-~]*$"))]
    pub ready_path: Option<String>,
}

/// How the routers speak to the pods of a `container`: `Auto`, gRPC by HTTP/2 and the rest by HTTP/1.1; `HTTP1`, everything by HTTP/1.1, gRPC-Web
/// too; `H2C`, everything by HTTP/2 from the first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServerProtocol {
    /// gRPC by HTTP/2, the rest by HTTP/1.1.
    #[default]
    Auto,
    /// Everything by HTTP/1.1: gRPC-Web passes, gRPC does not.
    HTTP1,
    /// Everything by HTTP/2 without TLS, from the first byte. Websockets still come by HTTP/1.1.
    H2C,
}

/// How a `container` shows that it can serve: `HTTP`, `readyPath` answers with 200; `GRPC`, gRPC's own health checking
/// (`grpc.health.v1.Health`) says `SERVING` of the whole server; `TCP`, it takes a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReadyProbe {
    /// `readyPath` answers with 200. At zero the routers ask too, and need not wait for the kubelet.
    #[default]
    HTTP,
    /// gRPC's own health checking (`grpc.health.v1.Health`) says `SERVING` of the whole server.
    GRPC,
    /// It takes a connection, which it must not do before it can serve.
    TCP,
}

/// How requests are put together for one inference. Without `maxDelay` nothing waits for a batch to fill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Batching {
    /// Rows in one inference, at most. Default 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub max_size: Option<u32>,
    /// So long a request waits for others when the model is free and its batch is not full, at most `10s`. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub max_delay: Option<String>,
}
