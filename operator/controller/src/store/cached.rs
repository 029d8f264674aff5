//! The index of what can be taken from the cache, one for each namespace.

use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock};

use kube::ResourceExt;
use millrace_core::api::MLPipelineRun;
use millrace_core::run::{CacheIndex, CacheSnapshot};

use crate::key::Id;

#[derive(Default)]
pub struct Cached(RwLock<HashMap<String, CacheIndex>>);

impl Cached {
    /// Takes over what a run says. It must be the whole run: of one that has ended the shelf keeps less. Gives the runs that waited for it.
    pub fn put(&self, run: &MLPipelineRun) -> Vec<Id> {
        let namespace = run.namespace().unwrap_or_default();
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let waits = all.entry(namespace.clone()).or_default().put(run);
        ids(&namespace, waits)
    }

    /// Forgets a run that is gone. Gives the runs that waited for it.
    pub fn forget(&self, run: &MLPipelineRun) -> Vec<Id> {
        let (namespace, uid) = (run.namespace().unwrap_or_default(), run.uid().unwrap_or_default());
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(index) = all.get_mut(&namespace) else { return Vec::new() };
        let waits = index.forget(&uid);
        if index.is_unused() {
            all.remove(&namespace);
        }
        ids(&namespace, waits)
    }

    pub fn snapshot(&self, namespace: &str) -> CacheSnapshot {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(namespace).map(CacheIndex::snapshot).unwrap_or_default()
    }
}

fn ids(namespace: &str, names: BTreeSet<String>) -> Vec<Id> {
    names.into_iter().map(|name| Id::new(namespace, name)).collect()
}
