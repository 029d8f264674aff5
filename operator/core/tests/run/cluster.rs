//! A Kubernetes small enough to read: Jobs, their pods, ModelVersions and one ModelDeployment, moved by a script. It
//! carries out plans in the order of `plan.rs`, and can crash before or after any write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PodTemplate;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use millrace_core::api::{
    ConditionStatus, DeployedModel, MLPipeline, MLPipelineRun, MLPipelineRunStatus, MLPipelineSpec, ModelDeployment,
    ModelDeploymentStatus, ModelVersion, StageStatus, set_condition,
};
use millrace_core::config::Config;
use millrace_core::deployment::take_report;
use millrace_core::names;
use millrace_core::pipeline::Frozen;
use millrace_core::plan::{Apply, Create, Delete, DeleteKind, Event, FIELD_OWNED, Plan, Refusal};
use millrace_core::pod::Claims;
use millrace_core::run::{self, Above, CacheIndex, Claim, JobItems, JobView, Observed, Peer, PodView, Words};
use serde_json::{Value, json};

use crate::node;

/// How an attempt goes, besides well.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    Succeeds(Value),
    Exits(i32),
    /// The kernel killed the program; the agent reports it.
    OutOfMemory,
    /// The kernel killed the agent too: no report.
    OutOfMemoryWithAgent,
    ExitsWithoutReport,
    /// The agent finds this input damaged.
    LosesInput(&'static str),
    Evicted,
    /// It was complete, then its node went, and the report with it.
    LostWithNode,
    JobDeleted,
    PodDeleted,
    /// Its image is not there.
    NoImage,
    /// It never ends.
    Hangs,
}

/// What a ModelDeployment that does not serve what its spec asks for says, and whether that is its last word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Said {
    pub reason: &'static str,
    pub message: &'static str,
    pub stalled: bool,
}

/// When the operator dies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crash {
    Before(usize),
    After(usize),
}

pub struct Cluster {
    pub run: MLPipelineRun,
    pub config: Config,
    pub now: Timestamp,
    pub frozen: Option<(String, Arc<Frozen>)>,
    pub jobs: BTreeMap<String, (JobView, Job)>,
    pub pods: Vec<PodView>,
    pub versions: Vec<ModelVersion>,
    pub deployment: Option<ModelDeployment>,
    /// What it says of its rollout, while a version is not promoted.
    pub rollout: Option<Said>,
    /// ModelDeployments besides the one that is called `served`.
    pub others: Vec<String>,
    /// MLPipelines of the namespace.
    pub pipelines: Vec<String>,
    /// The run's own, and its other runs.
    pub pipeline: Option<Arc<MLPipeline>>,
    pub peers: Vec<Peer>,
    /// What other runs of the namespace hold and wait for.
    pub locks: Vec<Claim>,
    /// Who may mount the claims of the namespace.
    pub claims: Claims,
    /// PodTemplates of the catalog.
    pub pod_templates: BTreeMap<String, Arc<PodTemplate>>,
    /// Newer runs that ask the same, by stage.
    pub superseded: BTreeMap<String, String>,
    /// Runs of stages that run another pipeline, by name.
    pub nested: BTreeMap<String, MLPipelineRun>,
    /// What a nested run sees of those that it belongs to.
    pub above: Above,
    /// ModelVersions that others need.
    pub held_versions: BTreeSet<String>,
    /// What other runs have made.
    pub cache: CacheIndex,
    pub refusals: Vec<Refusal>,
    /// By stage and attempt; every other attempt succeeds.
    pub fates: BTreeMap<(String, u32), Fate>,
    /// The manifests in the store, by the stage's folder: the report of the first complete attempt.
    pub manifests: BTreeMap<String, Value>,
    pub crash: Option<Crash>,
    /// Refuse every Job with this status and message.
    pub refuse_jobs: Option<(u16, &'static str)>,
    /// Refuse the Jobs of this stage only.
    pub refuse_job_of: Option<&'static str>,
    /// Refuse every run of a stage.
    pub refuse_runs: bool,
    /// Refuse to keep a frozen pipeline.
    pub refuse_revisions: bool,
    /// Somebody else owns `spec.model.version`.
    pub version_owned: bool,
    pub writes: usize,
    /// How often each name was created.
    pub created: BTreeMap<String, usize>,
    pub events: Vec<Event>,
    /// Lists that were written down, in the order in which they were made.
    pub lists: Vec<String>,
    uids: usize,
}

impl Cluster {
    pub fn new(spec: Value) -> Self {
        let spec: MLPipelineSpec = serde_json::from_value(spec).unwrap();
        let mut run = MLPipelineRun::default();
        run.metadata.name = Some("r".into());
        run.metadata.namespace = Some("ns".into());
        run.metadata.uid = Some("run-uid-0".into());
        run.metadata.generation = Some(1);
        run.spec.pipeline = Some(spec);
        Self {
            run,
            config: Config { agent_image: "agent".into(), ..Config::default() },
            now: "2026-01-01T00:00:00.5Z".parse().unwrap(),
            frozen: None,
            jobs: BTreeMap::new(),
            pods: Vec::new(),
            versions: Vec::new(),
            deployment: None,
            rollout: None,
            others: Vec::new(),
            pipelines: Vec::new(),
            pipeline: None,
            peers: Vec::new(),
            locks: Vec::new(),
            claims: Claims::new(),
            pod_templates: BTreeMap::new(),
            superseded: BTreeMap::new(),
            nested: BTreeMap::new(),
            above: Above::default(),
            held_versions: BTreeSet::new(),
            cache: CacheIndex::default(),
            refusals: Vec::new(),
            fates: BTreeMap::new(),
            manifests: BTreeMap::new(),
            crash: None,
            refuse_jobs: None,
            refuse_job_of: None,
            refuse_runs: false,
            refuse_revisions: false,
            version_owned: false,
            writes: 0,
            created: BTreeMap::new(),
            events: Vec::new(),
            lists: Vec::new(),
            uids: 0,
        }
    }

    pub fn fate(mut self, stage: &str, attempt: u32, fate: Fate) -> Self {
        self.fates.insert((stage.to_owned(), attempt), fate);
        self
    }

    pub fn status(&self) -> &MLPipelineRunStatus {
        self.run.status.as_ref().unwrap()
    }

    pub fn stage(&self, name: &str) -> &StageStatus {
        &self.status().stages[name]
    }

    /// Status, reason and message of a condition of the run.
    pub fn condition(&self, kind: &str) -> Option<(&str, &str, &str)> {
        let found = self.status().conditions.iter().find(|condition| condition.type_ == kind)?;
        Some((&found.status, &found.reason, &found.message))
    }

    pub fn pass_time(&mut self, time: Duration) {
        self.now = self.now.checked_add(SignedDuration::try_from(time).unwrap()).unwrap();
    }

    /// Lets the operator and the nodes work until nothing moves any more, and time pass where somebody waits for it.
    pub fn settle(&mut self) {
        for _ in 0..500 {
            let requeue = self.reconcile();
            if node::tick(self) {
                continue;
            }
            match requeue {
                Some(wait) => self.pass_time(wait),
                None => return,
            }
        }
        panic!("it never settles: {:#?}", self.run.status);
    }

    /// As [`Self::settle`], until something is so.
    pub fn settle_until(&mut self, so: impl Fn(&Self) -> bool) {
        for _ in 0..500 {
            let requeue = self.reconcile();
            if so(self) {
                return;
            }
            if !node::tick(self) {
                self.pass_time(requeue.unwrap());
            }
        }
        panic!("it never came: {:#?}", self.run.status);
    }

    /// Passes until one has nothing to do.
    pub fn reconcile(&mut self) -> Option<Duration> {
        for _ in 0..50 {
            let plan = self.decide();
            let requeue = plan.requeue;
            let idle = Plan { requeue: None, ..plan.clone() } == Plan::default();
            if idle {
                return requeue;
            }
            // A crash is a new operator: it remembers no refusal.
            if self.carry_out(plan).is_none() {
                self.refusals.clear();
            } else if !self.refusals.is_empty() {
                let plan = self.decide();
                self.refusals.clear();
                let again = plan.requeue;
                assert!(plan.create.is_empty(), "what was refused is not tried again at once");
                let _ = self.carry_out(Plan { requeue: None, ..plan });
                return again;
            }
        }
        panic!("passes never end: {:#?}", self.run.status);
    }

    /// One pass that sees what the last one was refused.
    pub fn reconcile_with_refusals(&mut self) {
        let plan = self.decide();
        self.refusals.clear();
        let _ = self.carry_out(plan);
    }

    fn decide(&self) -> Plan<MLPipelineRunStatus> {
        let named = self.run.status.as_ref().and_then(|status| status.frozen.as_ref());
        let frozen = self.frozen.as_ref().filter(|(name, _)| Some(name) == named);
        let deployments = self.deployment.iter().map(|found| ("served".to_owned(), Arc::new(found.clone())));
        let others = self.others.iter().map(|name| (name.clone(), Arc::new(ModelDeployment::default())));
        let observed = Observed {
            pipelines: self.pipelines.clone(),
            pipeline: self.pipeline.clone(),
            peers: self.peers.clone(),
            locks: self.locks.clone(),
            claims: self.claims.clone(),
            pod_templates: self.pod_templates.clone(),
            superseded: self.superseded.clone(),
            frozen: frozen.map(|(_, frozen)| Arc::clone(frozen)),
            nested: self.nested.iter().map(|(name, run)| (name.clone(), Arc::new(run.clone()))).collect(),
            above: self.above.clone(),
            jobs: self.jobs.values().map(|(view, _)| Arc::new(view.clone())).collect(),
            pods: self.pods.iter().cloned().map(Arc::new).collect(),
            model_versions: self.versions.iter().cloned().map(Arc::new).collect(),
            model_deployments: deployments.chain(others).collect(),
            held_versions: self.held_versions.clone(),
            refusals: self.refusals.clone(),
            cache: self.cache.snapshot(),
            ..Observed::default()
        };
        run::plan(&self.run, &observed, &self.config, self.now)
    }

    /// Counts a write, and tells whether it is made: `None` if the operator dies before it.
    fn write(&mut self) -> Option<()> {
        self.writes += 1;
        if self.crash == Some(Crash::Before(self.writes)) { None } else { Some(()) }
    }

    fn wrote(&self) -> Option<()> {
        if self.crash == Some(Crash::After(self.writes)) { None } else { Some(()) }
    }

    fn carry_out(&mut self, plan: Plan<MLPipelineRunStatus>) -> Option<()> {
        let Plan { freeze, status, create, apply, delete, events, requeue: _ } = plan;
        if let Some(revision) = freeze {
            self.write()?;
            let name = revision.metadata.name.clone().unwrap();
            if self.refuse_revisions {
                self.refuse(format!("ControllerRevision {name}"), 403, "Forbidden", "exceeded quota");
                return Some(());
            }
            let frozen = serde_json::from_value(revision.data.unwrap().0).unwrap();
            self.frozen = Some((name, Arc::new(frozen)));
            self.wrote()?;
        }
        if let Some(status) = status {
            self.write()?;
            // Through JSON, as through the apiserver: whole seconds are all that is kept.
            let json = serde_json::to_value(&status).unwrap();
            let kept: MLPipelineRunStatus = serde_json::from_value(json).unwrap();
            assert_eq!(kept, status, "what is read back differs from what was written");
            self.run.status = Some(kept);
            self.wrote()?;
        }
        for create in create {
            self.write()?;
            self.create(create);
            self.wrote()?;
        }
        for apply in apply {
            self.write()?;
            self.apply(apply);
            self.wrote()?;
        }
        for delete in delete {
            self.write()?;
            self.delete(&delete);
            self.wrote()?;
        }
        self.events.extend(events);
        Some(())
    }

    fn create(&mut self, create: Create) {
        match create {
            Create::Job(job) => self.create_job(*job),
            Create::JobOver(list, job) => {
                self.lists.extend(list.data.unwrap().into_values());
                self.create_job(*job);
            }
            Create::ModelVersion(version) => {
                let name = version.metadata.name.clone().unwrap();
                match self.versions.iter().find(|there| there.metadata.name == version.metadata.name) {
                    Some(there) if there.metadata.labels == version.metadata.labels => {}
                    Some(_) => self.refuse(format!("ModelVersion {name}"), 409, "NameTaken", "somebody else's"),
                    None => {
                        *self.created.entry(name).or_default() += 1;
                        self.versions.push(*version);
                    }
                }
            }
            Create::Run(mut run) => {
                let name = run.metadata.name.clone().unwrap();
                if self.refuse_runs {
                    self.refuse(format!("MLPipelineRun {name}"), 403, "Forbidden", "exceeded quota: runs=1");
                    return;
                }
                if !self.nested.contains_key(&name) {
                    *self.created.entry(name.clone()).or_default() += 1;
                    run.metadata.uid = Some(self.uid("run"));
                    self.nested.insert(name, *run);
                }
            }
            Create::Look(job) => panic!("a run looks for no data: {job:?}"),
        }
    }

    fn create_job(&mut self, job: Job) {
        let name = job.metadata.name.clone().unwrap();
        if let Some((code, message)) = self.refuse_jobs {
            self.refuse(format!("Job {name}"), code, "Forbidden", message);
            return;
        }
        if self.refuse_job_of.is_some_and(|stage| job.metadata.labels.as_ref().unwrap()[names::STAGE_LABEL] == stage) {
            self.refuse(format!("Job {name}"), 403, "Forbidden", "exceeded quota: pods=1");
            return;
        }
        let owner = job.metadata.owner_references.as_ref().unwrap()[0].uid.clone();
        if let Some((there, _)) = self.jobs.get(&name) {
            if there.owner.as_ref() != Some(&owner) {
                self.refuse(format!("Job {name}"), 409, "NameTaken", "it has another controller");
            }
            return;
        }
        *self.created.entry(name.clone()).or_default() += 1;
        let labels = job.metadata.labels.clone().unwrap();
        let view = JobView {
            name: name.clone(),
            uid: self.uid("job"),
            stage: labels[names::STAGE_LABEL].clone(),
            attempt: labels[names::ATTEMPT_LABEL].parse().unwrap(),
            owner: Some(owner),
            created: Some(self.now),
            items: (job.spec.as_ref().unwrap().completion_mode.as_deref() == Some("Indexed")).then(JobItems::default),
            ..JobView::default()
        };
        self.jobs.insert(name, (view, job));
    }

    fn refuse(&mut self, object: String, code: u16, reason: &str, message: &str) {
        self.refusals.push(Refusal { object, code, reason: reason.into(), message: message.into() });
    }

    fn apply(&mut self, apply: Apply) {
        let (model_deployment, version) = match apply {
            Apply::DeployVersion { model_deployment, version } => (model_deployment, version),
            Apply::LiveMetrics { model_deployment, live } => {
                assert_eq!(model_deployment, "served");
                let found = self.deployment.as_mut().unwrap();
                take_report(found.status.get_or_insert_default(), &live);
                return;
            }
            other => panic!("not a run's: {other:?}"),
        };
        assert_eq!(model_deployment, "served");
        if self.version_owned {
            let words = "conflict with \"kubectl\": .spec.model.version";
            self.refuse("ModelDeployment served".into(), 409, FIELD_OWNED, words);
            return;
        }
        let found = self.deployment.as_mut().unwrap();
        if found.spec.model.version != Some(version) {
            found.spec.model.version = Some(version);
            found.metadata.generation = found.metadata.generation.map(|generation| generation + 1);
        }
    }

    fn delete(&mut self, delete: &Delete) {
        match delete.kind {
            DeleteKind::Job => {
                let there = self.jobs.remove(&delete.name);
                assert!(there.is_none_or(|(view, _)| view.uid == delete.uid), "another one of that name");
                self.pods.retain(|pod| pod.owner.as_ref() != Some(&delete.uid));
            }
            DeleteKind::Pod => self.pods.retain(|pod| pod.uid != delete.uid),
            DeleteKind::ModelVersion => {
                let there =
                    self.versions.iter().position(|version| version.metadata.name.as_ref() == Some(&delete.name));
                let gone = self.versions.remove(there.unwrap());
                assert_eq!(gone.metadata.uid.unwrap_or_default(), delete.uid, "another one of that name");
            }
            DeleteKind::Run => self.run.metadata.deletion_timestamp = Some(Time(self.now)),
            DeleteKind::Deployment
            | DeleteKind::Service
            | DeleteKind::Autoscaler
            | DeleteKind::HttpRoute
            | DeleteKind::ControllerRevision => {
                panic!("not a run's: {delete:?}")
            }
        }
    }

    pub fn uid(&mut self, of: &str) -> String {
        self.uids += 1;
        format!("{of}-{}", self.uids)
    }

    /// The ModelDeployment does what its spec says.
    pub fn serve(&mut self) -> bool {
        let now = self.now;
        let Some(found) = self.deployment.as_mut() else { return false };
        let mut status = found.status.clone().unwrap_or_default();
        let Some(version) = found.spec.model.version else { return false };
        let generation = found.metadata.generation;
        let mut set = |kind: &str, is: bool, reason: &str, message: &str| {
            let is = if is { ConditionStatus::True } else { ConditionStatus::False };
            set_condition(&mut status.conditions, kind, is, reason, message, generation, now);
        };
        match self.rollout {
            Some(Said { reason, message, stalled }) => {
                set("Ready", false, reason, message);
                set("Stalled", stalled, if stalled { reason } else { "AsDesired" }, if stalled { message } else { "" });
            }
            None => {
                set("Ready", true, "Served", "");
                set("Stalled", false, "AsDesired", "");
                status.served_model.clone_from(&found.spec.model.name);
                status.served_version = Some(version);
            }
        }
        let changed = found.status.as_ref() != Some(&status);
        found.status = Some(status);
        changed
    }
}

/// A ModelDeployment `served` of the model `penguins`.
pub fn deployment() -> ModelDeployment {
    let mut deployment = ModelDeployment::default();
    deployment.metadata.name = Some("served".into());
    deployment.metadata.generation = Some(1);
    deployment.spec.model.name = Some("penguins".into());
    deployment.status = Some(ModelDeploymentStatus::default());
    deployment
}

/// A model that no ModelVersion has.
pub fn unregistered() -> DeployedModel {
    let digest = format!("sha256:{}", "a".repeat(64));
    serde_json::from_value(json!({ "uri": "s3://lake/models/m", "format": "onnx", "digest": digest })).unwrap()
}

pub fn words(reason: &str, message: &str) -> Words {
    Words { reason: reason.into(), message: message.into() }
}
