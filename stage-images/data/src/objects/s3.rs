//! S3, and what speaks its protocol.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use serde::Deserialize;

use super::error::{ObjectError, Words};
use super::retry;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct S3Params {
    #[serde(default)]
    pub endpoint: Option<String>,
    #[serde(default)]
    pub region: Option<String>,
    #[serde(default)]
    pub allow_http: Option<bool>,
    /// Ask without a signature: for public buckets.
    #[serde(default)]
    pub anonymous: Option<bool>,
}

pub(super) const WORDS: Words = Words {
    form: "s3://bucket/",
    credentials: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    anonymous: "s3.anonymous",
    endpoint: "s3.endpoint",
    settings: "s3.endpoint, s3.region and s3.allowHttp",
    // Of the answer to a listing the client makes no error of its own.
    no_bucket: "NoSuchBucket",
};

pub(super) fn client(bucket: &str, options: &S3Params) -> Result<Arc<dyn ObjectStore>, ObjectError> {
    let S3Params { endpoint, region, allow_http, anonymous } = options;
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry());
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = region {
        builder = builder.with_region(region);
    } else if builder.get_config_value(&AmazonS3ConfigKey::Region).is_none() {
        builder = builder.with_region("us-east-1");
    }
    if let Some(allow) = allow_http {
        builder = builder.with_allow_http(*allow);
    }
    if let Some(anonymous) = anonymous {
        builder = builder.with_skip_signature(*anonymous);
    }
    let settings = "s3.endpoint, s3.region, and s3.allowHttp for http://";
    Ok(Arc::new(builder.build().map_err(|source| ObjectError::Client { settings, source })?))
}
