//! `triggers.onData`: new data at an address starts a run.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{StoreAccess, Value, schema};

/// New data at an address start a run, once. A small pod in the namespace looks there every `poll`. A run's stages read what the data were
/// called as `run.dataVersion`. What is there when the trigger is first seen starts nothing, unless `initial` says so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.access) || !self.uri.startsWith('pvc://')", "message": "a claim needs no access: take it out" }
]))]
pub struct DataTrigger {
    /// `https://host/file` (or `http://`); `s3://bucket/key`, or `s3://bucket/prefix/` for all objects below it, and the same with `gs://` or
    /// `az://`; or `pvc://claim/path` of a PersistentVolumeClaim that the pod may mount beside others. Of a folder or prefix, names that begin with `.` or `_` do not count.
    #[schemars(length(min = 8, max = 1024), regex(pattern = r"^(https?|s3|gs|az|pvc)://[!-~]+$"))]
    pub uri: String,
    /// Time between two looks. `1s` to `7d`. Default `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub poll: Option<String>,
    /// For so long new data have to stay as they are before they count: many files that arrive one by one start one run. Default `0s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub settle: Option<String>,
    /// What is there when the trigger is first seen starts a run too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub initial: bool,
    /// How the server is reached. The pod that looks gets these keys of the Secret as environment variables: `AWS_ACCESS_KEY_ID` and
    /// `AWS_SECRET_ACCESS_KEY` for `s3://`, `GOOGLE_SERVICE_ACCOUNT_KEY` for `gs://`, `AZURE_STORAGE_ACCOUNT_KEY` for `az://`, and
    /// `HTTP_AUTHORIZATION` for the header `Authorization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<StoreAccess>,
    /// Nobody looks, and nothing starts. What comes meanwhile is new data afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// Values for the pipeline's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_map")]
    pub params: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataTriggerStatus {
    /// Digest of the address that this is said of. With another one it begins anew.
    #[serde(default)]
    pub rule: String,
    /// When the trigger was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// How often a pod has told something.
    #[serde(default)]
    pub reports: i64,
    /// When a pod has told what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_time: Option<Time>,
    /// What the data are called that were seen last: an ETag, or a digest of what is there. Absent while there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub version: Option<String>,
    /// How much that was, such as `3 files, 12.0 MB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub found: Option<String>,
    /// Why looking fails. It is tried again, at growing intervals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DataError>,
    /// Runs that were started.
    #[serde(default)]
    pub runs: i64,
    /// When the last run was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<String>,
    /// What keeps the pod from looking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Why nobody can say what is at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataError {
    /// One word, such as `Refused`.
    #[schemars(length(max = 64))]
    pub reason: String,
    #[schemars(length(max = 1024))]
    pub message: String,
}
