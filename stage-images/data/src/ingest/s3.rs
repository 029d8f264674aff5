//! Fetches an object, or all objects below a prefix, from S3 and what speaks its protocol.

use std::path::Path;

use futures::StreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::params::S3Params;
use super::source::{SourceError, SourceFile, check_size};

#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    #[error(
        "parameter source: `{address}` names no object; write s3://bucket/key, or s3://bucket/prefix/ for all below it"
    )]
    Address { address: String },
    #[error("parameter s3: the client cannot be made; set s3.endpoint, s3.region, and s3.allowHttp for http://")]
    Client(#[source] object_store::Error),
    #[error(
        "there is no object {name}; correct the bucket or the key, or end it with `/` to take all objects below it"
    )]
    NotFound { name: String },
    #[error("{name}: there is no such bucket; correct the bucket, or s3.endpoint")]
    NoBucket { name: String },
    #[error(
        "{name}: access is refused; give the stage AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of an account that may read it (from a Secret, in `env`), or set s3.anonymous for a public bucket: {answer}"
    )]
    Refused { name: String, answer: String },
    #[error("failed to fetch {name}; {hint}: {answer}")]
    Transfer { name: String, hint: &'static str, answer: String },
    #[error("there are no objects below {name}")]
    EmptyPrefix { name: String },
    #[error("failed to write what was fetched from {name}")]
    Write {
        name: String,
        #[source]
        source: std::io::Error,
    },
}

/// Fetches what `address` names into `folder`. The files, and a version: the `ETag`, or a digest of all of them.
pub async fn fetch(
    address: &str,
    options: &S3Params,
    folder: &Path,
    limit: Option<u64>,
) -> Result<(Vec<SourceFile>, Option<String>), SourceError> {
    let no_address = || S3Error::Address { address: crate::say::excerpt(address, 200) };
    let (bucket, key) = address.trim_start_matches("s3://").split_once('/').ok_or_else(no_address)?;
    if bucket.is_empty() || key.is_empty() {
        return Err(no_address().into());
    }
    let store = client(bucket, options)?;
    let objects = find(&store, address, key).await?;
    let total = objects.iter().map(|object| object.size).sum();
    check_size(address, total, limit)?;
    let mut files = Vec::with_capacity(objects.len());
    for (index, object) in objects.iter().enumerate() {
        let name = format!("s3://{bucket}/{}", object.location);
        let path = folder.join(format!("object-{index}"));
        download(&store, object, &name, &path).await?;
        files.push(SourceFile { name, path });
    }
    Ok((files, version(&objects)))
}

pub fn client(bucket: &str, options: &S3Params) -> Result<AmazonS3, S3Error> {
    let S3Params { endpoint, region, allow_http, anonymous } = options;
    // Retries within a minute: a wrong endpoint is told soon.
    let retry =
        RetryConfig { max_retries: 4, retry_timeout: std::time::Duration::from_mins(1), ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
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
    builder.build().map_err(S3Error::Client)
}

async fn find(store: &AmazonS3, name: &str, key: &str) -> Result<Vec<ObjectMeta>, S3Error> {
    let path = object_store::path::Path::from(key);
    if !key.ends_with('/') {
        return Ok(vec![store.head(&path).await.map_err(|source| explain(name, &source))?]);
    }
    let mut found = Vec::new();
    let mut listing = store.list(Some(&path));
    while let Some(object) = listing.next().await {
        let object = object.map_err(|source| explain(name, &source))?;
        if is_data(&object) {
            found.push(object);
        }
    }
    if found.is_empty() {
        return Err(S3Error::EmptyPrefix { name: name.into() });
    }
    found.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(found)
}

/// Neither hidden nor a marker. A folder's own marker object has no bytes.
pub fn is_data(object: &ObjectMeta) -> bool {
    let hidden = object.location.filename().is_some_and(|file| file.starts_with(['.', '_']));
    !hidden && object.size > 0
}

async fn download(store: &AmazonS3, object: &ObjectMeta, name: &str, path: &Path) -> Result<(), S3Error> {
    let write = |source| S3Error::Write { name: name.into(), source };
    let answer = store.get(&object.location).await.map_err(|source| explain(name, &source))?;
    let mut file = tokio::fs::File::create(path).await.map_err(write)?;
    let mut bytes = answer.into_stream();
    while let Some(chunk) = bytes.next().await {
        let chunk = chunk.map_err(|source| explain(name, &source))?;
        file.write_all(&chunk).await.map_err(write)?;
    }
    file.flush().await.map_err(write)
}

fn version(objects: &[ObjectMeta]) -> Option<String> {
    let mut version = Version::default();
    for object in objects {
        version.add(object.e_tag.as_deref());
    }
    version.finish()
}

/// The version of one object or of many, added in the order of their names: the `ETag`, or a digest of all of them.
#[derive(Default)]
pub struct Version {
    count: u64,
    first: String,
    hash: Sha256,
    /// One has no `ETag`: nobody can say.
    unknown: bool,
}

impl Version {
    pub fn add(&mut self, tag: Option<&str>) {
        let Some(tag) = tag.map(|tag| tag.trim_matches('"')) else {
            self.unknown = true;
            return;
        };
        if self.count == 0 {
            tag.clone_into(&mut self.first);
        } else {
            self.hash.update("\n");
        }
        self.hash.update(tag);
        self.count += 1;
    }

    /// None if nothing was added.
    pub fn finish(self) -> Option<String> {
        match self.count {
            _ if self.unknown => None,
            0 => None,
            1 => Some(self.first),
            _ => Some(format!("sha256:{:x}", self.hash.finalize())),
        }
    }
}

pub fn explain(name: &str, source: &object_store::Error) -> S3Error {
    let name = name.to_owned();
    let text = crate::say::one_line(source);
    // A server answers with pages of XML: they must not push what to do out of a log's last lines.
    let answer = crate::say::excerpt(&text, 300);
    match source {
        object_store::Error::NotFound { .. } => S3Error::NotFound { name },
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            S3Error::Refused { name, answer }
        }
        // Of the answer to a listing the client makes no error of its own.
        _ if text.contains("NoSuchBucket") => S3Error::NoBucket { name },
        _ if text.contains("403 Forbidden") || text.contains("401 Unauthorized") => S3Error::Refused { name, answer },
        _ => {
            let hint = if text.contains("169.254.") {
                "no AWS_ACCESS_KEY_ID is set, and this machine gives no credentials by itself: give the stage the usual AWS_ variables from a Secret, or set s3.anonymous"
            } else {
                "look at s3.endpoint, s3.region and s3.allowHttp, and at the network"
            };
            S3Error::Transfer { name, hint, answer }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_one_object_is_its_etag_and_of_many_a_digest_of_all() {
        let version = |tags: &[Option<&str>]| {
            let mut version = Version::default();
            for tag in tags {
                version.add(*tag);
            }
            version.finish()
        };
        assert_eq!(version(&[]), None);
        assert_eq!(version(&[Some("\"a\"")]).as_deref(), Some("a"));
        assert_eq!(version(&[Some("a"), Some("b")]), Some(format!("sha256:{:x}", Sha256::digest("a\nb"))));
        assert_ne!(version(&[Some("a"), Some("b")]), version(&[Some("b"), Some("a")]));
        assert_eq!(version(&[Some("a"), None]), None);
    }
}
