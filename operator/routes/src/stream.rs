//! Messages that routers ask a model about, and what they tell of it. Routers do it, because they are the tenant's: the operator dials no
//! address that a user gives.

use serde::{Deserialize, Serialize};

use crate::query::QueryStats;
use crate::security::Entry;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Stream {
    /// Names all of the rest: what is said of other settings never counts as said of these.
    pub id: String,
    pub brokers: Vec<String>,
    pub input: String,
    pub output: String,
    /// Default: a partition stops at a message that the model does not take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<String>,
    pub group: String,
    /// A group that remembers nothing begins with the next message, and not with the oldest.
    #[serde(default)]
    pub latest: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<BrokerTls>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
    /// Where messages are POSTed.
    pub path: String,
    /// Questions at a time.
    pub in_flight: u32,
}

/// The certificate authority of the brokers; none: the public ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BrokerTls {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Entry>,
}

/// The entries [`Sasl::USERNAME`] and [`Sasl::PASSWORD`] of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Sasl {
    pub mechanism: Mechanism,
    pub secret: String,
}

impl Sasl {
    pub const USERNAME: &str = "username";
    pub const PASSWORD: &str = "password";
}

/// Of SASL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Stream {
    /// Questions of one model at a time, at most.
    pub const MOST: u32 = 512;
}

/// What became of a model's messages. Counts only grow as long as the router's `boot` and `id` stay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamStats {
    /// Of the settings in force.
    pub id: String,
    /// Messages of all partitions that no router has answered yet. Every router looks for itself.
    #[serde(default)]
    pub lag: QueryStats,
    /// Partitions that this router reads.
    pub partitions: u32,
    /// Answers in a second over the last half minute.
    pub rate: f64,
    pub answered: u64,
    pub rejected: u64,
    pub retried: u64,
    #[serde(default)]
    pub refused: StreamRefusals,
    /// Why something is not answered, as long as that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<StreamProblem>,
}

/// How often it was said that a message gets no answer. Of one that waits in its partition it is said each time that it is tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamRefusals {
    /// By the model's answer.
    pub model: u64,
    /// By servers that ended over it.
    pub server: u64,
    /// By brokers that do not take the answer, or the dead letter.
    pub brokers: u64,
}

/// What is in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamProblem {
    pub of: Obstacle,
    pub says: String,
}

/// The gravest is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Obstacle {
    /// The model does not answer now; it is asked again.
    Model,
    /// The model does not take a message, and its partition waits.
    Message,
    /// The brokers, a topic, or what is needed to speak to them.
    Broker,
}
