//! What an address needs of `access`, and what it has no use for: of inputs by `uri`, and of models.

use millrace_contract::StoreKind;

use crate::api::{StoreAccess, UriAccess};
use crate::problem::Problem;
use crate::store;

impl StoreAccess {
    /// As it is written beside any address.
    pub(crate) fn for_any(self) -> UriAccess {
        let Self { endpoint, region, account, secret_ref, anonymous } = self;
        UriAccess { endpoint, region, account, secret_ref, anonymous, ca_config_map: None }
    }
}

/// What an address is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Web,
    Bucket(StoreKind),
    Claim,
}

/// How an address of each kind begins.
const SCHEMES: [(&str, Kind); 6] = [
    ("https", Kind::Web),
    ("http", Kind::Web),
    ("s3", Kind::Bucket(StoreKind::S3)),
    ("gs", Kind::Bucket(StoreKind::Gcs)),
    ("az", Kind::Bucket(StoreKind::Azure)),
    ("pvc", Kind::Claim),
];

impl Kind {
    pub fn of(scheme: &str) -> Option<Self> {
        SCHEMES.iter().find(|(known, _)| *known == scheme).map(|(_, kind)| *kind)
    }

    /// Whether something is done with this field of `access` for such an address.
    fn reads(self, field: &str) -> bool {
        match (self, field) {
            (Self::Claim, _) | (Self::Web, "endpoint" | "anonymous") => false,
            (_, "region") => self == Self::Bucket(StoreKind::S3),
            (_, "account") => self == Self::Bucket(StoreKind::Azure),
            _ => true,
        }
    }
}

/// The fields of `access` that would do nothing for an address of this kind, or harm, each with what to do. `at` is the path of `access`.
pub(crate) fn unfit(kind: Kind, access: &UriAccess, at: &str, reason: &'static str) -> Vec<Problem> {
    let UriAccess { endpoint, region, account, secret_ref, ca_config_map, anonymous } = access;
    let given = [
        ("endpoint", endpoint.is_some()),
        ("region", region.is_some()),
        ("account", account.is_some()),
        ("anonymous", *anonymous),
        ("secretRef", secret_ref.is_some()),
        ("caConfigMap", ca_config_map.is_some()),
    ];
    let mut problems = Vec::new();
    for (field, _) in given.iter().filter(|(field, given)| *given && !kind.reads(field)) {
        let message = format!("{field} is for an address that begins with {}: take it out", readers(field));
        problems.push(Problem::new(format!("{at}.{field}"), reason, message));
    }
    let host = endpoint.as_deref().and_then(|endpoint| endpoint.split_once("://")).map(|(_, rest)| rest);
    if let Some(host) = host.filter(|host| is_metadata(host.split('/').next().unwrap_or_default())) {
        let message = format!("{host} is for the machine alone, not for data: write the address of a server");
        problems.push(Problem::new(format!("{at}.endpoint"), reason, message));
    }
    problems
}

/// Where the files of a model lie, and `access` beside that: `whose` is the path of what has both.
pub(crate) fn of_model(uri: &str, access: Option<&StoreAccess>, whose: &str) -> Vec<Problem> {
    const REASON: &str = "InvalidArtifact";
    if store::place(uri, access).is_none() {
        let account =
            if uri.starts_with("az://") { format!(", with the account in {whose}.access") } else { String::new() };
        let message = format!("\"{uri}\" is no address: write {}{account}", store::ADDRESSES);
        return vec![Problem::new(format!("{whose}.uri"), REASON, message)];
    }
    let kind = uri.split_once("://").and_then(|(scheme, _)| Kind::of(scheme));
    let Some((kind, given)) = kind.zip(access.cloned()) else { return Vec::new() };
    if kind == Kind::Claim && access != Some(&StoreAccess::default()) {
        let message = "a claim needs no access: take it out";
        return vec![Problem::new(format!("{whose}.access"), REASON, message)];
    }
    unfit(kind, &given.for_any(), &format!("{whose}.access"), REASON)
}

/// The addresses that a field is for: `s3://, gs:// or az://`. Without TLS a secret is read as well, but nobody is advised to.
fn readers(field: &str) -> String {
    let reading = SCHEMES.iter().filter(|(scheme, kind)| *scheme != "http" && kind.reads(field));
    let names: Vec<String> = reading.map(|(scheme, _)| format!("{scheme}://")).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

/// What is wrong with the way to what a pod of the operator's reads: a table, or data that a trigger waits for.
pub(crate) fn of_data(uri: &str, access: &StoreAccess, at: &str) -> Vec<Problem> {
    const REASON: &str = "InvalidAddress";
    let Some(kind) = uri.split_once("://").and_then(|(scheme, _)| Kind::of(scheme)) else { return Vec::new() };
    if kind == Kind::Claim && *access != StoreAccess::default() {
        return vec![Problem::new(at, REASON, "a claim needs no access: take it out")];
    }
    let whole = access.clone().for_any();
    let mut problems = unfit(kind, &whole, at, REASON);
    if whole.anonymous && whole.secret_ref.is_some() {
        let message = "who asks without a signature needs no credentials: take secretRef or anonymous out";
        problems.push(Problem::new(format!("{at}.anonymous"), REASON, message));
    }
    if kind == Kind::Bucket(StoreKind::Azure) && whole.account.is_none() {
        let message = "az:// names the container alone: write access: { account: <storage account> }";
        problems.push(Problem::new(format!("{at}.account"), REASON, message));
    }
    problems
}

/// The keys that a Secret has for addresses of a kind: those that it must have, and those that it may have.
pub(crate) fn secret_keys(kind: Kind) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        Kind::Web => (&[], &["HTTP_AUTHORIZATION"]),
        Kind::Bucket(StoreKind::S3) => (&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], &["AWS_SESSION_TOKEN"]),
        Kind::Bucket(StoreKind::Gcs) => (&["GOOGLE_SERVICE_ACCOUNT_KEY"], &[]),
        Kind::Bucket(StoreKind::Azure) => (
            &[],
            &[
                "AZURE_STORAGE_ACCOUNT_KEY",
                "AZURE_STORAGE_SAS_KEY",
                "AZURE_CLIENT_ID",
                "AZURE_CLIENT_SECRET",
                "AZURE_TENANT_ID",
            ],
        ),
        Kind::Claim => (&[], &[]),
    }
}

/// Hosts from which a cloud tells a machine who it is. The agent looks again, at what names and redirects lead to.
pub(crate) fn is_metadata(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let name = host.strip_prefix('[').unwrap_or_else(|| host.split(':').next().unwrap_or_default());
    name.starts_with("169.254.") || name.starts_with("fe80:") || name.starts_with("metadata.google.internal")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(uri: &str, access: Value) -> Vec<String> {
        let access: StoreAccess = serde_json::from_value(access).unwrap();
        of_model(uri, Some(&access), "spec.model").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_an_address_needs_is_taken() {
        let all = json!({ "endpoint": "http://minio:9000", "region": "eu", "secretRef": { "name": "k" } });
        assert_eq!(found("s3://lake/m", all), Vec::<String>::new());
        assert_eq!(found("gs://lake/m", json!({ "secretRef": { "name": "k" } })), Vec::<String>::new());
        assert_eq!(found("az://box/m", json!({ "account": "lake" })), Vec::<String>::new());
        assert_eq!(found("pvc://claim/m", json!({})), Vec::<String>::new());
        assert!(of_model("pvc://claim/m", None, "spec.model").is_empty());
    }

    #[test]
    fn what_would_do_nothing_is_refused_with_the_addresses_that_it_is_for() {
        for (uri, access, says) in [
            (
                "gs://lake/m",
                json!({ "region": "eu" }),
                "spec.model.access.region: region is for an address that begins with s3://: take it out",
            ),
            (
                "gs://lake/m",
                json!({ "account": "lake" }),
                "spec.model.access.account: account is for an address that begins with az://: take it out",
            ),
            (
                "pvc://claim/m",
                json!({ "secretRef": { "name": "k" } }),
                "spec.model.access: a claim needs no access: take it out",
            ),
            (
                "s3://lake/m",
                json!({ "endpoint": "http://169.254.169.254" }),
                "spec.model.access.endpoint: 169.254.169.254 is for the machine alone, not for data: write the address of a server",
            ),
        ] {
            assert_eq!(found(uri, access), [says], "{uri}");
        }
        let both = found("s3://lake/../m", json!({ "account": "lake" }));
        assert!(both.len() == 1 && both[0].starts_with("spec.model.uri: "), "{both:?}");
        let account = found("az://box/m", json!({ "region": "eu" }));
        assert!(account[0].ends_with("with the account in spec.model.access"), "{account:?}");
    }
}
