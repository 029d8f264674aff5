//! What runs run, read from its ControllerRevision on demand and kept while it is used. Its content never changes, so
//! what is kept is never stale.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{Api, Client, ResourceExt};
use millrace_core::pipeline::Frozen;

use crate::key::Id;
use crate::write::WriteError;

/// Runs of one pipeline share a revision, so this is pipelines in use rather than runs.
const KEPT: usize = 512;

#[derive(Default)]
struct Inner {
    entries: HashMap<Id, (u64, Arc<Frozen>)>,
    /// Counts uses: the entry with the smallest number was used longest ago.
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
        let data = revision.data.as_ref().map(|raw| raw.0.clone()).unwrap_or_default();
        let frozen = serde_json::from_value(data).map_err(|source| WriteError::Content {
            object: format!("ControllerRevision {}", revision.name_any()),
            source,
        })?;
        let frozen = Arc::new(frozen);
        self.lock().insert(Id::new(namespace, revision.name_any()), Arc::clone(&frozen));
        Ok(frozen)
    }
}

impl Inner {
    fn touch(&mut self, id: &Id) -> Option<Arc<Frozen>> {
        self.clock += 1;
        let clock = self.clock;
        let (used, frozen) = self.entries.get_mut(id)?;
        *used = clock;
        Some(Arc::clone(frozen))
    }

    fn insert(&mut self, id: Id, frozen: Arc<Frozen>) {
        self.clock += 1;
        self.entries.insert(id, (self.clock, frozen));
        if self.entries.len() > KEPT {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(id, _)| id.clone());
            oldest.map(|id| self.entries.remove(&id));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let empty = || {
            let (params, locks, stages) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            Arc::new(Frozen { params, store: None, timeout_seconds: None, locks, stages })
        };
        let (mut inner, id) = (Inner::default(), |n: usize| Id::new("ns", n.to_string()));
        (0..KEPT).for_each(|n| inner.insert(id(n), empty()));
        assert!(inner.touch(&id(0)).is_some());
        inner.insert(id(KEPT), empty());
        assert_eq!(inner.entries.len(), KEPT);
        assert!(inner.touch(&id(0)).is_some(), "it was used just now");
        assert!(inner.touch(&id(1)).is_none());
    }
}
