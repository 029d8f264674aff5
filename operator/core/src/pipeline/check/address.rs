//! The address of an input by `uri`, and what it takes to reach it.

use std::collections::BTreeMap;

use millrace_contract::{GET_ENV, StoreKind};

use super::Problems;
use crate::access::{self, Kind, is_metadata};
use crate::api::{EnvValue, Input, InputMode, KeyRef, UriAccess};
use crate::{expr, names};

/// What is wrong with an address and with how it is reached.
pub(super) fn address(uri: &str, input: &Input, access: &UriAccess, at: &str, problems: &mut Problems) -> Option<Kind> {
    let path = format!("{at}.uri");
    let mut wrong = |message: String| problems.add(path.as_str(), "InvalidAddress", message);
    let Some((scheme, rest)) = uri.split_once("://") else {
        wrong(format!(
            "`{uri}` is no address: write one that begins with https://, http://, s3://, gs://, az:// or pvc://"
        ));
        return None;
    };
    let Some(kind) = Kind::of(scheme) else {
        wrong(format!("nobody reads {scheme}:// here: write https://, http://, s3://, gs://, az:// or pvc://"));
        return None;
    };
    let templated = expr::has_template(uri);
    let (root, below) = rest.split_once('/').unwrap_or((rest, ""));
    let climbs = below.split('/').any(|part| part == "..");
    match kind {
        Kind::Web if root.contains('@') => {
            wrong("it holds a user or a password, which everybody sees who may read the run: write access.secretRef with HTTP_AUTHORIZATION".to_owned());
        }
        Kind::Web if root.is_empty() => wrong("it names no host: write https://<host>/<file>".to_owned()),
        Kind::Web if is_metadata(root) => {
            wrong(format!("{root} is for the machine alone, not for data: write the address of a server"));
        }
        Kind::Claim if input.mode == InputMode::Uri => {
            wrong("a program reaches a claim by a path alone: leave mode out".to_owned());
        }
        Kind::Claim if !templated && names::claim_and_path(uri.trim_end_matches('/')).is_none() => {
            wrong("write pvc://<claim>/<path>, without \"..\"".to_owned());
        }
        Kind::Claim if expr::has_template(root) || !names::is_label(root) || climbs => {
            wrong(
                "the claim has to be named as it is called, and the path without \"..\": pvc://<claim>/<path>"
                    .to_owned(),
            );
        }
        Kind::Bucket(_) if root.is_empty() || below.is_empty() || climbs => {
            wrong(format!("write {scheme}://<bucket>/<path>, without \"..\""));
        }
        Kind::Web | Kind::Claim | Kind::Bucket(_) => {}
    }
    settled(kind, input, access, at, problems);
    Some(kind)
}

/// Fields of `access` that an address of this kind has no use for, and those that it needs.
fn settled(kind: Kind, input: &Input, access: &UriAccess, at: &str, problems: &mut Problems) {
    for problem in access::unfit(kind, access, &format!("{at}.access"), "InvalidAddress") {
        problems.add(problem.path, problem.reason, problem.message);
    }
    let UriAccess { account, secret_ref, anonymous, .. } = access;
    if *anonymous && secret_ref.is_some() {
        let message = "who asks without a signature needs no credentials: take secretRef or anonymous out";
        problems.add(format!("{at}.access.anonymous"), "InvalidAddress", message);
    }
    if input.digest.is_some() && input.max_age.is_some() {
        problems.add(format!("{at}.maxAge"), "InvalidInput", "what has a digest does not age: take maxAge out");
    }
    let reads = input.mode == InputMode::Path;
    if kind == Kind::Bucket(StoreKind::Azure) && account.is_none() && reads {
        let message = "az:// names the container alone: write access: { account: <storage account> }";
        problems.add(format!("{at}.access.account"), "InvalidAddress", message);
    }
}

/// What the agent needs to get at the address, by names that its program `get` knows.
pub(super) fn variables(kind: Kind, access: &UriAccess) -> BTreeMap<String, EnvValue> {
    let (required, optional) = access::secret_keys(kind);
    let mut found = BTreeMap::new();
    if let Some(secret) = &access.secret_ref {
        let keys =
            required.iter().map(|key| (*key, false)).chain(optional.iter().chain(&["ca.crt"]).map(|key| (*key, true)));
        found.extend(keys.map(|(key, optional)| {
            let key_ref = KeyRef { name: secret.name.clone(), key: key.to_owned(), optional };
            (format!("{GET_ENV}{key}"), EnvValue { secret: Some(key_ref), ..EnvValue::default() })
        }));
    }
    if let Some(authority) = &access.ca_config_map {
        let value = EnvValue { config_map: Some(authority.clone()), ..EnvValue::default() };
        found.insert(format!("{GET_ENV}ca.crt"), value);
    }
    found
}
