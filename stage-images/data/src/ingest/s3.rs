//! Fetches an object, or all objects below a prefix: from S3 and what speaks its protocol here, from the other clouds in `clouds.rs`.

use std::path::Path;

use futures::StreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::params::S3Params;
use super::source::{SourceError, SourceFile, check_size};

#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("parameter source: `{address}` names no object; write {form}key, or {form}prefix/ for all below it")]
    Address { address: String, form: &'static str },
    #[error("the client cannot be made; set {settings}")]
    Client {
        settings: &'static str,
        #[source]
        source: object_store::Error,
    },
    #[error(
        "there is no object {name}; correct the bucket or the key, or end it with `/` to take all objects below it"
    )]
    NotFound { name: String },
    #[error("{name}: there is no such bucket; correct it, or {endpoint}")]
    NoBucket { name: String, endpoint: &'static str },
    #[error(
        "{name}: access is refused; give the stage {credentials} of an account that may read it (from a Secret, in `env`), or set {anonymous} for what is public: {answer}"
    )]
    Refused { name: String, credentials: &'static str, anonymous: &'static str, answer: String },
    #[error("failed to fetch {name}; {hint}: {answer}")]
    Transfer { name: String, hint: &'static str, answer: String },
    #[error(
        "{address}: nobody says whose container it is; set azure.account, or write abfss://container@account.dfs.core.windows.net/key"
    )]
    NoAccount { address: String },
    #[error("parameter azure.account: found {account}, but the address names {named}; leave out one of them")]
    OtherAccount { named: String, account: String },
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
    let no_address = || ObjectError::Address { address: crate::say::excerpt(address, 200), form: "s3://bucket/" };
    let (bucket, key) = address.trim_start_matches("s3://").split_once('/').ok_or_else(no_address)?;
    if bucket.is_empty() || key.is_empty() {
        return Err(no_address().into());
    }
    let store = client(bucket, options)?;
    Bucket { store: &store, root: format!("s3://{bucket}"), explain }.fetch(key, folder, limit).await
}

/// A bucket, as people know it, and what its errors mean.
pub struct Bucket<'a> {
    pub store: &'a dyn ObjectStore,
    pub root: String,
    pub explain: fn(&str, &object_store::Error) -> ObjectError,
}

impl Bucket<'_> {
    /// Fetches an object, or all below a key that ends with `/`.
    pub async fn fetch(
        &self,
        key: &str,
        folder: &Path,
        limit: Option<u64>,
    ) -> Result<(Vec<SourceFile>, Option<String>), SourceError> {
        let objects = self.find(key).await?;
        let total = objects.iter().map(|object| object.size).sum();
        check_size(&format!("{}/{key}", self.root), total, limit)?;
        let mut files = Vec::with_capacity(objects.len());
        for (index, object) in objects.iter().enumerate() {
            let name = format!("{}/{}", self.root, object.location);
            let path = folder.join(format!("object-{index}"));
            self.download(object, &name, &path).await?;
            files.push(SourceFile { name, path });
        }
        Ok((files, version(&objects)))
    }

    async fn find(&self, key: &str) -> Result<Vec<ObjectMeta>, ObjectError> {
        let name = format!("{}/{key}", self.root);
        let path = object_store::path::Path::from(key);
        if !key.ends_with('/') {
            return Ok(vec![self.store.head(&path).await.map_err(|source| (self.explain)(&name, &source))?]);
        }
        let mut found = Vec::new();
        let mut listing = self.store.list(Some(&path));
        while let Some(object) = listing.next().await {
            let object = object.map_err(|source| (self.explain)(&name, &source))?;
            if is_data(&object) {
                found.push(object);
            }
        }
        if found.is_empty() {
            return Err(ObjectError::EmptyPrefix { name });
        }
        found.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    async fn download(&self, object: &ObjectMeta, name: &str, path: &Path) -> Result<(), ObjectError> {
        let write = |source| ObjectError::Write { name: name.into(), source };
        let read = |source: object_store::Error| (self.explain)(name, &source);
        let mut bytes = self.store.get(&object.location).await.map_err(read)?.into_stream();
        let mut file = tokio::fs::File::create(path).await.map_err(write)?;
        while let Some(chunk) = bytes.next().await {
            file.write_all(&chunk.map_err(read)?).await.map_err(write)?;
        }
        file.flush().await.map_err(write)
    }
}

/// Retries within a minute: a wrong endpoint is told soon.
pub fn retry() -> RetryConfig {
    RetryConfig { max_retries: 4, retry_timeout: std::time::Duration::from_mins(1), ..RetryConfig::default() }
}

pub fn client(bucket: &str, options: &S3Params) -> Result<AmazonS3, ObjectError> {
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
    builder.build().map_err(|source| ObjectError::Client { settings, source })
}

/// Neither hidden nor a marker. A folder's own marker object has no bytes.
pub fn is_data(object: &ObjectMeta) -> bool {
    let hidden = object.location.filename().is_some_and(|file| file.starts_with(['.', '_']));
    !hidden && object.size > 0
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

/// What an answer of S3 means.
pub fn explain(name: &str, source: &object_store::Error) -> ObjectError {
    let words = Words {
        credentials: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        anonymous: "s3.anonymous",
        endpoint: "s3.endpoint",
        // Of the answer to a listing the client makes no error of its own.
        no_bucket: "NoSuchBucket",
        nobody: "no AWS_ACCESS_KEY_ID is set, and this machine gives no credentials by itself: give the stage the usual AWS_ variables from a Secret, or set s3.anonymous",
        network: "look at s3.endpoint, s3.region and s3.allowHttp, and at the network",
    };
    words.explain(name, source)
}

/// What a cloud calls things.
pub struct Words {
    pub credentials: &'static str,
    pub anonymous: &'static str,
    pub endpoint: &'static str,
    /// In an answer: there is no such bucket.
    pub no_bucket: &'static str,
    pub nobody: &'static str,
    pub network: &'static str,
}

impl Words {
    pub fn explain(&self, name: &str, source: &object_store::Error) -> ObjectError {
        let name = name.to_owned();
        let text = crate::say::one_line(source);
        // A server answers with pages of XML: they must not push what to do out of a log's last lines.
        let answer = crate::say::excerpt(&text, 300);
        let Self { credentials, anonymous, endpoint, no_bucket, nobody, network } = *self;
        match source {
            _ if text.contains(no_bucket) => ObjectError::NoBucket { name, endpoint },
            object_store::Error::NotFound { .. } => ObjectError::NotFound { name },
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                ObjectError::Refused { name, credentials, anonymous, answer }
            }
            _ if text.contains("403 Forbidden") || text.contains("401 Unauthorized") => {
                ObjectError::Refused { name, credentials, anonymous, answer }
            }
            // The address at which machines of a cloud ask who they are.
            _ if text.contains("169.254.") || text.contains("metadata.google.internal") => {
                ObjectError::Transfer { name, hint: nobody, answer }
            }
            _ => ObjectError::Transfer { name, hint: network, answer },
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
