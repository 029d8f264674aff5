//! Gathers what a plan looks at: from memory, but for what is read on demand (frozen pipelines, PodTemplates).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodTemplate};
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use millrace_core::api::{
    ConcurrencyPolicy, MLPipeline, MLPipelineRun, MLPipelineSpec, ModelDeployment, StageTemplate,
};
use millrace_core::autoscale::Window;
use millrace_core::deployment::DeploymentView;
use millrace_core::gateway_api::GatewayClass;
use millrace_core::pipeline::claims as mounted;
use millrace_core::pipeline::{Frozen, FrozenStage, Looks, PipelineObserved, sweep_is_due};
use millrace_core::plan::{Refusal, sooner};
use millrace_core::pod::Claims;
use millrace_core::run::{Claim, JobView, Peer, PodView};
use millrace_core::{deployment, duration, names, run};
use tokio::time::Instant;

use super::{Passes, claims};
use crate::key::Id;
use crate::store::{is_child, stage_pod_view};
use crate::wake::{followed, followers, pipeline_of, watched_models};
use crate::write::{WriteError, chain};

/// What has ended for so long has no pods of items any more.
const ITEMS_STOP: Duration = Duration::from_mins(10);
/// How long a PodTemplate of the catalog is taken for unchanged.
const TEMPLATE_AGE: Duration = Duration::from_secs(10);

type Templates = BTreeMap<String, Arc<StageTemplate>>;

/// Whether a stage ended so long ago that no pod of it runs any more.
fn ended_before(run: &MLPipelineRun, stage: &str, now: Timestamp) -> bool {
    let status = run.status.as_ref().and_then(|status| status.stages.get(stage));
    let ended = status.and_then(|status| status.completion_time.as_ref());
    ended.is_some_and(|ended| duration::since(ended.0, now) > ITEMS_STOP)
}

/// PodTemplates that were read, and when; also those that were not there.
#[derive(Default)]
pub struct PodTemplates(Mutex<HashMap<String, Looked>>);

/// When it was looked for, and what was there.
type Looked = (Instant, Option<Arc<PodTemplate>>);

impl Passes {
    /// What a pipeline looks at, and when it is to look again for what no watch tells.
    pub(super) async fn observe_pipeline(
        &self,
        id: &Id,
        pipeline: &MLPipeline,
        refusals: Vec<Refusal>,
        now: Timestamp,
    ) -> (PipelineObserved, Option<Duration>) {
        let model = |name: &str| Some((name.to_owned(), self.stores.deployments.get(&Id::new(&id.namespace, name))?));
        let (mut runs, mut upstream_runs) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
        for run in self.stores.runs.group(&id.namespace).into_values() {
            let Some(of) = pipeline_of(&run) else { continue };
            if followed(pipeline).any(|name| name == of) {
                upstream_runs.entry(of.to_owned()).or_default().push(run.clone());
            }
            if of == id.name {
                runs.push(run);
            }
        }
        let (looks, look_again) = self.looks(id, pipeline, now).await;
        let templates = self.stores.templates_for(&id.namespace, &self.config.catalog_namespace);
        let mounts = mounted::of_spec(&pipeline.spec, &templates);
        let claims = self.claims(&id.namespace, mounts).await.unwrap_or_else(|error| {
            tracing::warn!(object = %id, error = %chain(&error), "what a pipeline mounts cannot be read; nothing is said of it");
            Claims::new()
        });
        let mut observed = PipelineObserved {
            templates,
            model_deployments: watched_models(pipeline).filter_map(model).collect(),
            runs,
            upstreams: self.upstreams(id, pipeline),
            upstream_runs,
            followers: followers(&self.stores, id, false)
                .iter()
                .filter_map(|key| self.stores.pipelines.get(key))
                .collect(),
            looks,
            needs: None,
            claims,
            refusals,
        };
        if sweep_is_due(pipeline, &observed, now) {
            observed.needs = self.needs(id, pipeline, &observed).await;
        }
        (observed, look_again)
    }

    /// The pipelines that one follows, and those that these follow.
    fn upstreams(&self, id: &Id, pipeline: &MLPipeline) -> BTreeMap<String, Arc<MLPipeline>> {
        let mut found: BTreeMap<String, Arc<MLPipeline>> = BTreeMap::new();
        let mut names: Vec<String> = followed(pipeline).map(str::to_owned).collect();
        while let Some(name) = names.pop() {
            let there = self.stores.pipelines.get(&Id::new(&id.namespace, &name));
            if let Some(next) = there.filter(|_| !found.contains_key(&name)) {
                names.extend(followed(&next).map(str::to_owned));
                found.insert(name, next);
            }
        }
        found
    }

    /// What looks for data for a pipeline.
    async fn looks(&self, id: &Id, pipeline: &MLPipeline, now: Timestamp) -> (Looks, Option<Duration>) {
        let uid = pipeline.uid().unwrap_or_default();
        let jobs: Vec<_> = self.stores.look_jobs.group(&uid).into_values().collect();
        let mut pods: Vec<_> = self.stores.look_pods.group(&uid).into_values().collect();
        let (warnings, of_jobs) = self.warnings.of(&self.client, &id.namespace, &jobs, &pods, now).await;
        let of_pods = self.warnings.tell(&self.client, &id.namespace, &mut pods, now).await;
        (Looks { jobs, pods, warnings }, sooner(of_jobs, of_pods))
    }

    /// What a run looks at, and when it is to look again for what no watch tells.
    pub(super) async fn observe_run(
        &self,
        id: &Id,
        run: &MLPipelineRun,
        refusals: Vec<Refusal>,
        now: Timestamp,
    ) -> Result<(run::Observed, Option<Duration>), WriteError> {
        let uid = run.uid().unwrap_or_default();
        // One that has ended looks at nothing of what it ran.
        let ended = run::ended(run).is_some();
        let named = run.status.as_ref().filter(|_| !ended).and_then(|s| s.frozen.as_ref());
        let frozen = match named {
            Some(name) => self.frozen.get(&self.client, &Id::new(&id.namespace, name)).await?,
            None => None,
        };
        let pipeline = pipeline_of(run).and_then(|name| self.stores.pipelines.get(&Id::new(&id.namespace, name)));
        let peers = pipeline.as_ref().map(|found| self.peers(id, run, found)).unwrap_or_default();
        let spec = pipeline.as_ref().map(|p| &p.spec).or(run.spec.pipeline.as_ref());
        let locks =
            if !ended && run::has_locks(frozen.as_deref(), spec) { self.locks(id, run, now) } else { Vec::new() };
        let superseded = self.superseded(id, run);
        let lost = named.is_none() && pipeline.is_none() && run.spec.pipeline_ref.is_some();
        let pipelines = if lost { self.stores.pipelines.group(&id.namespace) } else { BTreeMap::default() };
        let templates = self.stores.templates_for(&id.namespace, &self.config.catalog_namespace);
        let wanted = match &frozen {
            Some(frozen) => templates_of_frozen(frozen),
            None if ended => BTreeSet::new(),
            None => {
                let spec = pipeline.as_ref().map(|p| &p.spec).or(run.spec.pipeline.as_ref());
                spec.map(|spec| templates_of_spec(spec, &templates)).unwrap_or_default()
            }
        };
        let pod_templates = self.pod_templates(wanted).await?;
        let model_versions: Vec<_> = self.stores.versions.group(&id.namespace).into_values().collect();
        let mut mounts = claims::of_run(frozen.as_deref(), spec.filter(|_| !ended), &templates, &model_versions);
        mounts.extend(claims::of_given(&run.spec.inputs).filter(|_| !ended));
        mounts.extend(pod_templates.values().flat_map(|template| claims::of_template(template)));
        let claims = self.claims(&id.namespace, mounts).await?;
        let jobs: Vec<_> = self.stores.jobs.group(&uid).into_values().collect();
        let mut pods: Vec<_> = self.stores.stage_pods.group(&uid).into_values().collect();
        pods.extend(self.unseen_pods(&id.namespace, run, &jobs, &pods).await?);
        pods.extend(self.item_pods(&id.namespace, run, &jobs).await?);
        let (job_warnings, of_jobs) = self.warnings.of(&self.client, &id.namespace, &jobs, &pods, now).await;
        let of_pods = self.warnings.tell(&self.client, &id.namespace, &mut pods, now).await;
        let look_again = sooner(of_jobs, of_pods);
        let nested = self.nested(id, run, frozen.as_deref());
        let held_versions = self.held_versions(id, frozen.as_deref()).await?;
        let observed = run::Observed {
            pipeline,
            peers,
            locks,
            superseded,
            pipelines: pipelines.into_keys().collect(),
            templates,
            pod_templates,
            frozen,
            nested,
            above: self.above(id, run),
            jobs,
            pods,
            model_versions,
            held_versions,
            model_deployments: self.stores.deployments.group(&id.namespace),
            refusals,
            job_warnings,
            claims,
            // Taken last, by `look_at_cache`.
            cache: run::CacheSnapshot::default(),
        };
        Ok((observed, look_again))
    }

    /// The other runs of a pipeline that have not ended, where the run looks at them: before it begins, and while it may be replaced.
    fn peers(&self, id: &Id, run: &MLPipelineRun, pipeline: &MLPipeline) -> Vec<Peer> {
        let Some((policy, _)) = run::bound(pipeline.spec.concurrency.as_ref()) else { return Vec::new() };
        let looks = Peer::of(run).is_some_and(|this| !this.begun() || policy == ConcurrencyPolicy::Replace);
        let mut peers = Vec::new();
        if looks {
            self.stores.runs.each(Some(&id.namespace), |key, other| {
                if key != id && pipeline_of(other) == pipeline.metadata.name.as_deref() {
                    peers.extend(Peer::of(other));
                }
            });
        }
        peers
    }

    /// The ModelVersions that other runs and pipelines of the namespace need, where the run may delete some.
    async fn held_versions(&self, id: &Id, frozen: Option<&Frozen>) -> Result<BTreeSet<String>, WriteError> {
        let mut held = BTreeSet::new();
        if !frozen.is_some_and(Frozen::deletes_versions) {
            return Ok(held);
        }
        let mut going_on = BTreeSet::new();
        self.stores.runs.each(Some(&id.namespace), |key, other| {
            if key != id && run::ended(other).is_none() {
                held.extend(run::held_versions(other));
                held.extend(other.spec.pipeline.as_ref().map(run::pinned_versions).unwrap_or_default());
                going_on.extend(other.status.as_ref().and_then(|s| s.frozen.clone()));
            }
        });
        // What they run may be another pipeline than there is now.
        for name in going_on {
            let frozen = self.frozen.get(&self.client, &Id::new(&id.namespace, &name)).await?;
            held.extend(frozen.as_deref().map(run::frozen_versions).unwrap_or_default());
        }
        self.stores
            .pipelines
            .each(Some(&id.namespace), |_, pipeline| held.extend(run::pinned_versions(&pipeline.spec)));
        Ok(held)
    }

    /// The runs of the stages that run another pipeline, by name.
    fn nested(&self, id: &Id, run: &MLPipelineRun, frozen: Option<&Frozen>) -> BTreeMap<String, Arc<MLPipelineRun>> {
        let of_items = frozen.is_some_and(|frozen| frozen.stages.values().any(FrozenStage::runs_pipeline_for_items));
        let again = || {
            run.status.iter().flat_map(|status| status.stages.values()).any(|stage| stage.retries + stage.failures > 0)
        };
        if of_items || again() {
            // There may be a thousand of them, and no status lists them, nor what ran before a stage was begun again.
            return self.stores.children(&id.namespace, run);
        }
        let stages = run.status.iter().flat_map(|status| status.stages.values());
        let named = stages.filter_map(|status| status.run.as_ref());
        named
            .filter_map(|named| {
                let found = self.stores.runs.get(&Id::new(&id.namespace, &named.name))?;
                is_child(&found, run).then(|| (named.name.clone(), found))
            })
            .collect()
    }

    /// The runs that a nested one belongs to.
    fn above(&self, id: &Id, run: &MLPipelineRun) -> run::Above {
        let of = |run: &MLPipelineRun| {
            let owner = run::parent(run)?;
            let found = self.stores.runs.get(&Id::new(&id.namespace, &owner.name))?;
            (found.metadata.uid.as_ref() == Some(&owner.uid)).then_some(found)
        };
        let mut above = run::Above::default();
        let mut next = of(run);
        above.ended = next.as_ref().and_then(|parent| run::ended_by(parent, run));
        while let Some(parent) = next.take_if(|_| above.pipelines.len() <= run::DEEPEST) {
            above.pipelines.push(pipeline_of(&parent).map(str::to_owned));
            above.items |= parent.metadata.labels.iter().any(|labels| labels.contains_key(names::ITEM_LABEL));
            next = of(&parent);
        }
        above
    }

    /// The names of the runs that a nested one belongs to.
    fn names_above(&self, id: &Id, run: &MLPipelineRun) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut next = run::parent(run).map(|owner| owner.name.clone());
        while let Some(name) = next.take_if(|_| names.len() <= run::DEEPEST) {
            let above = self.stores.runs.get(&Id::new(&id.namespace, &name));
            next = above.and_then(|above| run::parent(&above).map(|owner| owner.name.clone()));
            names.insert(name);
        }
        names
    }

    /// What the other runs of the namespace hold and wait for.
    fn locks(&self, id: &Id, run: &MLPipelineRun, now: Timestamp) -> Vec<Claim> {
        let mut found = Vec::new();
        let above = self.names_above(id, run);
        self.stores.runs.each(Some(&id.namespace), |key, other| {
            if key != id && other.status.as_ref().is_some_and(|status| status.completion_time.is_none()) {
                let pipeline =
                    pipeline_of(other).and_then(|name| self.stores.pipelines.get(&Id::new(&id.namespace, name)));
                let pods = || self.stores.stage_pods.group(&other.uid().unwrap_or_default());
                // Of the pods of items only their own run knows: they may run for as long as pods may take to stop.
                let items = |stage: &str| run::has_item_pods(other, stage) && !ended_before(other, stage, now);
                let runs =
                    |stage: &str| items(stage) || pods().values().any(|pod| pod.stage == stage && run::runs(pod));
                found.extend(run::claims(other, run::priority(other, pipeline.as_deref()), runs));
            }
        });
        // What a run holds that it belongs to is held for it too.
        found.retain(|claim| !(claim.held && claim.stage.is_none() && above.contains(&claim.run)));
        found
    }

    /// The stages of a run that wait for a person, and a newer run of the pipeline that asks the same.
    fn superseded(&self, id: &Id, run: &MLPipelineRun) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let Some(pipeline) = pipeline_of(run).filter(|_| run::asks(run)) else { return found };
        self.stores.runs.each(Some(&id.namespace), |key, other| {
            if key != id && pipeline_of(other) == Some(pipeline) {
                // The same one in every pass: it is told.
                for stage in run::superseded(run, other) {
                    let newer = found.entry(stage.to_owned()).or_insert_with(|| key.name.clone());
                    if key.name > *newer {
                        newer.clone_from(&key.name);
                    }
                }
            }
        });
        found
    }

    /// The pods of Jobs that are over whose pods the watch has not brought: the two watches come in any order, and a pod
    /// that is not seen is not yet a pod that is lost.
    async fn unseen_pods(
        &self,
        namespace: &str,
        run: &MLPipelineRun,
        jobs: &[Arc<JobView>],
        pods: &[Arc<PodView>],
    ) -> Result<Vec<Arc<PodView>>, WriteError> {
        let stages = run.status.as_ref().map(|status| &status.stages);
        let awaited = |job: &JobView| {
            let stage = stages.and_then(|stages| stages.get(&job.stage));
            stage.is_some_and(|stage| !stage.state.ended() && stage.attempts == job.attempt)
        };
        let unseen = jobs.iter().find(|job| {
            (job.complete || job.failed.is_some())
                && job.items.is_none()
                && awaited(job)
                && !pods.iter().any(|pod| pod.owner.as_ref() == Some(&job.uid))
        });
        let (Some(_), Some(uid)) = (unseen, run.uid()) else { return Ok(Vec::new()) };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let labels = ListParams::default().labels(&format!("{}={uid}", names::RUN_UID_LABEL));
        let found = api.list(&labels).await.map_err(|e| WriteError::new("list", "the pods of a run", e))?;
        let known = |pod: &PodView| pods.iter().any(|seen| seen.uid == pod.uid);
        Ok(found.items.iter().map(stage_pod_view).filter(|pod| !known(pod)).map(Arc::new).collect())
    }

    pub(super) async fn observe_deployment(
        &self,
        id: &Id,
        deployment: &ModelDeployment,
        refusals: Vec<Refusal>,
        now: Timestamp,
    ) -> Result<(deployment::Observed, Option<Duration>), WriteError> {
        let group = id.to_string();
        let wanted = deployment.spec.server.iter().filter_map(|s| s.settings.pod_template.clone()).collect();
        let mut pods: Vec<_> = self.stores.server_pods.group(&group).into_values().collect();
        let look_again = self.warnings.tell(&self.client, &id.namespace, &mut pods, now).await;
        let mut deployments = self.stores.server_deployments.group(&group);
        let log_writer = deployments.remove(&names::log_writer(&id.name));
        let applied_log_writer = log_writer
            .as_ref()
            .and_then(|there| self.stores.applied.get(&Id::new(&id.namespace, &there.name), &there.uid));
        let applied = self.stores.applied.of(&id.namespace, deployments.iter().map(|(name, view)| (name, &view.uid)));
        let services = self.stores.services.group(&group);
        let uids = services.iter().map(|(name, view)| (name, &view.uid));
        let applied_services = self.stores.applied_services.of(&id.namespace, uids);
        let autoscaler = self.stores.autoscalers.group(&group).remove(&id.name);
        let applied_autoscaler =
            autoscaler.as_ref().and_then(|there| self.stores.applied_autoscalers.get(id, &there.uid));
        let budget = self.stores.budgets.group(&group).remove(&id.name);
        let applied_budget = budget.as_ref().and_then(|there| self.stores.applied_budgets.get(id, &there.uid));
        let load = self.load(id, deployment, &deployments, now);
        let desired = deployment.status.as_ref().and_then(|status| status.desired_replicas);
        let reached = self.stores.reached.look(&id.namespace, &deployments, desired);
        let observed = deployment::Observed {
            applied,
            applied_services,
            model_versions: self.stores.versions.group(&id.namespace).into_values().collect(),
            deployments: deployments.into_values().collect(),
            log_writer,
            applied_log_writer,
            pods,
            service: self.stores.services.get(id),
            services,
            autoscaler,
            applied_autoscaler,
            budget,
            applied_budget,
            gateways: self.gateways(id, deployment).await,
            routers: self.routers(id),
            load,
            measured: deployment::watched(deployment).and_then(|_| self.stores.tallies.measured(id)),
            drift: deployment::monitored(deployment).and_then(|of| self.stores.drifts.sum(id, &of, now)),
            candidate_drift: deployment::monitored_candidate(deployment)
                .and_then(|of| self.stores.drifts.sum(id, &of, now)),
            reached,
            pod_templates: self.pod_templates(wanted).await?,
            refusals,
        };
        Ok((observed, look_again))
    }

    /// What there is of the Gateway API for a model.
    async fn gateways(&self, id: &Id, deployment: &ModelDeployment) -> deployment::Gateways {
        let stores = &self.stores;
        let route = stores.http_routes.get(id);
        let applied = route.as_ref().and_then(|there| stores.applied_http_routes.get(id, &there.uid));
        let readable = |namespace: &str| {
            self.config.namespaces.is_empty() || self.config.namespaces.iter().any(|one| one == namespace)
        };
        let named = deployment::named_gateways(deployment).filter(|(namespace, _)| readable(namespace));
        let named: BTreeMap<_, _> = named
            .map(|(namespace, name)| {
                (deployment::gateway_key(namespace, name), stores.gateways.get(&Id::new(namespace, name)))
            })
            .collect();
        let classes = named.values().flatten().filter(|_| deployment::asks_for_features(deployment));
        let features = self.features(classes.map(|gateway| gateway.class.clone()).collect()).await;
        deployment::Gateways { api: stores.gateway_api.get(), route, applied, named, features }
    }

    /// What the classes of Gateways support, of those that can be read.
    async fn features(&self, classes: BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
        let api: Api<GatewayClass> = Api::all(self.client.clone());
        let mut found = BTreeMap::new();
        for name in classes {
            match api.get_opt(&name).await {
                Ok(class) => found.extend(class.map(|class| (name, class.features()))),
                // With rights in some namespaces only there is none to it; the plan says so.
                Err(error) => tracing::info!(class = name, %error, "a GatewayClass cannot be read"),
            }
        }
        found
    }

    /// The load of the model whose pods follow it.
    fn load(
        &self,
        id: &Id,
        deployment: &ModelDeployment,
        views: &BTreeMap<String, Arc<DeploymentView>>,
        now: Timestamp,
    ) -> Option<Window> {
        let (revision, follow) = deployment::followed(deployment)?;
        Some(self.stores.load(id, &follow, views.get(revision)?, now))
    }

    /// The PodTemplates of these names that the catalog has.
    async fn pod_templates(&self, names: BTreeSet<String>) -> Result<BTreeMap<String, Arc<PodTemplate>>, WriteError> {
        let mut found = BTreeMap::new();
        for name in names {
            if let Some(template) = self.pod_template(&name).await? {
                found.insert(name, template);
            }
        }
        Ok(found)
    }

    async fn pod_template(&self, name: &str) -> Result<Option<Arc<PodTemplate>>, WriteError> {
        {
            let kept = self.pod_templates.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, template)) = kept.get(name).filter(|(read, _)| read.elapsed() < TEMPLATE_AGE) {
                return Ok(template.clone());
            }
        }
        let api: Api<PodTemplate> = Api::namespaced(self.client.clone(), &self.config.catalog_namespace);
        let read = api.get_opt(name).await.map_err(|e| WriteError::new("read", &format!("PodTemplate {name}"), e))?;
        let template = read.map(Arc::new);
        let mut kept = self.pod_templates.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (read, _)| read.elapsed() < TEMPLATE_AGE);
        kept.insert(name.to_owned(), (Instant::now(), template.clone()));
        Ok(template)
    }
}

fn templates_of_frozen(frozen: &Frozen) -> BTreeSet<String> {
    let containers = frozen.stages.values().filter_map(FrozenStage::container);
    containers.filter_map(|c| c.container.settings.pod_template.clone()).collect()
}

/// Those that a pipeline may name once its templates are resolved.
fn templates_of_spec(spec: &MLPipelineSpec, templates: &Templates) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for stage in spec.stages.values().chain(spec.finally.values()) {
        let own = stage.container.as_ref().and_then(|c| c.settings.pod_template.clone());
        let laid_over = stage.overrides.as_ref().and_then(|o| o.pod_template.clone());
        let template = stage.uses.as_ref().and_then(|name| templates.get(name));
        let used = template.and_then(|t| t.spec.container.settings.pod_template.clone());
        names.extend([own, laid_over, used].into_iter().flatten());
    }
    names
}
