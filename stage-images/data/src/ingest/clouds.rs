//! Objects of Google Cloud Storage and of Azure Blob Storage. Who asks is in the variables that the clouds' own tools take, or is the pod itself.

use std::path::Path;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{ClientOptions, Error};

use super::params::{AzureParams, GcsParams};
use super::s3::{Bucket, ObjectError, Words, retry};
use super::source::{SourceError, SourceFile};

type Fetched = Result<(Vec<SourceFile>, Option<String>), SourceError>;

/// Fetches what `gs://bucket/key` names into `folder`.
pub async fn fetch_gcs(address: &str, options: &GcsParams, folder: &Path, limit: Option<u64>) -> Fetched {
    let named = address.strip_prefix("gs://").and_then(|rest| rest.split_once('/')).filter(|named| whole(*named));
    let (bucket, key) = named.ok_or_else(|| no_address(address, "gs://bucket/"))?;
    let GcsParams { endpoint, anonymous } = options;
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_retry(retry())
        .with_client_options(client(endpoint.as_deref()));
    if let Some(endpoint) = endpoint {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    if let Some(anonymous) = anonymous {
        builder = builder.with_skip_signature(*anonymous);
    }
    let settings =
        "GOOGLE_SERVICE_ACCOUNT_KEY to the JSON of a service account's key, and gcs.endpoint for another server";
    let store = builder.build().map_err(|source| ObjectError::Client { settings, source })?;
    Bucket { store: &store, root: format!("gs://{bucket}"), explain: explain_gcs }.fetch(key, folder, limit).await
}

/// Fetches what `az://container/key` or `abfs://container@account.dfs.core.windows.net/key` names into `folder`.
pub async fn fetch_azure(address: &str, options: &AzureParams, folder: &Path, limit: Option<u64>) -> Fetched {
    let AzureParams { account, endpoint, anonymous } = options;
    let Place { container, account: named, key } =
        place(address).ok_or_else(|| no_address(address, "az://container/"))?;
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_retry(retry())
        .with_client_options(client(endpoint.as_deref()));
    match (named, account.as_deref()) {
        (Some(named), Some(account)) if named != account => {
            return Err(ObjectError::OtherAccount { named: named.into(), account: account.into() }.into());
        }
        (Some(account), _) | (None, Some(account)) => builder = builder.with_account(account),
        (None, None) if builder.get_config_value(&AzureConfigKey::AccountName).is_some() => {}
        (None, None) => return Err(ObjectError::NoAccount { address: address.to_owned() }.into()),
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    if let Some(anonymous) = anonymous {
        builder = builder.with_skip_signature(*anonymous);
    }
    let settings = "azure.account, and azure.endpoint for another server";
    let store = builder.build().map_err(|source| ObjectError::Client { settings, source })?;
    Bucket { store: &store, root: format!("az://{container}"), explain: explain_azure }.fetch(key, folder, limit).await
}

fn client(endpoint: Option<&str>) -> ClientOptions {
    ClientOptions::new().with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
}

fn no_address(address: &str, form: &'static str) -> ObjectError {
    ObjectError::Address { address: crate::say::excerpt(address, 200), form }
}

fn whole((bucket, key): (&str, &str)) -> bool {
    !bucket.is_empty() && !key.is_empty()
}

/// A key in a container.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    container: &'a str,
    account: Option<&'a str>,
    key: &'a str,
}

fn place(address: &str) -> Option<Place<'_>> {
    let (_, rest) = address.split_once("://")?;
    let (root, key) = rest.split_once('/').filter(|named| whole(*named))?;
    let Some((container, host)) = root.split_once('@') else {
        return Some(Place { container: root, account: None, key });
    };
    let (account, domain) = host.split_once('.')?;
    let own = matches!(domain, "dfs.core.windows.net" | "blob.core.windows.net");
    (own && whole((container, account))).then_some(Place { container, account: Some(account), key })
}

fn explain_gcs(name: &str, source: &Error) -> ObjectError {
    let words = Words {
        credentials: "GOOGLE_SERVICE_ACCOUNT_KEY",
        anonymous: "gcs.anonymous",
        endpoint: "gcs.endpoint",
        no_bucket: "The specified bucket does not exist",
        nobody: "no GOOGLE_SERVICE_ACCOUNT_KEY is set, and this machine gives no credentials by itself: give it to the stage from a Secret, or set gcs.anonymous",
        network: "look at gcs.endpoint, and at the network",
    };
    words.explain(name, source)
}

fn explain_azure(name: &str, source: &Error) -> ObjectError {
    let words = Words {
        credentials: "AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_KEY, or AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID,",
        anonymous: "azure.anonymous",
        endpoint: "azure.account",
        no_bucket: "ContainerNotFound",
        nobody: "no AZURE_STORAGE_ACCOUNT_KEY is set, and this machine gives no credentials by itself: give it to the stage from a Secret, or set azure.anonymous",
        network: "look at azure.account and azure.endpoint, and at the network",
    };
    words.explain(name, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_azure_name_the_account_or_leave_it_to_the_parameters() {
        let place = |address| place(address).map(|place| (place.container, place.account, place.key));
        assert_eq!(place("az://lake/a/b.csv"), Some(("lake", None, "a/b.csv")));
        assert_eq!(place("abfs://lake/a/"), Some(("lake", None, "a/")));
        for domain in ["dfs.core.windows.net", "blob.core.windows.net"] {
            let address = format!("abfss://lake@me.{domain}/a");
            assert_eq!(super::place(&address), Some(Place { container: "lake", account: Some("me"), key: "a" }));
        }
        for wrong in [
            "az://lake",
            "az://lake/",
            "az:///a",
            "abfss://lake@me/a",
            "abfss://lake@me.example.com/a",
            "abfss://@me.dfs.core.windows.net/a",
        ] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }
}
