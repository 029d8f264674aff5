//! Pod settings: an allowlist, never a raw PodSpec.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// What a stage or a model server runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.command) || has(self.script)", "message": "command or script is required: Millrace cannot see the image's entrypoint. Write the command that the image runs" },
    { "rule": "!(has(self.command) && has(self.script))", "message": "command and script exclude each other: keep one" },
    { "rule": "!has(self.script) || self.script.startsWith('#!')", "message": "script must begin with an interpreter line such as #!/bin/sh or #!/usr/bin/env python3" }
]))]
pub struct Container {
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub command: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub args: Vec<String>,
    /// A program with an interpreter line, run with `args`. `$[[ … ]]` is pasted into it as text, before any program reads
    /// it: hand values over by `env`, or write `$[[ quote(params.name) ]]` in a shell's script, without quotes around it. Who
    /// may start a run with another parameter would otherwise write a part of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub script: Option<String>,
    /// The image carries the agent: then no init container is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentPath>,
    #[serde(flatten)]
    pub settings: PodSettings,
}

/// Where an image carries the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentPath {
    #[schemars(length(min = 2, max = 256), regex(pattern = r"^/.+$"))]
    pub path: String,
}

/// Everything about a pod besides its program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSettings {
    /// Secrets of the namespace with credentials for the image's registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<String>,
    /// Environment variables by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 128))]
    pub env: BTreeMap<String, EnvValue>,
    /// Volumes by name, each with where it is mounted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub volumes: BTreeMap<String, Volume>,
    /// What the pod asks for, and what it may take at most.
    /// A device such as `nvidia.com/gpu` is written under `limits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Dynamic resource claims by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub resource_claims: BTreeMap<String, ResourceClaim>,
    /// Size of `/dev/shm`, counted against the memory limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity")]
    pub shared_memory: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub topology_spread: Vec<TopologySpread>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub runtime_class_name: Option<String>,
    /// From the allowlist of the chart (`stages.serviceAccounts`). A stage's pod has a token only if this is
    /// set, also to `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub service_account_name: Option<String>,
    /// Between SIGTERM and SIGKILL. Default 30s, and 60s for a model server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub termination_grace_period: Option<String>,
    /// User id of the program. Default 65532.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_user: Option<i64>,
    /// Group of the program and of the volumes it writes. Default 65532.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_group: Option<i64>,
    /// A `v1/PodTemplate` of the catalog namespace that the pod starts from: for what is not listed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub pod_template: Option<String>,
}

/// The value of an environment variable: text, as `{ value: text }`, or a key of a Secret or ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "[has(self.value), has(self.secret), has(self.configMap)].filter(x, x).size() == 1", "message": "exactly one of value, secret and configMap is required" }
]))]
pub struct EnvValue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<KeyRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<KeyRef>,
}

/// A key of a Secret or ConfigMap in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// Start without the variable when the key is absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// A volume and where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "[has(self.configMap), has(self.secret), has(self.claim), has(self.memory)].filter(x, x).size() == 1", "message": "exactly one of configMap, secret, claim and memory is required" },
    { "rule": "!(self.mountPath == '/millrace' || self.mountPath.startsWith('/millrace/'))", "message": "mountPath must not be below /millrace: it belongs to Millrace" }
]))]
pub struct Volume {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<VolumeKeys>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<VolumeKeys>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<VolumeClaim>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<VolumeMemory>,
    #[schemars(length(min = 2, max = 512), regex(pattern = r"^/[^:]+$"))]
    pub mount_path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub sub_path: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// A ConfigMap or Secret as files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeKeys {
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// A PersistentVolumeClaim of the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeClaim {
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A volume in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMemory {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity")]
    pub size: Option<serde_json::Value>,
}

/// Requests and limits; extended resources such as `nvidia.com/gpu` included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    pub requests: BTreeMap<String, serde_json::Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    pub limits: BTreeMap<String, serde_json::Value>,
}

/// A dynamic resource claim: exactly one of an existing claim and a template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.resourceClaimName) != has(self.resourceClaimTemplateName)", "message": "exactly one of resourceClaimName and resourceClaimTemplateName is required" }
]))]
pub struct ResourceClaim {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub resource_claim_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub resource_claim_template_name: Option<String>,
}

/// How pods of one stage or server spread over nodes and zones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopologySpread {
    #[schemars(range(min = 1, max = 1000))]
    pub max_skew: i32,
    #[schemars(length(min = 1, max = 317))]
    pub topology_key: String,
    /// `DoNotSchedule` or `ScheduleAnyway`.
    #[schemars(extend("enum" = ["DoNotSchedule", "ScheduleAnyway"]))]
    pub when_unsatisfiable: String,
}
