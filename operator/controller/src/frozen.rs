//! What runs run, read from its ControllerRevision on demand and kept while it is used. Its content never changes, so
//! what is kept is never stale.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{Api, Client, ResourceExt};
use millrace_core::pipeline::Frozen;
use serde::Deserialize;
use serde_json::Value;

use crate::key::Id;
use crate::write::WriteError;

/// Bytes of their content that are kept, as JSON. Runs of one pipeline share a revision; a run that is written inline has its own.
const KEPT: usize = 16 << 20;

struct Entry {
    /// The entry with the smallest number was used longest ago.
    used: u64,
    bytes: usize,
    frozen: Arc<Frozen>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<Id, Entry>,
    bytes: usize,
    /// Counts uses.
    clock: u64,
}

#[derive(Default)]
pub struct FrozenCache(Mutex<Inner>);

impl FrozenCache {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a run runs. Nothing if the revision is not there.
    pub async fn get(&self, client: &Client, id: &Id) -> Result<Option<Arc<Frozen>>, WriteError> {
        if let Some(frozen) = self.lock().touch(id) {
            return Ok(Some(frozen));
        }
        let api: Api<ControllerRevision> = Api::namespaced(client.clone(), &id.namespace);
        let object = || format!("ControllerRevision {}", id.name);
        let found = api.get_opt(&id.name).await.map_err(|e| WriteError::new("read", &object(), e))?;
        found.map(|revision| self.keep(&id.namespace, &revision)).transpose()
    }

    /// Keeps the content of a revision.
    pub fn keep(&self, namespace: &str, revision: &ControllerRevision) -> Result<Arc<Frozen>, WriteError> {
        let none = Value::Null;
        let data = revision.data.as_ref().map_or(&none, |raw| &raw.0);
        let frozen = Frozen::deserialize(data).map_err(|source| WriteError::Content {
            object: format!("ControllerRevision {}", revision.name_any()),
            source,
        })?;
        let (bytes, frozen) = (data.to_string().len(), Arc::new(frozen));
        self.lock().insert(Id::new(namespace, revision.name_any()), bytes, Arc::clone(&frozen));
        Ok(frozen)
    }
}

impl Inner {
    fn touch(&mut self, id: &Id) -> Option<Arc<Frozen>> {
        self.clock += 1;
        let clock = self.clock;
        let entry = self.entries.get_mut(id)?;
        entry.used = clock;
        Some(Arc::clone(&entry.frozen))
    }

    fn insert(&mut self, id: Id, bytes: usize, frozen: Arc<Frozen>) {
        self.clock += 1;
        self.bytes += bytes;
        let replaced = self.entries.insert(id, Entry { used: self.clock, bytes, frozen });
        self.bytes -= replaced.map_or(0, |entry| entry.bytes);
        // The one that was just used stays, however large it is.
        while self.bytes > KEPT && self.entries.len() > 1 {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(id, _)| id.clone());
            let gone = oldest.and_then(|id| self.entries.remove(&id));
            self.bytes -= gone.map_or(0, |entry| entry.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let empty = || Arc::new(Frozen::default());
        let (mut inner, id) = (Inner::default(), |n: usize| Id::new("ns", n.to_string()));
        (0..8).for_each(|n| inner.insert(id(n), KEPT / 8, empty()));
        assert!(inner.touch(&id(0)).is_some());
        inner.insert(id(8), KEPT / 8, empty());
        assert_eq!((inner.entries.len(), inner.bytes), (8, KEPT));
        assert!(inner.touch(&id(0)).is_some(), "it was used just now");
        assert!(inner.touch(&id(1)).is_none());
        inner.insert(id(8), KEPT / 4, empty());
        assert_eq!((inner.entries.len(), inner.bytes), (7, KEPT), "it is counted once");
        inner.insert(id(9), 2 * KEPT, empty());
        assert_eq!(inner.entries.len(), 1, "one is kept, however large");
    }
}
