//! Runs of a pipeline that bounds how many run begin one after the other: each sees whether the one before it has begun. So do runs that let
//! one of them make what all need: each sees whether another is at it.

use std::hash::{DefaultHasher, Hash, Hasher};

use millrace_core::api::MLPipelineRun;
use millrace_core::run::{self, Observed, Peer};
use tokio::sync::{Mutex, MutexGuard};

use super::Passes;
use crate::key::Id;
use crate::wake::{bound_of, pipeline_of};

/// Pipelines share a gate now and then: it costs a wait, never a run.
#[derive(Default)]
pub struct Gates([Mutex<()>; 32]);

impl Passes {
    /// Held through the pass of a run that may begin in it. One that has begun needs none.
    pub(super) async fn gate(&self, id: &Id, run: &MLPipelineRun) -> Option<MutexGuard<'_, ()>> {
        let pipeline = Id::new(&id.namespace, pipeline_of(run)?);
        bound_of(&self.stores, &pipeline)?;
        Peer::of(run).filter(|peer| !peer.begun())?;
        Some(self.gates.of(&pipeline).lock().await)
    }

    /// Lets the plan of a run see what the cache has. Where one run at a time makes a result, held through the pass.
    pub(super) async fn look_at_cache(
        &self,
        id: &Id,
        run: &MLPipelineRun,
        observed: &mut Observed,
    ) -> Option<MutexGuard<'_, ()>> {
        let held = if run::serializes(run, observed) { Some(self.makers.of(&id.namespace).lock().await) } else { None };
        observed.cache = self.stores.cached.snapshot(&id.namespace);
        held
    }
}

impl Gates {
    fn of(&self, what: &impl Hash) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        let Self(gates) = self;
        let at = usize::try_from(hasher.finish() % 32).unwrap_or_default();
        &gates[at]
    }
}
