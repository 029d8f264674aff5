//! A cluster as far as a ModelDeployment sees one: it keeps what is applied, its pods get ready when told to, and its routers take the
//! routes that the plan of the namespace makes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use millrace_routes::Routes;

use crate::api::{
    ModelArtifact, ModelDeployment, ModelDeploymentStatus, ModelVersion, ModelVersionSpec, RolloutStatus, Scale,
};
use crate::config::Config;
use crate::deployment::{
    Applied, AutoscalerView, BudgetView, DeploymentView, Observed, RouteView, ServiceView, asked, autoscaler_asked,
    budget_asked, digest, plan, route_asked, route_view,
};
use crate::names::{ROUTES, log_writer};
use crate::plan::{Apply, DeleteKind, Event, Plan};
use crate::routing::{
    self, ModelReport, PartView, Report, RevisionReport, Router, RouterObject, RouterPod, RoutesView, SecurityReport,
    Step,
};
use crate::run::{ContainerView, PodView};

pub struct Cluster {
    pub owner: ModelDeployment,
    pub observed: Observed,
    pub config: Config,
    pub now: Timestamp,
    pub events: Vec<Event>,
    /// Every write since the beginning, the status included.
    pub writes: usize,
    /// What the ConfigMap holds.
    pub routes: Option<Arc<RoutesView>>,
    /// What each router has in force.
    pub in_force: Vec<Routes>,
    /// Routers that take no new routes.
    pub stuck: BTreeSet<usize>,
    /// Revisions with requests in flight.
    pub busy: BTreeSet<String>,
    /// What routers say of the Secrets that are mounted into them, and whether they let nobody in for it.
    pub broken: Vec<String>,
    pub closed: bool,
    /// The image that each Deployment runs.
    images: BTreeMap<String, String>,
    uids: u32,
    /// As it was applied last.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    /// The same.
    pub budget: Option<PodDisruptionBudget>,
    pub log_writer: Option<Deployment>,
}

fn shape(image: &str) -> u64 {
    image.bytes().fold(7, |shape, byte| shape.wrapping_mul(31).wrapping_add(byte.into()))
}

impl Cluster {
    /// A ModelDeployment `penguins` of a model with ten versions; none of them is set.
    pub fn new() -> Self {
        let mut owner = ModelDeployment::new("penguins", crate::api::ModelDeploymentSpec::default());
        owner.metadata.namespace = Some("team".to_owned());
        owner.metadata.uid = Some("owner".to_owned());
        owner.metadata.generation = Some(1);
        owner.spec.model.name = Some("penguins".to_owned());
        let observed = Observed { model_versions: (1..=10).map(version).collect(), ..Observed::default() };
        let config = Config {
            catalog_namespace: "millrace-system".to_owned(),
            server_image: "registry/server:1".to_owned(),
            data_image: "registry/data:1".to_owned(),
            server_cuda_image: "registry/server-cuda:1".to_owned(),
            service_accounts: ["default".to_owned()].into(),
            ..Config::default()
        };
        Self {
            owner,
            observed,
            config,
            now: Timestamp::UNIX_EPOCH,
            events: Vec::new(),
            writes: 0,
            routes: None,
            in_force: vec![Routes::default(); 2],
            stuck: BTreeSet::new(),
            busy: BTreeSet::new(),
            broken: Vec::new(),
            closed: false,
            images: BTreeMap::new(),
            uids: 0,
            autoscaler: None,
            budget: None,
            log_writer: None,
        }
    }

    /// The namespace's own pass: what it writes, and what each router that is not stuck takes and says.
    pub fn route(&mut self) {
        let models = vec![Arc::new(self.owner.clone())];
        let parts = self.routes.iter().map(|routes| {
            let part = PartView { uid: routes.uid.clone(), is_ours: true, shape: routes.shape() };
            (routing::key("ConfigMap", ROUTES), part)
        });
        let seen =
            routing::Observed { models, routes: self.routes.clone(), parts: parts.collect(), ..Default::default() };
        for Step { object, .. } in routing::plan("team", &seen, &self.config, self.now).apply {
            if let RouterObject::Routes(map) = object {
                let owners = map.metadata.owner_references.unwrap().into_iter().map(|owner| owner.uid).collect();
                self.routes =
                    Some(Arc::new(RoutesView::new("routes".to_owned(), "1".to_owned(), owners, map.data.as_ref())));
            }
        }
        let Some(routes) = self.routes.clone() else { return };
        let written = Routes::parse(routes.text.as_bytes()).unwrap();
        for (i, in_force) in self.in_force.iter_mut().enumerate() {
            if !self.stuck.contains(&i) {
                in_force.clone_from(&written);
            }
        }
        self.observed.routers.port = routes.ports.get("penguins").copied();
        self.routers_report();
    }

    /// What every router says of the routes that it has.
    pub fn routers_report(&mut self) {
        let reports = self.in_force.iter().enumerate().map(|(i, routes)| {
            let models = routes.models.iter().map(|model| {
                let revisions = model.revisions.iter().map(|revision| {
                    let available = self.view(&revision.name).map_or(0, |view| view.available);
                    let pods = u64::try_from(available).unwrap();
                    let report = RevisionReport { pods, is_busy: self.busy.contains(&revision.name) };
                    (revision.name.clone(), report)
                });
                let security = model.security.as_ref().map(|asked| SecurityReport {
                    id: asked.id.clone(),
                    closed: self.closed,
                    problems: self.broken.clone(),
                });
                let revisions = revisions.collect();
                (
                    model.name.clone(),
                    ModelReport { generation: model.generation, revisions, security, ..ModelReport::default() },
                )
            });
            Router { pod: Arc::new(router(i)), report: Some(Arc::new(Report { models: models.collect() })) }
        });
        self.observed.routers.pods = reports.collect();
    }

    pub fn set_version(&mut self, version: i64) {
        self.owner.spec.model.version = Some(version);
        self.edited();
    }

    pub fn set_replicas(&mut self, replicas: i32) {
        self.owner.spec.scale = Some(Scale { replicas: Some(replicas), ..Scale::default() });
        self.edited();
    }

    pub fn edited(&mut self) {
        self.owner.metadata.generation = self.owner.metadata.generation.map(|generation| generation + 1);
    }

    pub fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// A few rounds in which pods get ready and routers report.
    pub fn go_on(&mut self, seconds: i64) {
        self.wait(seconds);
        for _ in 0..3 {
            self.settle();
            self.pods_get_ready();
            self.routers_report();
        }
        self.settle();
    }

    pub fn rollout(&self) -> RolloutStatus {
        self.owner.status.clone().unwrap().rollout.unwrap()
    }

    pub fn plan(&self) -> Plan<ModelDeploymentStatus> {
        plan(&self.owner, &self.observed, &self.config, self.now)
    }

    /// One pass, of which only the first `effects` writes happen: a crash after them.
    pub fn pass_until(&mut self, effects: usize) -> Plan<ModelDeploymentStatus> {
        let desired = self.owner.status.as_ref().and_then(|status| status.desired_replicas);
        for view in self.observed.deployments.iter().filter(|view| Some(view.wanted) == desired) {
            self.observed.reached.insert(view.name.clone(), view.wanted);
        }
        let plan = self.plan();
        let mut left = effects;
        let mut step = || {
            let goes = left > 0;
            left = left.saturating_sub(1);
            goes
        };
        if let Some(status) = plan.status.clone()
            && step()
        {
            self.owner.status = Some(status);
            self.writes += 1;
        }
        for apply in plan.apply.clone() {
            if step() {
                self.writes += 1;
                self.apply(apply);
            }
        }
        for delete in &plan.delete {
            assert!(plan.status.is_some(), "an old look could delete {delete:?}");
            if step() {
                self.writes += 1;
                match delete.kind {
                    DeleteKind::Deployment if delete.uid == "log-writer" => self.observed.log_writer = None,
                    DeleteKind::Deployment => self.observed.deployments.retain(|view| view.uid != delete.uid),
                    DeleteKind::Service => self.observed.services.retain(|_, service| service.uid != delete.uid),
                    DeleteKind::Autoscaler => self.observed.autoscaler = None,
                    DeleteKind::HttpRoute => self.observed.gateways.route = None,
                    DeleteKind::Job
                    | DeleteKind::Pod
                    | DeleteKind::Run
                    | DeleteKind::ModelVersion
                    | DeleteKind::ControllerRevision => {
                        panic!("a ModelDeployment has no {delete:?}")
                    }
                }
            }
        }
        if step() {
            self.events.extend(plan.events.clone());
        }
        plan
    }

    pub fn pass(&mut self) -> Plan<ModelDeploymentStatus> {
        self.pass_until(usize::MAX)
    }

    /// Passes until nothing is written any more.
    pub fn settle(&mut self) {
        for _ in 0..20 {
            let before = (self.writes, self.routes.clone(), self.observed.routers.pods.clone());
            self.pass();
            self.route();
            if before.0 == self.writes && before.1 == self.routes && same(&before.2, &self.observed.routers.pods) {
                return;
            }
        }
        panic!("no rest after 20 passes: {:?}", self.plan());
    }

    #[allow(clippy::too_many_lines, reason = "one arm for each kind of object")]
    fn apply(&mut self, apply: Apply) {
        match apply {
            Apply::Deployment(deployment) if deployment.metadata.name == Some(log_writer("penguins")) => {
                let asked = digest(&deployment.spec);
                let known = self.observed.log_writer.as_ref().map(|view| view.shape);
                assert_ne!(known, Some(asked), "the writer of the payload log is applied for nothing");
                self.observed.applied_log_writer = Some(Applied::new(asked, asked, 1));
                self.observed.log_writer = Some(Arc::new(DeploymentView {
                    name: deployment.metadata.name.clone().unwrap(),
                    shape: asked,
                    uid: "log-writer".to_owned(),
                    owner: deployment.metadata.owner_references.as_ref().map(|owners| owners[0].uid.clone()),
                    wanted: 1,
                    ..DeploymentView::default()
                }));
                self.log_writer = Some(*deployment);
            }
            Apply::Deployment(deployment) => {
                let deployment = *deployment;
                let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap();
                let name = deployment.metadata.name.clone().unwrap();
                let image = deployment.spec.unwrap().template.spec.unwrap().containers[0].image.clone().unwrap();
                if let Some(view) = self.view(&name).cloned() {
                    let known = self.observed.applied.get(&name).map(|applied| applied.shape);
                    assert_ne!(known, Some(view.shape), "{name} is applied for nothing");
                    let found = view.shape;
                    if self.image(&name) != image {
                        self.set_image(&name, &image);
                    }
                    self.remember(&name, Some(found));
                    return;
                }
                self.uids += 1;
                self.images.insert(name.clone(), image.clone());
                self.observed.deployments.push(Arc::new(DeploymentView {
                    name: name.clone(),
                    shape: shape(&image),
                    uid: format!("uid-{}", self.uids),
                    owner: deployment.metadata.owner_references.as_ref().map(|owners| owners[0].uid.clone()),
                    created: Some(self.now),
                    generation: 1,
                    wanted: replicas,
                    labels: deployment.metadata.labels.clone().unwrap(),
                    annotations: deployment.metadata.annotations.clone().unwrap(),
                    ..DeploymentView::default()
                }));
                self.remember(&name, None);
            }
            Apply::Service(service) => {
                let name = service.metadata.name.clone().unwrap();
                let asked = asked(&service);
                let spec = service.spec.unwrap();
                let uid =
                    self.observed.services.get(&name).map_or_else(|| format!("uid-{name}"), |there| there.uid.clone());
                let view = Arc::new(ServiceView {
                    uid,
                    owner: service.metadata.owner_references.as_ref().map(|owners| owners[0].uid.clone()),
                    selector: spec.selector.unwrap(),
                    shape: asked,
                });
                let found = self.observed.services.get(&name).map(|found| found.shape);
                let applied = Applied::new(asked, asked, 0);
                let before = self.observed.applied_services.get(&name);
                let applied = before.map_or(applied, |before| applied.after(before, found, self.now));
                self.observed.applied_services.insert(name.clone(), applied);
                if Some(&name) == self.owner.metadata.name.as_ref() {
                    self.observed.service = Some(view.clone());
                }
                self.observed.services.insert(name, view);
            }
            Apply::Scale { deployment, from, replicas } => self.change(&deployment, |view| {
                // Who sees something else writes nothing.
                if view.wanted == from {
                    view.wanted = replicas;
                    view.generation += 1;
                }
            }),
            Apply::Autoscaler(wanted) => {
                let asked = autoscaler_asked(&wanted);
                let known = self.observed.autoscaler.as_ref().map(|view| view.shape);
                assert_ne!(known, Some(asked), "the autoscaler is applied for nothing");
                let before = self.observed.autoscaler.take();
                let words = before.as_ref().and_then(|view| view.active.clone());
                self.observed.applied_autoscaler = Some(Applied::new(asked, asked, 0));
                self.observed.autoscaler = Some(Arc::new(AutoscalerView {
                    name: wanted.metadata.name.clone().unwrap(),
                    uid: "autoscaler".to_owned(),
                    owner: wanted.metadata.owner_references.as_ref().map(|owners| owners[0].uid.clone()),
                    shape: asked,
                    active: words,
                }));
                self.autoscaler = Some(*wanted);
            }
            Apply::Budget(wanted) => {
                let asked = budget_asked(&wanted);
                let known = self.observed.budget.as_ref().map(|view| view.shape);
                assert_ne!(known, Some(asked), "the budget is applied for nothing");
                let made = Applied::new(asked, asked, 0);
                let applied = self.observed.applied_budget.map_or(made, |old| made.after(&old, known, self.now));
                self.observed.applied_budget = Some(applied);
                self.observed.budget = Some(Arc::new(BudgetView { uid: "budget".to_owned(), shape: asked }));
                self.budget = Some(*wanted);
            }
            Apply::HttpRoute(wanted) => {
                let mut wanted = *wanted;
                let before = self.observed.gateways.route.clone();
                let asked = route_asked(&wanted);
                let known = before.as_ref().map(|view| view.shape);
                assert_ne!(known, Some(asked), "the HTTPRoute is applied for nothing");
                wanted.metadata.uid = Some("route".to_owned());
                wanted.metadata.generation = Some(before.as_ref().map_or(0, |view| view.generation) + 1);
                let parents = before.as_ref().map(|view| view.parents.clone()).unwrap_or_default();
                let made = Applied::new(asked, asked, 0);
                let applied = self.observed.gateways.applied.map_or(made, |old| made.after(&old, known, self.now));
                self.observed.gateways.applied = Some(applied);
                self.observed.gateways.route = Some(Arc::new(RouteView { parents, ..route_view(&wanted) }));
            }
            Apply::GraphService(_) | Apply::DeployVersion { .. } | Apply::LiveMetrics { .. } => {
                panic!("not a ModelDeployment's: {apply:?}")
            }
        }
    }

    /// All pods of all revisions answer.
    pub fn pods_get_ready(&mut self) {
        let names: Vec<String> = self.observed.deployments.iter().map(|view| view.name.clone()).collect();
        for name in names {
            self.change(&name, |view| {
                view.observed_generation = view.generation;
                (view.replicas, view.ready, view.available) = (view.wanted, view.wanted, view.wanted);
            });
        }
    }

    pub fn change(&mut self, name: &str, change: impl FnOnce(&mut DeploymentView)) {
        let view = self.observed.deployments.iter_mut().find(|view| view.name == name).unwrap();
        change(Arc::make_mut(view));
    }

    /// Somebody makes a Deployment run another image.
    pub fn set_image(&mut self, name: &str, image: &str) {
        self.images.insert(name.to_owned(), image.to_owned());
        self.change(name, |view| {
            view.generation += 1;
            view.shape = shape(image);
        });
    }

    /// As the controller does with the reply to an apply.
    fn remember(&mut self, name: &str, found: Option<u64>) {
        let view = self.view(name).unwrap();
        let applied = Applied::new(0, view.shape, view.generation);
        let before = self.observed.applied.get(name);
        let applied = before.map_or(applied, |before| applied.after(before, found, self.now));
        self.observed.applied.insert(name.to_owned(), applied);
    }

    /// Its Deployments run what those of the other run.
    pub fn run_images_of(&mut self, other: &Self) {
        self.images.clone_from(&other.images);
        self.uids = other.uids + 1000;
    }

    /// The image that a Deployment runs.
    pub fn image(&self, name: &str) -> &str {
        &self.images[name]
    }

    pub fn view(&self, name: &str) -> Option<&DeploymentView> {
        self.observed.deployments.iter().map(AsRef::as_ref).find(|view| view.name == name)
    }

    /// The revision that a router leads to.
    pub fn led_to(&self, router: usize) -> Option<&DeploymentView> {
        let model = self.in_force[router].models.first()?;
        self.view(&model.revisions.iter().find(|revision| revision.weight > 0)?.name)
    }

    /// The revision that the first router leads to.
    pub fn served(&self) -> Option<&DeploymentView> {
        self.led_to(0)
    }

    /// Status and reason of a condition.
    pub fn condition(&self, kind: &str) -> (String, String) {
        let status = self.owner.status.clone().unwrap_or_default();
        let found = status.conditions.into_iter().find(|condition| condition.type_ == kind).unwrap();
        (found.status, found.reason)
    }

    pub fn message(&self) -> String {
        let status = self.owner.status.clone().unwrap_or_default();
        status.conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap().message
    }

    /// Version 1 is served and nothing moves.
    pub fn serving_version_1() -> Self {
        let mut cluster = Self::new();
        cluster.set_version(1);
        cluster.settle();
        cluster.pods_get_ready();
        cluster.settle();
        cluster
    }
}

/// A router's pod that runs and is ready.
pub fn router(i: usize) -> RouterPod {
    let main = ContainerView { running_since: Some(Timestamp::UNIX_EPOCH), ..ContainerView::default() };
    let pod =
        PodView { name: format!("router-{i}"), phase: "Running".to_owned(), main: Some(main), ..PodView::default() };
    RouterPod { pod, address: Some(format!("10.0.0.{i}")), ready: true }
}

fn same(a: &[Router], b: &[Router]) -> bool {
    a.iter().map(|router| &router.report).eq(b.iter().map(|router| &router.report))
}

fn version(number: i64) -> Arc<ModelVersion> {
    let spec = ModelVersionSpec {
        model: "penguins".to_owned(),
        version: number,
        artifact: ModelArtifact {
            uri: format!("pvc://artifacts/runs/r{number}/train/attempts/1/outputs/model"),
            digest: format!("sha256:{number:064}"),
            size: 1,
            access: None,
        },
        format: "onnx".to_owned(),
        metrics: BTreeMap::new(),
        ..ModelVersionSpec::default()
    };
    Arc::new(ModelVersion::new(&format!("penguins-v{number}"), spec))
}

pub fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}
