//! Azure Blob Storage. Who asks is in the variables that its own tools take, or is the pod itself.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use serde::Deserialize;

use super::error::{ObjectError, Words};
use super::{plain_http, retry};

/// An endpoint that begins with `http://` is asked without TLS.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AzureParams {
    /// The account that has the container, if the address does not name it.
    #[serde(default)]
    pub account: Option<String>,
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Ask without a signature: for public containers.
    #[serde(default)]
    pub anonymous: Option<bool>,
}

pub(super) const WORDS: Words = Words {
    form: "az://container/",
    credentials: "AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_KEY, or AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID",
    anonymous: "azure.anonymous",
    endpoint: "azure.account",
    settings: "azure.account and azure.endpoint",
    no_bucket: "ContainerNotFound",
};

/// `root` is what stands before the key.
pub(super) fn client(
    address: &str,
    root: &Root<'_>,
    options: &AzureParams,
) -> Result<Arc<dyn ObjectStore>, ObjectError> {
    let AzureParams { account, endpoint, anonymous } = options;
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(root.container)
        .with_retry(retry())
        .with_client_options(plain_http(endpoint.as_deref()));
    match (root.account, account.as_deref()) {
        (Some(named), Some(account)) if named != account => {
            return Err(ObjectError::OtherAccount { named: named.into(), account: account.into() });
        }
        (Some(account), _) | (None, Some(account)) => builder = builder.with_account(account),
        (None, None) if builder.get_config_value(&AzureConfigKey::AccountName).is_some() => {}
        (None, None) => return Err(ObjectError::NoAccount { address: address.to_owned() }),
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    if let Some(anonymous) = anonymous {
        builder = builder.with_skip_signature(*anonymous);
    }
    let settings = "azure.account, and azure.endpoint for another server";
    Ok(Arc::new(builder.build().map_err(|source| ObjectError::Client { settings, source })?))
}

/// A container, and whose it is, if the address says it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Root<'a> {
    pub container: &'a str,
    pub account: Option<&'a str>,
}

/// `container`, or `container@account.dfs.core.windows.net`.
pub(super) fn root(text: &str) -> Option<Root<'_>> {
    let Some((container, host)) = text.split_once('@') else {
        return Some(Root { container: text, account: None }).filter(|root| !root.container.is_empty());
    };
    let (account, domain) = host.split_once('.')?;
    let own = matches!(domain, "dfs.core.windows.net" | "blob.core.windows.net");
    (own && !container.is_empty() && !account.is_empty()).then_some(Root { container, account: Some(account) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_of_the_account_that_the_address_names_or_of_none() {
        assert_eq!(root("lake"), Some(Root { container: "lake", account: None }));
        for domain in ["dfs.core.windows.net", "blob.core.windows.net"] {
            let text = format!("lake@me.{domain}");
            assert_eq!(root(&text), Some(Root { container: "lake", account: Some("me") }));
        }
        for wrong in ["", "lake@me", "lake@me.example.com", "@me.dfs.core.windows.net", "lake@.dfs.core.windows.net"] {
            assert_eq!(root(wrong), None, "{wrong}");
        }
    }
}
