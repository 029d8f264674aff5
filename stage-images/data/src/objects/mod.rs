//! Buckets of S3, Google Cloud Storage and Azure Blob Storage, and what is in them, by their addresses.

mod azure;
mod error;
mod gcs;
mod s3;
mod version;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object_store::{ClientOptions, Error, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};
use tokio::io::AsyncWriteExt;

pub use azure::AzureParams;
pub use error::ObjectError;
use error::Words;
pub use gcs::GcsParams;
pub use s3::S3Params;
pub use version::Version;

use crate::say;

/// How the buckets of each cloud are reached.
#[derive(Clone, Debug, Default)]
pub struct Access {
    pub s3: S3Params,
    pub gcs: GcsParams,
    pub azure: AzureParams,
}

/// Something in a bucket.
pub struct Place {
    pub store: Arc<dyn ObjectStore>,
    /// The address of the bucket, without a last `/`.
    pub root: String,
    /// An object, or all below it where it ends with `/`. Empty: all there are.
    pub key: String,
    words: &'static Words,
}

/// Where an address leads. None if it is not of a bucket.
pub fn open(address: &str, access: &Access) -> Option<Result<Place, ObjectError>> {
    let (scheme, path) = address.split_once("://")?;
    let words = match scheme {
        "s3" => &s3::WORDS,
        "gs" => &gcs::WORDS,
        "az" | "abfs" | "abfss" => &azure::WORDS,
        _ => return None,
    };
    let no_address = || ObjectError::Address { address: say::excerpt(address, 200), form: words.form };
    let place = || {
        let (root, key) = path.split_once('/').filter(|(root, _)| !root.is_empty()).ok_or_else(no_address)?;
        let (store, root) = match scheme {
            "s3" => (s3::client(root, &access.s3)?, root),
            "gs" => (gcs::client(root, &access.gcs)?, root),
            _ => {
                let root = azure::root(root).ok_or_else(no_address)?;
                (azure::client(address, &root, &access.azure)?, root.container)
            }
        };
        let scheme = if scheme.starts_with("abfs") { "az" } else { scheme };
        Ok(Place { store, root: format!("{scheme}://{root}"), key: key.to_owned(), words })
    };
    Some(place())
}

/// An object that was fetched.
pub struct Fetched {
    pub name: String,
    pub path: std::path::PathBuf,
}

impl Place {
    /// What an answer means.
    pub fn explain(&self, name: &str, source: &Error) -> ObjectError {
        self.words.explain(name, source)
    }

    pub fn name(&self) -> String {
        format!("{}/{}", self.root, self.key)
    }

    /// The object, or all below the key, in the order of their names.
    pub async fn find(&self) -> Result<Vec<ObjectMeta>, ObjectError> {
        let name = self.name();
        if self.key.is_empty() {
            return Err(ObjectError::Address { address: say::excerpt(&name, 200), form: self.words.form });
        }
        let path = object_store::path::Path::from(self.key.as_str());
        if !self.key.ends_with('/') {
            return Ok(vec![self.store.head(&path).await.map_err(|source| self.explain(&name, &source))?]);
        }
        let mut found = Vec::new();
        let mut listing = self.store.list(Some(&path));
        while let Some(object) = listing.next().await {
            let object = object.map_err(|source| self.explain(&name, &source))?;
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

    /// Fetches objects into a folder.
    pub async fn fetch(&self, objects: &[ObjectMeta], folder: &Path) -> Result<Vec<Fetched>, ObjectError> {
        let mut files = Vec::with_capacity(objects.len());
        for (index, object) in objects.iter().enumerate() {
            let name = format!("{}/{}", self.root, object.location);
            let path = folder.join(format!("object-{index}"));
            self.download(object, &name, &path).await?;
            files.push(Fetched { name, path });
        }
        Ok(files)
    }

    async fn download(&self, object: &ObjectMeta, name: &str, path: &Path) -> Result<(), ObjectError> {
        let write = |source| ObjectError::Write { name: name.into(), source };
        let read = |source: Error| self.explain(name, &source);
        let mut bytes = self.store.get(&object.location).await.map_err(read)?.into_stream();
        let mut file = tokio::fs::File::create(path).await.map_err(write)?;
        while let Some(chunk) = bytes.next().await {
            file.write_all(&chunk.map_err(read)?).await.map_err(write)?;
        }
        file.flush().await.map_err(write)
    }
}

/// Neither hidden nor a marker. A folder's own marker object has no bytes.
pub fn is_data(object: &ObjectMeta) -> bool {
    let hidden = object.location.filename().is_some_and(|file| file.starts_with(['.', '_']));
    !hidden && object.size > 0
}

/// What these are called: the `ETag` of one, of many a digest of theirs.
pub fn version(objects: &[ObjectMeta]) -> Option<String> {
    let mut version = Version::default();
    for object in objects {
        version.add(object.e_tag.as_deref());
    }
    version.finish()
}

/// Retries within a minute: a wrong endpoint is told soon.
fn retry() -> RetryConfig {
    RetryConfig { max_retries: 4, retry_timeout: Duration::from_mins(1), ..RetryConfig::default() }
}

fn plain_http(endpoint: Option<&str>) -> ClientOptions {
    ClientOptions::new().with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leads_to_a_bucket_and_a_key() {
        let place = |address: &str| {
            let azure = AzureParams { account: Some("me".into()), ..AzureParams::default() };
            let place = open(address, &Access { azure, ..Access::default() })?;
            Some(place.map(|place| (place.root, place.key)).map_err(|error| error.to_string()))
        };
        for (address, root, key) in [
            ("s3://lake/a/b.csv", "s3://lake", "a/b.csv"),
            ("s3://lake/", "s3://lake", ""),
            ("gs://lake/a/", "gs://lake", "a/"),
            ("az://lake/a", "az://lake", "a"),
            ("abfss://lake@me.dfs.core.windows.net/a", "az://lake", "a"),
        ] {
            assert_eq!(place(address), Some(Ok((root.to_owned(), key.to_owned()))), "{address}");
        }
        for (address, form) in [
            ("s3://lake", "s3://bucket/key"),
            ("gs:///a", "gs://bucket/key"),
            ("az://", "az://container/key"),
            ("abfss://lake@me.example.com/a", "az://container/key"),
        ] {
            let Some(Err(error)) = place(address) else { panic!("{address}") };
            assert!(error.contains(&format!("`{address}` names no object; write {form}")), "{error}");
        }
        for other in ["/data", "https://lake/a", "lake"] {
            assert_eq!(place(other), None);
        }
    }
}
