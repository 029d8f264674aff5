//! Addresses of artifacts, and what reaches them: a claim is mounted, everything else is the agent's to fetch and to write.

use k8s_openapi::api::core::v1::{EnvFromSource, SecretEnvSource};
use millrace_contract::{STORE_ENV, StoreKind, TaskSource, TaskStore, output_key};

use crate::api::{AzureStore, GcsStore, PvcStore, S3Store, Store, StoreAccess};
use crate::names;

/// Hex characters of the hash in the names of a Secret's variables.
const SHORT: usize = 8;

/// Where an artifact lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Mounted from a claim, by its path.
    Claim { claim: String, path: String },
    /// In a store of objects.
    Objects(Objects),
}

/// A file or a folder in a store of objects, and who may reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objects {
    pub kind: StoreKind,
    pub bucket: String,
    pub key: String,
    pub access: StoreAccess,
}

/// What an address has to look like, for messages.
pub const ADDRESSES: &str =
    "pvc://<claim>/<path>, s3://<bucket>/<path>, gs://<bucket>/<path> or az://<container>/<path>, without \"..\"";

/// The place that an address names. A path that climbs names none.
#[must_use]
pub fn place(uri: &str, access: Option<&StoreAccess>) -> Option<Place> {
    if let Some((claim, path)) = names::claim_and_path(uri) {
        return Some(Place::Claim { claim: claim.to_owned(), path: path.to_owned() });
    }
    let kind = match uri.split_once("://")?.0 {
        "s3" => StoreKind::S3,
        "gs" => StoreKind::Gcs,
        "az" => StoreKind::Azure,
        _ => return None,
    };
    let (bucket, key) = names::root_and_path(uri.split_once("://")?.1)?;
    let access = access.cloned().unwrap_or_default();
    // An address names the container alone, and names of containers are unique in their account only.
    if kind == StoreKind::Azure && access.account.is_none() {
        return None;
    }
    Some(Place::Objects(Objects { kind, bucket: bucket.to_owned(), key: key.to_owned(), access }))
}

/// The claim of a store, if it is one.
#[must_use]
pub fn claim(store: &Store) -> Option<&str> {
    store.pvc.as_ref().map(|pvc| pvc.claim_name.as_str())
}

/// A folder of a store that is no claim. `folder` is below the store's prefix.
#[must_use]
pub fn objects(store: &Store, folder: &str) -> Option<Objects> {
    let below =
        |prefix: Option<&String>| prefix.map_or_else(|| folder.to_owned(), |prefix| format!("{prefix}/{folder}"));
    let Store { pvc: _, s3, gcs, azure } = store;
    if let Some(S3Store { bucket, prefix, region, endpoint, secret_ref }) = s3.as_deref() {
        let access = StoreAccess {
            endpoint: endpoint.clone(),
            region: region.clone(),
            account: None,
            secret_ref: secret_ref.clone(),
            anonymous: false,
        };
        let key = below(prefix.as_ref());
        return Some(Objects { kind: StoreKind::S3, bucket: bucket.clone(), key, access });
    }
    if let Some(GcsStore { bucket, prefix, endpoint, secret_ref }) = gcs.as_deref() {
        let access =
            StoreAccess { endpoint: endpoint.clone(), secret_ref: secret_ref.clone(), ..StoreAccess::default() };
        let key = below(prefix.as_ref());
        return Some(Objects { kind: StoreKind::Gcs, bucket: bucket.clone(), key, access });
    }
    let AzureStore { account, container, prefix, endpoint, secret_ref } = azure.as_deref()?;
    let access = StoreAccess {
        endpoint: endpoint.clone(),
        region: None,
        account: Some(account.clone()),
        secret_ref: secret_ref.clone(),
        anonymous: false,
    };
    Some(Objects { kind: StoreKind::Azure, bucket: container.clone(), key: below(prefix.as_ref()), access })
}

/// The folder of an archive of code, below a store's root.
const CODE: &str = "code";
/// The archive in it.
const ARCHIVE: &str = "files.tar";

/// Where a store keeps the code of this digest: the folder of a claim, else the object.
#[must_use]
pub fn code(store: &Store, digest: &str) -> Option<Place> {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    let folder = format!("{CODE}/{hex}");
    match claim(store) {
        Some(claim) => Some(Place::Claim { claim: claim.to_owned(), path: folder }),
        None => objects(store, &format!("{folder}/{ARCHIVE}")).map(Place::Objects),
    }
}

/// How an artifact of a run's store is reached; nothing for a claim, whose address says all.
#[must_use]
pub fn access(store: Option<&Store>) -> Option<StoreAccess> {
    objects(store?, "").map(|objects| objects.access).filter(|access| *access != StoreAccess::default())
}

/// What lies at an address is in this store, and reached in the same way.
#[must_use]
pub fn holds(store: &Store, uri: &str, access: Option<&StoreAccess>) -> bool {
    match (place(uri, access), objects(store, "")) {
        (Some(Place::Claim { claim: found, .. }), _) => claim(store) == Some(&found),
        (Some(Place::Objects(found)), Some(ours)) => {
            (found.kind, found.bucket, found.access) == (ours.kind, ours.bucket, ours.access)
        }
        _ => false,
    }
}

/// A folder of a store, which is below the store's prefix: what begins the address of all that is in the store, and the path below that.
#[must_use]
pub fn address(store: &Store, folder: &str) -> Option<(String, String)> {
    if let Some(claim) = claim(store) {
        return Some((format!("pvc://{claim}/"), folder.to_owned()));
    }
    let source = objects(store, folder)?.source();
    let uri = source.uri();
    Some((uri.strip_suffix(&source.key)?.to_owned(), source.key))
}

/// The address of an output of the attempt that won. `folder` is the stage's.
#[must_use]
pub fn output_uri(store: Option<&Store>, folder: &str, attempt: u32, output: &str, digest: &str) -> String {
    let claim = match store {
        Some(Store { pvc: Some(PvcStore { claim_name }), .. }) => claim_name.as_str(),
        Some(store) => {
            let objects = objects(store, &format!("{folder}/{}", output_key(output, digest)));
            return objects.map(|objects| objects.source().uri()).unwrap_or_default();
        }
        None => "",
    };
    format!("pvc://{claim}/{folder}/attempts/{attempt}/outputs/{output}")
}

impl Objects {
    /// As the agent is told of it.
    #[must_use]
    pub fn source(&self) -> TaskSource {
        let StoreAccess { endpoint, region, account, secret_ref, anonymous } = &self.access;
        let store = TaskStore {
            kind: self.kind,
            bucket: self.bucket.clone(),
            endpoint: endpoint.clone(),
            region: region.clone(),
            account: account.clone(),
            credentials: secret_ref.as_ref().map(|secret| variables(&secret.name)),
            anonymous: *anonymous,
        };
        TaskSource { store, key: self.key.clone() }
    }

    /// The Secret with the credentials.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        self.access.secret_ref.as_ref().map(|secret| secret.name.as_str())
    }
}

/// What the names of a Secret's variables begin with.
pub(crate) fn variables(secret: &str) -> String {
    format!("{STORE_ENV}{}_", names::sha256_hex(secret.as_bytes())[..SHORT].to_ascii_uppercase())
}

/// The entries of these Secrets as variables of the agent, which are no program's.
#[must_use]
pub fn environment<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Option<Vec<EnvFromSource>> {
    let names: std::collections::BTreeSet<&str> = secrets.into_iter().collect();
    let from = |name: &str| EnvFromSource {
        prefix: Some(variables(name)),
        secret_ref: Some(SecretEnvSource { name: name.to_owned(), optional: None }),
        ..EnvFromSource::default()
    };
    (!names.is_empty()).then(|| names.into_iter().map(from).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn store(value: serde_json::Value) -> Store {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_output_has_an_address_in_every_store() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let hex = "ab".repeat(32);
        for (value, uri) in [
            (json!({ "pvc": { "claimName": "c" } }), "pvc://c/runs/r/train/attempts/2/outputs/model".to_owned()),
            (json!({ "s3": { "bucket": "b" } }), format!("s3://b/runs/r/train/outputs/model/{hex}")),
            (
                json!({ "s3": { "bucket": "b", "prefix": "a/c" } }),
                format!("s3://b/a/c/runs/r/train/outputs/model/{hex}"),
            ),
            (json!({ "gcs": { "bucket": "b" } }), format!("gs://b/runs/r/train/outputs/model/{hex}")),
            (
                json!({ "azure": { "account": "lake", "container": "b" } }),
                format!("az://b/runs/r/train/outputs/model/{hex}"),
            ),
        ] {
            let store = store(value);
            let found = output_uri(Some(&store), "runs/r/train", 2, "model", &digest);
            assert_eq!(found, uri);
            let place = place(&found, access(Some(&store)).as_ref()).expect("what is written is read");
            if let Place::Objects(objects) = place {
                assert_eq!(objects.source().uri(), uri);
            }
        }
    }

    #[test]
    fn what_lies_in_another_store_or_is_reached_otherwise_is_not_held() {
        let claim = store(json!({ "pvc": { "claimName": "c" } }));
        assert!(holds(&claim, "pvc://c/runs/r/a", None) && !holds(&claim, "pvc://cd/runs/r/a", None));
        assert_eq!(address(&claim, "runs/r"), Some(("pvc://c/".to_owned(), "runs/r".to_owned())));
        let s3 = |more: serde_json::Value| {
            let mut s3 = json!({ "bucket": "b", "prefix": "p", "secretRef": { "name": "keys" } });
            s3.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            store(json!({ "s3": s3 }))
        };
        let (own, made) = (s3(json!({})), "s3://b/p/runs/r/a/outputs/x/ab");
        assert_eq!(address(&own, "runs/r"), Some(("s3://b/".to_owned(), "p/runs/r".to_owned())));
        for (other, held) in [
            (json!({}), true),
            (json!({ "prefix": "q" }), true),
            (json!({ "bucket": "bc" }), false),
            (json!({ "endpoint": "http://h" }), false),
            (json!({ "secretRef": { "name": "others" } }), false),
        ] {
            let other = s3(other);
            assert_eq!(holds(&other, made, access(Some(&own)).as_ref()), held, "{other:?}");
        }
    }

    #[test]
    fn addresses_that_climb_or_say_too_little_name_no_place() {
        for uri in
            ["s3://b", "s3:///a", "s3://b/../c", "s3://b/a//c", "gs://b/", "az://b/a", "ftp://b/a", "https://b/a"]
        {
            assert_eq!(place(uri, None), None, "{uri}");
        }
    }

    #[test]
    fn a_public_bucket_is_asked_without_a_signature_only_where_that_is_said() {
        for (access, anonymous) in [(json!({}), false), (json!({ "anonymous": true }), true)] {
            let access: StoreAccess = serde_json::from_value(access).unwrap();
            let Some(Place::Objects(objects)) = place("gs://b/models/1", Some(&access)) else { panic!("{access:?}") };
            assert_eq!((objects.source().store.anonymous, objects.secret()), (anonymous, None));
        }
    }

    #[test]
    fn credentials_are_named_by_their_secret_and_each_is_handed_in_once() {
        let store = store(json!({ "s3": { "bucket": "b", "secretRef": { "name": "keys" } } }));
        let objects = objects(&store, "runs").unwrap();
        let told = objects.source().store.credentials.unwrap();
        let env = environment([objects.secret().unwrap(), "keys", "others"]).unwrap();
        assert_eq!(env.len(), 2);
        assert_eq!(env[0].prefix.as_deref(), Some(told.as_str()));
        assert!(told.starts_with("MILLRACE_STORE_") && told != variables("others"));
        assert_eq!(environment([]), None);
    }
}
