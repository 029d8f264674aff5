//! Runs of a pipeline that bounds how many run begin one after the other: each sees whether the one before it has begun. So do runs and stages of a
//! namespace that take a lock.

use std::hash::{DefaultHasher, Hash, Hasher};

use millrace_core::api::MLPipelineRun;
use millrace_core::run::Peer;
use tokio::sync::{Mutex, MutexGuard};

use super::Passes;
use crate::key::Id;
use crate::wake::{bound_of, pipeline_of};

/// Pipelines share a gate now and then: it costs a wait, never a run.
#[derive(Default)]
pub struct Gates([Mutex<()>; 32]);

impl Gates {
    fn of(&self, what: &impl Hash) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % 32).unwrap_or_default();
        &self.0[at]
    }
}

impl Passes {
    /// Held through the pass of a run that may begin in it. One that has begun needs none.
    pub(super) async fn gate(&self, id: &Id, run: &MLPipelineRun) -> Option<MutexGuard<'_, ()>> {
        let pipeline = Id::new(&id.namespace, pipeline_of(run)?);
        bound_of(&self.stores, &pipeline)?;
        Peer::of(run).filter(|peer| !peer.begun())?;
        Some(self.gates.of(&pipeline).lock().await)
    }

    /// Held through a pass that takes a lock of the namespace. It is asked for behind the other one, never before.
    pub(super) async fn lock_gate(&self, namespace: &str) -> MutexGuard<'_, ()> {
        self.lock_gates.of(&namespace).lock().await
    }
}
