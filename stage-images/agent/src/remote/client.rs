//! The client of a store. Its credentials are in the agent's own environment, under names that no program of a stage gets to see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_contract::{StoreKind, TaskStore};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{Certificate, ClientOptions, ObjectStore, RetryConfig};

/// An endpoint that does not take connections is told soon.
const CONNECT: Duration = Duration::from_secs(10);
/// One request moves a few MiB.
const REQUEST: Duration = Duration::from_mins(2);

/// Entries of the Secret by the names that the clouds' own tools give them.
type Entries = BTreeMap<String, String>;

/// The client, which tries a request again for as long as `patience`. The error has what is wrong with the settings.
pub fn open(store: &TaskStore, patience: Duration) -> Result<Arc<dyn ObjectStore>, String> {
    let entries = store.credentials.as_deref().map(entries);
    let authority = entries.as_ref().and_then(|entries| entries.get("ca.crt")).cloned();
    build(store, entries.as_ref(), patience, authority.as_deref())
}

/// As [`open`], for somebody else's store, for whose server `authority` is good.
pub fn open_other(
    store: &TaskStore,
    patience: Duration,
    authority: Option<&str>,
) -> Result<Arc<dyn ObjectStore>, String> {
    let entries = store.credentials.as_deref().map(entries);
    build(store, entries.as_ref(), patience, authority)
}

fn build(
    store: &TaskStore,
    entries: Option<&Entries>,
    patience: Duration,
    authority: Option<&str>,
) -> Result<Arc<dyn ObjectStore>, String> {
    let anonymous = store.anonymous;
    let retry = RetryConfig { max_retries: 100, retry_timeout: patience, ..RetryConfig::default() };
    let options = options(store, authority)?;
    let built = match store.kind {
        StoreKind::S3 => s3(store, entries)?
            .with_skip_signature(anonymous)
            .with_retry(retry)
            .with_client_options(options)
            .build()
            .map(dynamic),
        StoreKind::Gcs => gcs(store, entries)?
            .with_skip_signature(anonymous)
            .with_retry(retry)
            .with_client_options(options)
            .build()
            .map(dynamic),
        StoreKind::Azure => azure(store, entries)?
            .with_skip_signature(anonymous)
            .with_retry(retry)
            .with_client_options(options)
            .build()
            .map(dynamic),
    };
    built.map_err(|error| super::error::text(&error))
}

fn dynamic(store: impl ObjectStore) -> Arc<dyn ObjectStore> {
    Arc::new(store)
}

/// What the Secret holds: its entries are variables whose names begin with `prefix`.
fn entries(prefix: &str) -> Entries {
    let named = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.to_str()?.strip_prefix(prefix)?.to_owned(), value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(named).filter(|(_, value)| !value.is_empty()).collect()
}

fn options(store: &TaskStore, authority: Option<&str>) -> Result<ClientOptions, String> {
    let plain = store.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let options = ClientOptions::new().with_allow_http(plain).with_connect_timeout(CONNECT).with_timeout(REQUEST);
    let Some(authority) = authority else { return Ok(options) };
    let certificates = Certificate::from_pem_bundle(authority.as_bytes())
        .map_err(|error| format!("the Secret's ca.crt is no certificate in PEM: {error}"))?;
    Ok(certificates.into_iter().fold(options, ClientOptions::with_root_certificate))
}

/// Variables by which a cloud tells a pod who it is. A program's own keys are not the store's.
const AWS_IDENTITY: &[&str] = &[
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
];
const AZURE_IDENTITY: &[&str] =
    &["AZURE_FEDERATED_TOKEN_FILE", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_AUTHORITY_HOST"];

fn identity(names: &[&'static str]) -> impl Iterator<Item = (&'static str, String)> {
    names.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?)))
}

/// Of a Secret the entries that are credentials; each of `sets` is enough.
fn credentials<'a>(entries: &'a Entries, sets: &[&[&'static str]]) -> Result<Vec<(&'static str, &'a String)>, String> {
    let found = sets.iter().find_map(|set| {
        set.iter().map(|name| entries.get(*name).map(|value| (*name, value))).collect::<Option<Vec<_>>>()
    });
    found.ok_or_else(|| {
        let wanted: Vec<String> = sets.iter().map(|set| set.join(" and ")).collect();
        let there: Vec<&str> = entries.keys().map(String::as_str).collect();
        let there = if there.is_empty() { "nothing".to_owned() } else { there.join(", ") };
        format!("the store's Secret has to have {}; it has {there}", wanted.join(", or "))
    })
}

fn s3(store: &TaskStore, entries: Option<&Entries>) -> Result<AmazonS3Builder, String> {
    let mut builder = match entries {
        // The pod's identity, as the cloud's webhook hands it in, and nothing that is the program's.
        None => identity(AWS_IDENTITY).fold(AmazonS3Builder::new(), |builder, (name, value)| {
            match name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                Ok(key) => builder.with_config(key, value),
                Err(_) => builder,
            }
        }),
        Some(entries) => {
            let mut builder = AmazonS3Builder::new();
            let given = credentials(entries, &[&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]])?;
            let token = entries.get_key_value("AWS_SESSION_TOKEN").map(|(_, value)| ("AWS_SESSION_TOKEN", value));
            for (name, value) in given.into_iter().chain(token) {
                let key: AmazonS3ConfigKey = name.to_ascii_lowercase().parse().map_err(|_| name.to_owned())?;
                builder = builder.with_config(key, value);
            }
            builder
        }
    };
    builder = builder.with_bucket_name(&store.bucket);
    if let Some(endpoint) = &store.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    let region = store.region.clone().or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Region));
    Ok(builder.with_region(region.unwrap_or_else(|| "us-east-1".to_owned())))
}

fn gcs(store: &TaskStore, entries: Option<&Entries>) -> Result<GoogleCloudStorageBuilder, String> {
    let mut builder = match entries {
        // The metadata server tells who the pod is.
        None => GoogleCloudStorageBuilder::new(),
        Some(entries) => {
            let given = credentials(entries, &[&["GOOGLE_SERVICE_ACCOUNT_KEY"]])?;
            let set = |builder: GoogleCloudStorageBuilder, (_, value): (&str, &String)| {
                builder.with_config(GoogleConfigKey::ServiceAccountKey, value)
            };
            given.into_iter().fold(GoogleCloudStorageBuilder::new(), set)
        }
    };
    if let Some(endpoint) = &store.endpoint {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    Ok(builder.with_bucket_name(&store.bucket))
}

fn azure(store: &TaskStore, entries: Option<&Entries>) -> Result<MicrosoftAzureBuilder, String> {
    let mut builder = match entries {
        None => identity(AZURE_IDENTITY).fold(MicrosoftAzureBuilder::new(), |builder, (name, value)| {
            match name.to_ascii_lowercase().parse::<AzureConfigKey>() {
                Ok(key) => builder.with_config(key, value),
                Err(_) => builder,
            }
        }),
        Some(entries) => {
            let sets: [&[&str]; 3] = [
                &["AZURE_STORAGE_ACCOUNT_KEY"],
                &["AZURE_STORAGE_SAS_KEY"],
                &["AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID"],
            ];
            let mut builder = MicrosoftAzureBuilder::new();
            for (name, value) in credentials(entries, &sets)? {
                let key: AzureConfigKey = name.to_ascii_lowercase().parse().map_err(|_| name.to_owned())?;
                builder = builder.with_config(key, value);
            }
            builder
        }
    };
    if let Some(account) = &store.account {
        builder = builder.with_account(account);
    }
    if let Some(endpoint) = &store.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    Ok(builder.with_container_name(&store.bucket))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(kind: StoreKind) -> TaskStore {
        TaskStore {
            kind,
            bucket: "models".into(),
            endpoint: None,
            region: None,
            account: Some("lake".into()),
            credentials: None,
            anonymous: false,
        }
    }

    fn secret(entries: &[(&str, &str)]) -> Entries {
        entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_secret_without_credentials_is_told_of_by_what_it_has() {
        let found = s3(&store(StoreKind::S3), Some(&secret(&[("AWS_ACCESS_KEY_ID", "me"), ("key", "x")]))).unwrap_err();
        assert_eq!(
            found,
            "the store's Secret has to have AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; it has AWS_ACCESS_KEY_ID, key"
        );
        let found = azure(&store(StoreKind::Azure), Some(&secret(&[]))).unwrap_err();
        assert!(
            found.contains("AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_KEY, or AZURE_CLIENT_ID and"),
            "{found}"
        );
        assert!(found.ends_with("it has nothing"), "{found}");
    }

    #[test]
    fn credentials_of_each_cloud_make_a_client() {
        let keys = secret(&[("AWS_ACCESS_KEY_ID", "me"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "t")]);
        let built = s3(&store(StoreKind::S3), Some(&keys)).unwrap();
        for (key, value) in [
            (AmazonS3ConfigKey::AccessKeyId, "me"),
            (AmazonS3ConfigKey::SecretAccessKey, "s"),
            (AmazonS3ConfigKey::Token, "t"),
            (AmazonS3ConfigKey::Region, "us-east-1"),
            (AmazonS3ConfigKey::Bucket, "models"),
        ] {
            assert_eq!(built.get_config_value(&key).as_deref(), Some(value));
        }
        let built = azure(&store(StoreKind::Azure), Some(&secret(&[("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")]))).unwrap();
        assert_eq!(built.get_config_value(&AzureConfigKey::AccessKey).as_deref(), Some("a2V5"));
        assert_eq!(built.get_config_value(&AzureConfigKey::AccountName).as_deref(), Some("lake"));
        let built = gcs(&store(StoreKind::Gcs), Some(&secret(&[("GOOGLE_SERVICE_ACCOUNT_KEY", "{}")]))).unwrap();
        assert_eq!(built.get_config_value(&GoogleConfigKey::ServiceAccountKey).as_deref(), Some("{}"));
    }
}
