//! Which store it is that is kept in order: a pipeline may be given another one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::api::{ArchiveStatus, Store};
use crate::names;

/// Hex characters that name a store.
const STORE: usize = 16;

/// What says where a store lies, so that another one is known to be another. Who reaches it how does not count.
pub(super) fn digest(store: &Store) -> String {
    let text = match (crate::store::claim(store), crate::store::objects(store, "")) {
        (Some(claim), _) => format!("pvc://{claim}"),
        (None, Some(objects)) => {
            let mut source = objects.source();
            source.store.credentials = None;
            serde_json::to_string(&source).unwrap_or_default()
        }
        (None, None) => String::new(),
    };
    names::sha256_hex(text.as_bytes())[..STORE].to_owned()
}

pub(super) fn is_another(archive: &ArchiveStatus, store: &Store) -> bool {
    !archive.store.is_empty() && archive.store != digest(store)
}

/// Nothing of what is known is in the other store. A pod that works on the one before counts no more: its Job has the name of an earlier count.
pub(super) fn begins_anew(archive: &mut ArchiveStatus, now: Timestamp) {
    let ArchiveStatus { reports, runs, agent, .. } = std::mem::take(archive);
    *archive =
        ArchiveStatus { start_time: Some(Time(now)), reports: reports + 1, runs, agent, ..ArchiveStatus::default() };
}
