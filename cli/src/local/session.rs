//! The operator's loop for one run: what is there is looked at, the core plans, and the plan is carried out in the order of `core/src/plan.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::PodTemplate;
use k8s_openapi::jiff::Timestamp;
use millrace_core::api::{
    Approval, Cancel, Decision, MLPipeline, MLPipelineRun, MLPipelineRunStatus, ModelVersion, StageState, StageTemplate,
};
use millrace_core::config::Config;
use millrace_core::deployment::take_report;
use millrace_core::pipeline::{Frozen, FrozenStage};
use millrace_core::plan::{Apply, Create, Delete, DeleteKind, NAME_TAKEN, Plan, Refusal, sooner};
use millrace_core::run::{self, Observed};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::home::{Deployments, Home, Registered, RunFolder};
use super::machine::Machine;
use super::process::Event;
use super::tell::Teller;
use crate::error::Error;
use crate::tree;

/// Passes that change something, one after the other.
const MOST_PASSES: usize = 10_000;
/// Without anything to wait for it looks again.
const IDLE: Duration = Duration::from_mins(1);

/// A run, and all that it looks at.
pub struct Session {
    pub run: MLPipelineRun,
    pub pipeline: Option<Arc<MLPipeline>>,
    pub templates: BTreeMap<String, Arc<StageTemplate>>,
    pub frozen: Option<(String, Arc<Frozen>)>,
    pub config: Config,
    pub home: Home,
    pub folder: RunFolder,
    pub machine: Machine,
    pub versions: Vec<Arc<ModelVersion>>,
    pub deployments: Deployments,
    /// Answers that were given with the command.
    pub approvals: BTreeMap<String, bool>,
    pub teller: Teller,
    pub refusals: Vec<Refusal>,
    /// How often somebody asked it to stop.
    pub stops: u32,
    /// The stage of which a person is asked.
    pub asked: Option<String>,
    /// What is typed is read.
    pub reads: bool,
}

/// Tells of signals. The agents are in groups of their own and hear of none.
pub fn listen(events: &SyncSender<Event>) -> Result<(), Error> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let events = events.clone();
    thread::spawn(move || {
        for _ in signals.forever() {
            if events.send(Event::Stop).is_err() {
                return;
            }
        }
    });
    Ok(())
}

impl Session {
    /// Goes on to the run's end.
    pub fn go(&mut self, queue: &Receiver<Event>) -> Result<(), Error> {
        loop {
            let requeue = self.reconcile()?;
            if tree::end(&self.run).is_some() && !self.machine.is_busy() {
                break;
            }
            // What was answered is looked at at once.
            if self.ask()? {
                continue;
            }
            let now = Instant::now();
            let tend = self.machine.next().map(|at| at.saturating_duration_since(now));
            let wait = sooner(requeue, tend).unwrap_or(IDLE);
            match queue.recv_timeout(wait) {
                Ok(event) => self.hear(event)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => continue,
            }
            while let Ok(event) = queue.try_recv() {
                self.hear(event)?;
            }
        }
        let frozen = self.frozen.as_ref().map(|(_, frozen)| Arc::clone(frozen));
        let Some(frozen) = frozen else { return Ok(()) };
        self.teller.end(&self.run, &frozen, &self.home, &self.folder)
    }

    fn hear(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Line { stage, attempt, text } => self.teller.line(&stage, attempt, &text)?,
            Event::Ended { uid, exit } => self.machine.ended(&uid, exit),
            Event::Stop => self.stop()?,
            Event::Typed(line) => self.answer(line.as_deref())?,
        }
        Ok(())
    }

    /// Passes until one has nothing to do. When to look again.
    fn reconcile(&mut self) -> Result<Option<Duration>, Error> {
        for _ in 0..MOST_PASSES {
            self.machine.tend();
            let plan = self.decide();
            let requeue = plan.requeue;
            if !self.carry_out(plan)? {
                return Ok(requeue);
            }
        }
        Err(Error::said(format!("run {} never settles: this is a mistake in Millrace", self.name())))
    }

    fn name(&self) -> &str {
        self.run.metadata.name.as_deref().unwrap_or_default()
    }

    fn decide(&mut self) -> Plan<MLPipelineRunStatus> {
        let named = self.run.status.as_ref().and_then(|status| status.frozen.as_ref());
        let frozen = self.frozen.as_ref().filter(|(name, _)| Some(name) == named).map(|(_, frozen)| Arc::clone(frozen));
        let (jobs, pods) = self.machine.views();
        let observed = Observed {
            pipeline: self.pipeline.clone(),
            templates: self.templates.clone(),
            pod_templates: frozen.as_deref().map(pod_templates).unwrap_or_default(),
            frozen,
            jobs,
            pods,
            model_versions: self.versions.clone(),
            model_deployments: self.deployments.clone(),
            refusals: std::mem::take(&mut self.refusals),
            ..Observed::default()
        };
        run::plan(&self.run, &observed, &self.config, Timestamp::now())
    }

    /// Whether anything is another than it was.
    fn carry_out(&mut self, plan: Plan<MLPipelineRunStatus>) -> Result<bool, Error> {
        let Plan { freeze, status, create, apply, delete, events: _, requeue: _ } = plan;
        let mut news = freeze.is_some() || status.is_some() || !create.is_empty() || !apply.is_empty();
        if let Some(revision) = freeze {
            let name = revision.metadata.name.clone().unwrap_or_default();
            let data = revision.data.map(|data| data.0).unwrap_or_default();
            self.folder.freeze(&data)?;
            let frozen = serde_json::from_value(data).map_err(|error| Error::said(format!("frozen: {error}")))?;
            self.frozen = Some((name, Arc::new(frozen)));
        }
        if let Some(status) = status {
            self.run.status = Some(status);
            self.folder.keep(&self.run)?;
            self.teller.changes(&self.run)?;
        }
        for create in create {
            self.create(create)?;
        }
        for apply in apply {
            self.apply(apply)?;
        }
        for Delete { kind, name, uid } in delete {
            // Programs that have been asked to stop take their time. And `ttl`: what a person made is the person's to delete.
            news |= match kind {
                DeleteKind::Job => self.machine.delete(&name, &uid),
                DeleteKind::Pod => self.machine.delete_pod(&uid),
                DeleteKind::ModelVersion => {
                    self.home.unregister(&name)?;
                    self.versions = self.home.versions()?;
                    true
                }
                DeleteKind::Run
                | DeleteKind::Deployment
                | DeleteKind::Autoscaler
                | DeleteKind::HttpRoute
                | DeleteKind::Service
                | DeleteKind::ControllerRevision => false,
            };
        }
        Ok(news)
    }

    fn create(&mut self, create: Create) -> Result<(), Error> {
        match create {
            Create::Job(job) => self.machine.create(*job),
            Create::JobOver(list, job) => {
                let keys = list.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
                let name = list.metadata.name.unwrap_or_default();
                self.machine.things.config_maps.insert(name, keys.collect());
                self.machine.create(*job);
            }
            Create::ModelVersion(version) => match self.home.register(&version)? {
                Registered::Yes => self.versions.push(Arc::new(*version)),
                Registered::Taken => {
                    let name = version.metadata.name.clone().unwrap_or_default();
                    let message = format!("{} is another run's", self.home.version_file(&name).display());
                    let object = format!("ModelVersion {name}");
                    self.refusals.push(Refusal { object, code: 409, reason: NAME_TAKEN.to_owned(), message });
                    self.versions = self.home.versions()?;
                }
            },
            // Of a pipeline's triggers, not of a run.
            Create::Look(_) => {}
            Create::Run(run) => {
                let name = run.metadata.name.unwrap_or_default();
                return Err(Error::said(format!("run {name} would be another run: there is no cluster to make it in")));
            }
        }
        Ok(())
    }

    fn apply(&mut self, apply: Apply) -> Result<(), Error> {
        match apply {
            Apply::DeployVersion { model_deployment, version } => {
                if let Some(found) = self.deployments.get_mut(&model_deployment) {
                    self.home.deploy(Arc::make_mut(found), version)?;
                }
                Ok(())
            }
            // For as long as this run: nothing is served that it could be said of.
            Apply::LiveMetrics { model_deployment, live } => {
                if let Some(found) = self.deployments.get_mut(&model_deployment) {
                    take_report(Arc::make_mut(found).status.get_or_insert_default(), &live);
                }
                Ok(())
            }
            // Of a ModelDeployment: there is nothing that serves.
            Apply::Deployment(_)
            | Apply::Autoscaler(_)
            | Apply::Budget(_)
            | Apply::HttpRoute(_)
            | Apply::Service(_)
            | Apply::GraphService(_)
            | Apply::Scale { .. } => Ok(()),
        }
    }

    /// The first time gracefully, the second time now, and then at once.
    fn stop(&mut self) -> Result<(), Error> {
        self.stops += 1;
        let name = self.name().to_owned();
        match self.stops {
            1 => {
                self.run.spec.cancel = Some(Cancel::Graceful);
                self.teller.say(&format!(
                    "run {name} is canceled: programs have their grace period, then `finally` runs. Once more: now"
                ))
            }
            2 => {
                self.run.spec.cancel = Some(Cancel::Now);
                Ok(())
            }
            _ => {
                self.machine.destroy();
                Ok(())
            }
        }
    }

    /// Answers what a stage waits for, or asks the person at the terminal. Whether it is answered.
    fn ask(&mut self) -> Result<bool, Error> {
        let open = self.run.status.iter().flat_map(|status| &status.stages).filter(|(name, stage)| {
            let said = self.run.spec.approvals.get(*name).is_some_and(|said| said.retries == stage.retries);
            stage.state == StageState::Pending && stage.approval.is_some() && !said
        });
        let Some((name, stage)) = open.min_by_key(|(name, _)| Some(*name) != self.asked.as_ref()) else {
            self.asked = None;
            return Ok(false);
        };
        let (name, question) = (name.clone(), stage.message.clone().unwrap_or_default());
        if let Some(yes) = self.approvals.get(&name).copied() {
            self.decided(&name, yes);
            return Ok(true);
        }
        if self.asked.as_ref() != Some(&name) {
            Teller::ask(&name, &question)?;
            self.asked = Some(name);
            if !self.reads {
                self.reads = true;
                super::type_into(self.machine.events.clone());
            }
        }
        Ok(false)
    }

    fn decided(&mut self, stage: &str, yes: bool) {
        let retries = self.run.status.as_ref().and_then(|status| status.stages.get(stage)).map_or(0, |s| s.retries);
        let by = std::env::var("USER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "local".to_owned());
        let decision = if yes { Decision::Approve } else { Decision::Reject };
        self.run.spec.approvals.insert(stage.to_owned(), Approval { decision, by, comment: None, retries });
    }

    fn answer(&mut self, line: Option<&str>) -> Result<(), Error> {
        let Some(stage) = self.asked.take() else { return Ok(()) };
        match line {
            Some(line) => {
                // Anything else is asked again.
                if let Some(yes) = super::said(line) {
                    self.decided(&stage, yes);
                }
                Ok(())
            }
            None => Err(Error::said(format!("stage {stage} waits for a person, and nobody is there to answer"))),
        }
    }
}

/// What a stage names in the catalog is about its pod's place: nothing of it holds here.
fn pod_templates(frozen: &Frozen) -> BTreeMap<String, Arc<PodTemplate>> {
    let containers = frozen.stages.values().filter_map(FrozenStage::container);
    let names = containers.filter_map(|of| of.container.settings.pod_template.clone());
    let empty = PodTemplate {
        template: Some(k8s_openapi::api::core::v1::PodTemplateSpec::default()),
        ..PodTemplate::default()
    };
    names.map(|name| (name, Arc::new(empty.clone()))).collect()
}
