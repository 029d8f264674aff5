//! Messages of a topic that a served model answers into another topic.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::JwksKey;

/// Every message of a topic becomes a request to the model, and every answer a message of another topic, at least once. The routers of the
/// namespace do it: they ask as callers do, so that weights, header rules, shadows, the payload log and analyses hold for messages too. Found
/// is in `status.stream` and in the condition `Streaming`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stream {
    pub kafka: KafkaStream,
    /// Where the value of a message is POSTed, as it is. Default `/v2/models/MODEL/infer`, with `spec.model.name`, or with
    /// `spec.model.uri` what the ModelDeployment is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^/[!-~]*$"))]
    pub path: Option<String>,
    /// Messages that each router asks for at a time. Default 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 512))]
    pub max_in_flight: Option<i32>,
}

/// Topics of one Kafka cluster, or of what speaks its protocol. They have to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.inputTopic != self.outputTopic", "message": "outputTopic must be another topic than inputTopic: answers would become questions" },
    { "rule": "!has(self.deadLetterTopic) || (self.deadLetterTopic != self.inputTopic && self.deadLetterTopic != self.outputTopic)", "message": "deadLetterTopic must be another topic than inputTopic and outputTopic" },
    { "rule": "!has(self.sasl) || self.sasl.mechanism != 'PLAIN' || has(self.tls)", "message": "sasl.mechanism: PLAIN needs tls: others may read the password without it; tls: {} trusts the public authorities" }
]))]
pub struct KafkaStream {
    /// Such as `kafka-0.kafka:9092`. One that answers is enough: it names the others.
    #[schemars(
        length(min = 1, max = 16),
        inner(
            length(min = 3, max = 256),
            regex(pattern = r"^[a-zA-Z0-9]([-.a-zA-Z0-9]*[a-zA-Z0-9])?:[0-9]{1,5}$")
        ),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub brokers: Vec<String>,
    #[schemars(length(min = 1, max = 249), regex(pattern = r"^[a-zA-Z0-9._-]+$"))]
    pub input_topic: String,
    /// The answer to a message goes into the partition of the same number, modulo the number of partitions, with its key, headers and
    /// time.
    #[schemars(length(min = 1, max = 249), regex(pattern = r"^[a-zA-Z0-9._-]+$"))]
    pub output_topic: String,
    /// Where a message goes, as it is, that the model does not take: with headers that say why. Default: its partition stops there, the
    /// condition `Streaming` says which message it is, and it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249), regex(pattern = r"^[a-zA-Z0-9._-]+$"))]
    pub dead_letter_topic: Option<String>,
    /// The consumer group that remembers how far it came. Default `millrace.NAMESPACE.NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249), regex(pattern = r"^[a-zA-Z0-9._-]+$"))]
    pub group: Option<String>,
    /// Where a group begins in a partition of which it remembers nothing. Default `Earliest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StreamStart>,
    /// Default: no TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// Default: the broker does not ask who comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
}

/// `Earliest`: with the oldest message that there is. `Latest`: with the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StreamStart {
    /// With the oldest message that there is.
    #[default]
    Earliest,
    /// With the next one.
    Latest,
}

/// Brokers are spoken to over TLS, and show who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaTls {
    /// An entry of a ConfigMap of the namespace: the certificate authority, in PEM. Default: the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map: Option<JwksKey>,
}

/// Who comes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSasl {
    pub mechanism: SaslMechanism,
    /// A Secret of the namespace with the entries `username` and `password`. It is mounted into the routers: naming another one replaces
    /// them, changing what is in it does not.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub secret_name: String,
}

/// As Kafka calls them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[default]
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// What became of the messages, as the routers that run now count them since they began. It is written when the condition `Streaming` turns
/// and while figures move, once a minute at most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamStatus {
    /// When the figures are from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_time: Option<Time>,
    /// Messages of the input topic whose answers have not been written yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Partitions of the input topic that routers read.
    pub partitions: i32,
    /// Routers that read some.
    pub consumers: i32,
    /// Messages in a second whose answers were written, over the last half minute.
    pub rate: f64,
    /// Messages whose answers were written.
    pub answered: i64,
    /// Messages that went to the dead letters.
    pub rejected: i64,
    /// Questions that were asked again.
    pub retried: i64,
}
