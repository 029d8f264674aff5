//! Where artifacts lie, and how a store that is no claim is reached.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where artifacts lie: exactly one store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "[has(self.pvc), has(self.s3), has(self.gcs), has(self.azure)].filter(x, x).size() == 1", "message": "exactly one of pvc, s3, gcs and azure is required" }
]))]
pub struct Store {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc: Option<PvcStore>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<Box<S3Store>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcs: Option<Box<GcsStore>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<Box<AzureStore>>,
}

/// A PersistentVolumeClaim of the namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PvcStore {
    /// Of a PersistentVolumeClaim. Stages on several nodes need the access mode ReadWriteMany.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
}

/// A bucket of S3, or of a server that speaks it with conditional writes (`If-None-Match`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Store {
    /// It has to be there.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    pub bucket: String,
    /// Below it everything lies. Default: at the bucket's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$")
    )]
    pub prefix: Option<String>,
    /// Default: us-east-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9-]+$"))]
    pub region: Option<String>,
    /// Of a server that is not Amazon's. Without TLS only with `http://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512), regex(pattern = r"^https?://[^/?#@\s]+(/[^?#@\s]*)?$"))]
    pub endpoint: Option<String>,
    /// A Secret of the namespace with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, maybe `AWS_SESSION_TOKEN`, and maybe `ca.crt` for an
    /// authority of one's own. Only the agent sees it. Default: the identity of the stage's service account, which its program has too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretName>,
}

/// A bucket of Google Cloud Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcsStore {
    /// It has to be there.
    #[schemars(length(min = 3, max = 222), regex(pattern = r"^[a-z0-9][a-z0-9._-]*[a-z0-9]$"))]
    pub bucket: String,
    /// As of `s3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$")
    )]
    pub prefix: Option<String>,
    /// Of a server that is not Google's. Without TLS only with `http://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512), regex(pattern = r"^https?://[^/?#@\s]+(/[^?#@\s]*)?$"))]
    pub endpoint: Option<String>,
    /// A Secret of the namespace with `GOOGLE_SERVICE_ACCOUNT_KEY`, the JSON of a service account's key, and maybe `ca.crt`. Only the agent sees
    /// it. Default: the identity of the stage's service account, which its program has too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretName>,
}

/// A container of Azure Blob Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureStore {
    /// The storage account.
    #[schemars(length(min = 3, max = 24), regex(pattern = r"^[a-z0-9]+$"))]
    pub account: String,
    /// It has to be there.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9-]*[a-z0-9]$"))]
    pub container: String,
    /// As of `s3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$")
    )]
    pub prefix: Option<String>,
    /// Of another cloud than the public one, or a server of one's own. Without TLS only with `http://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512), regex(pattern = r"^https?://[^/?#@\s]+(/[^?#@\s]*)?$"))]
    pub endpoint: Option<String>,
    /// A Secret of the namespace with `AZURE_STORAGE_ACCOUNT_KEY`, or `AZURE_STORAGE_SAS_KEY`, or `AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET` and
    /// `AZURE_TENANT_ID`, and maybe `ca.crt`. Only the agent sees it. Default: the identity of the stage's service account, which its
    /// program has too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretName>,
}

/// The name of a Secret of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretName {
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// How the store of an address `s3://`, `gs://` or `az://` is reached: what the address does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreAccess {
    /// As of the store. Without TLS only with `http://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512), regex(pattern = r"^https?://[^/?#@\s]+(/[^?#@\s]*)?$"))]
    pub endpoint: Option<String>,
    /// Of `s3://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9-]+$"))]
    pub region: Option<String>,
    /// Of `az://<container>/<path>`: the storage account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 24), regex(pattern = r"^[a-z0-9]+$"))]
    pub account: Option<String>,
    /// A Secret of the namespace with credentials, as of the store. Default: the identity of the pod that reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretName>,
    /// Of a bucket that everybody may read: it is asked without a signature.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
}
