//! `inputs.<name>.table`: a snapshot of a Delta table as an input.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{StoreAccess, schema};

/// A Delta table, whoever writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.access) || !self.uri.startsWith('pvc://')", "message": "a claim needs no access: take it out" }
]))]
pub struct TableInput {
    /// `s3://bucket/path`, the same with `gs://` or `az://`, or `pvc://claim/path` of a PersistentVolumeClaim of the namespace.
    #[schemars(length(min = 8, max = 1024), regex(pattern = r"^(s3|gs|az|pvc)://[!-~]+$"))]
    pub uri: String,
    /// The snapshot: a number, or a template such as `$[[ stages.ingest.results.table_version ]]`. Default: the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::table_version")]
    pub version: Option<String>,
    /// The column of `window`, of type date or timestamp. A date counts as its first moment in UTC, and so does a timestamp without a
    /// zone. A column that the table is partitioned by spares reading what is outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub time_column: Option<String>,
    /// The columns to read, in this order. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub columns: Vec<String>,
    /// How the bucket's server is reached, with a Secret of the namespace that has what its store's has. Only the pod that reads the table
    /// gets it, and no program of yours runs there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<StoreAccess>,
}
