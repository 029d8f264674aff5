//! Runs of a pipeline that bounds how many run begin one after the other: each sees whether the one before it has begun. So do runs that let
//! one of them make what all need, and runs and stages of a namespace that take a lock.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use kube::Api;
use millrace_core::api::MLPipelineRun;
use millrace_core::run::{self, Observed, Peer};
use tokio::sync::{Mutex, MutexGuard};

use super::Passes;
use crate::key::Id;
use crate::store::{Kept, keep, whole};
use crate::wake::{self, bound_of, pipeline_of};

/// How often a run is asked for whose write may or may not have been done. Where nobody answers for so long, hardly anybody's write is done.
const ASKED: u32 = 6;
/// A write whose answer did not come may still be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(250);

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

    /// Lets the plan of a run see what the cache has. Where one run at a time makes a result, held through the pass. Nothing else is asked for
    /// while it is held.
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

    /// Held through a pass that takes a lock of the namespace. It is asked for behind the gate of the pipeline, never before.
    pub(super) async fn lock_gate(&self, namespace: &str) -> MutexGuard<'_, ()> {
        self.lock_gates.of(&namespace).lock().await
    }

    /// What came of a pass. Where a gate is `held` for it and a write failed, it may have been done all the same: before another run passes the gate
    /// it is looked up what became of it.
    pub(super) async fn known<T, E>(&self, id: &Id, ended: Result<T, E>, held: bool) -> Result<T, E> {
        if ended.is_ok() || !held {
            return ended;
        }
        let api: Api<MLPipelineRun> = Api::namespaced(self.client.clone(), &id.namespace);
        tokio::time::sleep(ON_ITS_WAY).await;
        for time in 0..ASKED {
            if let Ok(found) = api.get_opt(&id.name).await {
                // One that is gone is taken away by the watch.
                if let Some(run) = found {
                    run.note(&self.stores, &self.queues);
                    if let Some(news) = keep(&self.stores.runs, run, whole) {
                        wake::run(&self.stores, &self.queues, id, &id.namespace, &news.value, news.gone);
                    }
                }
                break;
            }
            tokio::time::sleep(PAUSE * 2_u32.pow(time)).await;
        }
        ended
    }
}
