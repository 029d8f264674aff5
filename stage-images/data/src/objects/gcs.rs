//! Google Cloud Storage. Who asks is in the variable that its own tools take, or is the pod itself.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::gcp::GoogleCloudStorageBuilder;
use serde::Deserialize;

use super::error::{ObjectError, Words};
use super::{plain_http, retry};

/// An endpoint that begins with `http://` is asked without TLS.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GcsParams {
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Ask without a signature: for public buckets.
    #[serde(default)]
    pub anonymous: Option<bool>,
}

pub(super) const WORDS: Words = Words {
    form: "gs://bucket/",
    credentials: "GOOGLE_SERVICE_ACCOUNT_KEY",
    anonymous: "gcs.anonymous",
    endpoint: "gcs.endpoint",
    settings: "gcs.endpoint",
    no_bucket: "The specified bucket does not exist",
};

pub(super) fn client(bucket: &str, options: &GcsParams) -> Result<Arc<dyn ObjectStore>, ObjectError> {
    let GcsParams { endpoint, anonymous } = options;
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_retry(retry())
        .with_client_options(plain_http(endpoint.as_deref()));
    if let Some(endpoint) = endpoint {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    if let Some(anonymous) = anonymous {
        builder = builder.with_skip_signature(*anonymous);
    }
    let settings =
        "GOOGLE_SERVICE_ACCOUNT_KEY to the JSON of a service account's key, and gcs.endpoint for another server";
    Ok(Arc::new(builder.build().map_err(|source| ObjectError::Client { settings, source })?))
}
