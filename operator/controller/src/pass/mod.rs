//! One pass: observe, plan, carry out.

mod claims;
mod gates;
mod graph;
mod items;
mod needs;
mod observe;
mod routing;
mod warnings;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::jiff::Timestamp;
use kube::{Client, ResourceExt};
use millrace_core::api::{MLPipelineRun, MLPipelineRunStatus};
use millrace_core::config::Config;
use millrace_core::plan::{Plan, Refusal, sooner};
use millrace_core::{deployment, model_version, pipeline, run};
use tokio::sync::{MutexGuard, watch};
use tokio::time::Instant;

use self::claims::KnownClaims;
use self::gates::Gates;
use self::observe::PodTemplates;
use self::routing::Refused;
use self::warnings::Warnings;
use crate::frozen::FrozenCache;
use crate::key::{Id, Kind};
use crate::metrics::{Metrics, Outcome};
use crate::queue::Next;
use crate::store::Stores;
use crate::wake::Queues;
use crate::write::{Done, Planned, WriteError, Writer, chain};

/// A pass whose object has changed meanwhile is made again by the change. This is for a change that was missed.
const AFTER_STALE: Duration = Duration::from_secs(2);
/// Between a pass of a pipeline and the next one.
const REST: Duration = Duration::from_millis(100);

/// Everything a pass needs.
pub struct Passes {
    pub client: Client,
    pub config: Config,
    pub stores: Arc<Stores>,
    pub queues: Arc<Queues>,
    pub frozen: Arc<FrozenCache>,
    pub writer: Writer,
    pub metrics: Metrics,
    pod_templates: PodTemplates,
    known_claims: KnownClaims,
    warnings: Warnings,
    refused: Refused,
    gates: Gates,
    makers: Gates,
    lock_gates: Gates,
    /// What the apiserver refused of the last pass, by object.
    refusals: Mutex<HashMap<(Kind, Id), Vec<Refusal>>>,
}

impl Passes {
    pub fn new(
        client: Client,
        config: Config,
        stores: Arc<Stores>,
        queues: Arc<Queues>,
        metrics: Metrics,
        instance: String,
    ) -> Self {
        let frozen = Arc::new(FrozenCache::default());
        let writer =
            Writer::new(client.clone(), stores.clone(), queues.clone(), frozen.clone(), metrics.clone(), instance);
        Self {
            client,
            config,
            stores,
            queues,
            frozen,
            writer,
            metrics,
            pod_templates: PodTemplates::default(),
            known_claims: KnownClaims::default(),
            warnings: Warnings::default(),
            refused: Refused::default(),
            gates: Gates::default(),
            makers: Gates::default(),
            lock_gates: Gates::default(),
            refusals: Mutex::default(),
        }
    }

    /// Works on one kind until `stop` says so. A pass that has begun is finished.
    pub async fn work(self: Arc<Self>, kind: Kind, mut stop: watch::Receiver<bool>) {
        let queue = self.queues.of(kind);
        loop {
            let id = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                id = queue.pop() => id,
            };
            let started = Instant::now();
            let (outcome, next) = match AssertUnwindSafe(self.pass(kind, &id)).catch_unwind().await {
                Ok(Ok(ended)) => ended,
                Ok(Err(error)) => {
                    tracing::warn!(kind = kind.as_str(), object = %id, error = %chain(&error), "pass failed; it will be made again");
                    (Outcome::Failed, Next::Failed(None))
                }
                Err(_) => {
                    tracing::error!(kind = kind.as_str(), object = %id, "pass panicked; this is a bug");
                    (Outcome::Panicked, Next::Failed(None))
                }
            };
            self.metrics.passed(kind, outcome, started.elapsed());
            match (kind, next) {
                (Kind::Pipeline, Next::Idle | Next::After(_)) => self.rest(id, next),
                _ => queue.done(&id, next),
            }
        }
    }

    /// A pass of a pipeline looks at all its runs, and each of these says something new several times. What they say shortly after a pass is looked
    /// at together: a thousand runs at once would cost a thousand times a thousand looks.
    fn rest(self: &Arc<Self>, id: Id, next: Next) {
        let passes = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(REST).await;
            passes.queues.of(Kind::Pipeline).done(&id, next);
        });
    }

    async fn pass(&self, kind: Kind, id: &Id) -> Result<(Outcome, Next), WriteError> {
        let refusals = self.take_refusals(kind, id);
        let refused_before = !refusals.is_empty();
        let now = Timestamp::now();
        match kind {
            Kind::Pipeline => {
                let Some(pipeline) = alive(self.stores.pipelines.get(id)) else { return Ok(self.gone(kind, id)) };
                let (observed, look_again) = self.observe_pipeline(id, &pipeline, refusals, now).await;
                let mut plan = tokio::task::block_in_place(|| pipeline::plan(&pipeline, &observed, &self.config, now));
                plan.requeue = sooner(plan.requeue, look_again);
                self.carry_out(id, &*pipeline, plan, refused_before).await
            }
            Kind::Run => {
                let Some(run) = alive(self.stores.runs.get(id)) else { return Ok(self.gone(kind, id)) };
                let gate = self.gate(id, &run).await;
                let (plan, makers) = self.plan_run(id, &run, refusals.clone(), now).await?;
                if !run::takes_locks(&run, &plan) {
                    let ended = self.carry_out(id, &*run, plan, refused_before).await;
                    return self.known(id, ended, gate.is_some() || makers.is_some()).await;
                }
                drop(makers);
                // Another may have taken it meanwhile: it is looked at again while nobody can.
                let _turn = self.lock_gate(&id.namespace).await;
                let Some(run) = alive(self.stores.runs.get(id)) else { return Ok(self.gone(kind, id)) };
                let (plan, _makers) = self.plan_run(id, &run, refusals, now).await?;
                let ended = self.carry_out(id, &*run, plan, refused_before).await;
                self.known(id, ended, true).await
            }
            Kind::Template => {
                let Some(template) = alive(self.stores.templates.get(id)) else { return Ok(self.gone(kind, id)) };
                let plan = pipeline::plan_template(&template, &self.config, now);
                self.carry_out(id, &*template, plan, refused_before).await
            }
            Kind::Version => {
                let Some(version) = alive(self.stores.versions.get(id)) else { return Ok(self.gone(kind, id)) };
                self.carry_out(id, &*version, model_version::plan(&version, now), refused_before).await
            }
            Kind::Deployment => {
                let Some(deployment) = alive(self.stores.deployments.get(id)) else { return Ok(self.gone(kind, id)) };
                let (observed, look_again) = self.observe_deployment(id, &deployment, refusals, now).await?;
                let mut plan = deployment::plan(&deployment, &observed, &self.config, now);
                plan.requeue = sooner(plan.requeue, look_again);
                let moves = plan.status.is_some() && !deployment::is_settled(&deployment);
                let ended = self.carry_out(id, &*deployment, plan, refused_before).await;
                if moves {
                    self.stores.hurry.ask(&id.namespace);
                }
                ended
            }
            Kind::Graph => self.pass_graph(id, refusals, refused_before, now).await,
            Kind::Routing => self.pass_routing(&id.namespace).await,
        }
    }

    /// What is planned for a run; and what is held until it is carried out.
    async fn plan_run(
        &self,
        id: &Id,
        run: &MLPipelineRun,
        refusals: Vec<Refusal>,
        now: Timestamp,
    ) -> Result<(Plan<MLPipelineRunStatus>, Option<MutexGuard<'_, ()>>), WriteError> {
        let (mut observed, look_again) = self.observe_run(id, run, refusals, now).await?;
        let makers = self.look_at_cache(id, run, &mut observed).await;
        // Expressions of strangers: what they cost is bounded, and still must not hold up who renews the lease.
        let mut plan = tokio::task::block_in_place(|| run::plan(run, &observed, &self.config, now));
        plan.requeue = sooner(plan.requeue, look_again);
        Ok((plan, makers))
    }

    async fn carry_out<K: Planned>(
        &self,
        id: &Id,
        object: &K,
        plan: Plan<K::Status>,
        refused_before: bool,
    ) -> Result<(Outcome, Next), WriteError> {
        let requeue = plan.requeue;
        match self.writer.carry_out(object, plan).await? {
            Done::Stale => Ok((Outcome::Stale, Next::After(AFTER_STALE))),
            Done::Carried(refusals) if refusals.is_empty() => {
                Ok((Outcome::Done, requeue.map_or(Next::Idle, Next::After)))
            }
            Done::Carried(refusals) => {
                for Refusal { object, code, reason, message } in &refusals {
                    tracing::info!(kind = K::KIND.as_str(), object = %id, refused = %object, code, %reason, %message, "refused");
                }
                self.refusals.lock().unwrap_or_else(PoisonError::into_inner).insert((K::KIND, id.clone()), refusals);
                // The plan is to hear of it at once; if it insists, it does so at growing intervals.
                let next = if refused_before { Next::Failed(requeue) } else { Next::After(Duration::ZERO) };
                Ok((Outcome::Refused, next))
            }
        }
    }

    fn gone(&self, kind: Kind, id: &Id) -> (Outcome, Next) {
        self.take_refusals(kind, id);
        (Outcome::Gone, Next::Idle)
    }

    fn take_refusals(&self, kind: Kind, id: &Id) -> Vec<Refusal> {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.remove(&(kind, id.clone())).unwrap_or_default()
    }
}

/// An object that is being deleted is left to the garbage collector.
fn alive<K: ResourceExt>(object: Option<Arc<K>>) -> Option<Arc<K>> {
    object.filter(|o| o.meta().deletion_timestamp.is_none())
}
