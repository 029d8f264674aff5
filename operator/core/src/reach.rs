//! How pods of Millrace's own image reach data that a spec names: a table, or data that a trigger waits for. They alone are given the
//! credentials.

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, SecretKeySelector};
use millrace_contract::StoreKind;
use serde_json::{Value, json};

use crate::access::{self, Kind};
use crate::api::{SecretName, StoreAccess};
use crate::names;
use crate::problem::Problem;

/// Claim and path of a `pvc://` address.
pub(crate) fn claim_of(uri: &str) -> Option<(&str, &str)> {
    names::claim_and_path(uri.strip_suffix('/').unwrap_or(uri))
}

/// What an address is of.
pub(crate) fn kind_of(uri: &str) -> Option<Kind> {
    uri.split_once("://").and_then(|(scheme, _)| Kind::of(scheme))
}

/// What is wrong with the address of a table, or with the way to it. `at` is the path of what has both.
pub(crate) fn of_table(uri: &str, access: Option<&StoreAccess>, at: &str) -> Vec<Problem> {
    let known = match uri.split_once("://") {
        Some(("s3" | "gs" | "az", place)) => place.split_once('/').is_some_and(|(bucket, key)| {
            !bucket.is_empty() && !key.is_empty() && key.split('/').all(|part| part != "..")
        }),
        Some(("pvc", _)) => claim_of(uri).is_some(),
        _ => false,
    };
    let mut problems = Vec::new();
    if !known {
        let message = format!(
            "`{uri}` is no address of a table: write s3://<bucket>/<path>, the same with gs:// or az://, or pvc://<claim>/<path>"
        );
        problems.push(Problem::new(format!("{at}.uri"), "InvalidAddress", message));
    }
    problems.extend(access::of_data(uri, &access.cloned().unwrap_or_default(), &format!("{at}.access")));
    problems
}

/// How a stock stage's program reaches the bucket: its parameter, where there is something to say.
pub(crate) fn parameter(kind: Kind, access: &StoreAccess) -> Option<(&'static str, Value)> {
    let StoreAccess { endpoint, region, account, anonymous, .. } = access;
    if endpoint.is_none() && region.is_none() && account.is_none() && !anonymous {
        return None;
    }
    let Kind::Bucket(cloud) = kind else { return None };
    let (parameter, mut how) = match cloud {
        StoreKind::S3 => {
            let http = endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
            ("s3", json!({ "endpoint": endpoint, "region": region, "allowHttp": http.then_some(true) }))
        }
        StoreKind::Gcs => ("gcs", json!({ "endpoint": endpoint })),
        StoreKind::Azure => ("azure", json!({ "endpoint": endpoint, "account": account })),
    };
    // Left out where nobody wrote it: the words of every other stage stay as they were.
    if *anonymous {
        how["anonymous"] = json!(true);
    }
    Some((parameter, how))
}

/// The keys of the Secret that are for the address, and no others. A header has to be there: nothing else would be read of the Secret.
pub(crate) fn credentials(uri: &str, secret: Option<&SecretName>) -> Option<Vec<EnvVar>> {
    let (secret, kind) = secret.zip(kind_of(uri))?;
    let (required, optional) = access::secret_keys(kind);
    let keys = required.iter().map(|key| (*key, false)).chain(optional.iter().map(|key| (*key, kind != Kind::Web)));
    let variable = |(key, optional): (&str, bool)| {
        let selector = SecretKeySelector { name: secret.name.clone(), key: key.to_owned(), optional: Some(optional) };
        let from = EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() };
        EnvVar { name: key.to_owned(), value: None, value_from: Some(from) }
    };
    Some(keys.map(variable).collect())
}
