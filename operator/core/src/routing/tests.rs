//! The routers of a namespace: ports, owners, and what is written when.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use millrace_routes::{ROUTES_KEY, Routes};

use super::{Observed, RouterObject, RoutesView, is_ours, plan};
use crate::api::{
    ConditionStatus, ModelDeployment, ModelDeploymentSpec, ModelDeploymentStatus, RevisionStatus, set_condition,
};
use crate::config::{Config, RouterConfig};
use crate::deployment::DeploymentView;

fn model(name: &str, weights: &[i32]) -> Arc<ModelDeployment> {
    let mut model = ModelDeployment::new(name, ModelDeploymentSpec::default());
    model.metadata.namespace = Some("team".to_owned());
    model.metadata.uid = Some(format!("uid-{name}"));
    let mut status = ModelDeploymentStatus { traffic_generation: 3, ..ModelDeploymentStatus::default() };
    set_condition(
        &mut status.conditions,
        "Accepted",
        ConditionStatus::True,
        "Accepted",
        "",
        None,
        Timestamp::UNIX_EPOCH,
    );
    for (i, weight) in weights.iter().enumerate() {
        let revision = RevisionStatus { name: format!("{name}-{i}"), weight: *weight, ..RevisionStatus::default() };
        status.revisions.push(revision);
    }
    model.status = Some(status);
    Arc::new(model)
}

fn config() -> Config {
    let router = RouterConfig {
        image: "registry/operator:1".to_owned(),
        role: "millrace-router".to_owned(),
        replicas: 2,
        network_policies: true,
        ..RouterConfig::default()
    };
    Config { router, ..Config::default() }
}

/// A namespace that keeps what is applied.
#[derive(Default)]
struct Namespace {
    observed: Observed,
    /// Kinds that were applied in the last pass.
    applied: Vec<&'static str>,
}

impl Namespace {
    fn of(models: &[Arc<ModelDeployment>]) -> Self {
        let mut namespace = Self::default();
        namespace.pass(models, &config());
        namespace
    }

    fn pass(&mut self, models: &[Arc<ModelDeployment>], config: &Config) {
        self.observed.models = models.to_vec();
        self.applied.clear();
        for object in plan("team", &self.observed, config) {
            self.applied.push(match object {
                RouterObject::Routes(map) => {
                    assert!(is_ours(&map.metadata));
                    let seen = self.observed.routes.as_ref().map(|routes| routes.resource_version.clone());
                    assert_eq!(map.metadata.resource_version, seen);
                    let owners = map.metadata.owner_references.into_iter().flatten().map(|owner| owner.uid);
                    let owners: BTreeSet<String> = owners.collect();
                    let version = seen.map_or(1, |seen| seen.parse::<u32>().unwrap() + 1).to_string();
                    let text = map.data.unwrap()[ROUTES_KEY].clone();
                    self.observed.routes = Some(Arc::new(RoutesView::new(version, owners, text)));
                    "ConfigMap"
                }
                RouterObject::Deployment(deployment) => {
                    let annotations = deployment.metadata.annotations.unwrap();
                    self.observed.deployment =
                        Some(Arc::new(DeploymentView { annotations, ..DeploymentView::default() }));
                    "Deployment"
                }
                RouterObject::ServiceAccount(_) => "ServiceAccount",
                RouterObject::RoleBinding(_) => "RoleBinding",
                RouterObject::PodDisruptionBudget(_) => "PodDisruptionBudget",
                RouterObject::NetworkPolicy(_) => "NetworkPolicy",
            });
        }
    }

    fn routes(&self) -> Routes {
        Routes::parse(self.observed.routes.as_ref().unwrap().text.as_bytes()).unwrap()
    }

    fn ports(&self) -> Vec<(String, u16)> {
        self.routes().models.into_iter().map(|model| (model.name, model.port)).collect()
    }
}

const ROUTERS: [&str; 6] =
    ["ServiceAccount", "RoleBinding", "PodDisruptionBudget", "NetworkPolicy", "NetworkPolicy", "Deployment"];

#[test]
fn the_routes_are_what_the_statuses_say() {
    let namespace = Namespace::of(&[model("b", &[0, 100]), model("a", &[])]);
    let routes = namespace.routes();
    let said = |name: &str| routes.models.iter().find(|model| model.name == name).unwrap();
    let weights: Vec<_> = said("b").revisions.iter().map(|r| (r.name.as_str(), r.service.as_str(), r.weight)).collect();
    assert_eq!(weights, [("b-0", "b-0", 0), ("b-1", "b-1", 100)]);
    assert_eq!((said("b").generation, said("a").revisions.len()), (3, 0));
    assert_eq!(namespace.ports(), [("a".to_owned(), 10_000), ("b".to_owned(), 10_001)]);
}

#[test]
fn everything_is_applied_once_and_then_nothing() {
    let models = [model("a", &[100])];
    let mut namespace = Namespace::of(&models);
    assert_eq!(namespace.applied[0], "ConfigMap");
    assert_eq!(namespace.applied[1..], ROUTERS);
    namespace.pass(&models, &config());
    assert!(namespace.applied.is_empty(), "{:?}", namespace.applied);
    namespace.pass(&[model("a", &[100, 0])], &config());
    assert_eq!(namespace.applied, ["ConfigMap"], "a change of routes is one write");
    let mut upgraded = config();
    upgraded.router.image = "registry/operator:2".to_owned();
    namespace.pass(&[model("a", &[100, 0])], &upgraded);
    assert_eq!(namespace.applied, ROUTERS);
}

#[test]
fn a_crash_before_the_last_object_leaves_all_of_them_to_be_applied_again() {
    let models = [model("a", &[100])];
    let mut namespace = Namespace::of(&models);
    namespace.observed.deployment = None;
    namespace.pass(&models, &config());
    assert_eq!(namespace.applied, ROUTERS);
}

#[test]
fn a_model_keeps_its_port_and_gets_none_that_was_just_given_back() {
    let mut namespace = Namespace::of(&[model("a", &[]), model("b", &[])]);
    namespace.pass(&[model("b", &[]), model("c", &[])], &config());
    assert_eq!(namespace.ports(), [("b".to_owned(), 10_001), ("c".to_owned(), 10_002)]);
    namespace.pass(&[model("b", &[]), model("c", &[]), model("d", &[])], &config());
    assert_eq!(namespace.ports()[2], ("d".to_owned(), 10_000));
}

#[test]
fn every_model_owns_the_routers_and_the_last_one_leaves_them_to_the_garbage_collector() {
    let mut namespace = Namespace::of(&[model("a", &[]), model("b", &[])]);
    let owners = &namespace.observed.routes.as_ref().unwrap().owners;
    assert_eq!(owners.iter().map(String::as_str).collect::<Vec<_>>(), ["uid-a", "uid-b"]);
    let mut going = model("a", &[100]).as_ref().clone();
    going.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
    let going = Arc::new(going);
    namespace.pass(&[going.clone(), model("b", &[])], &config());
    assert_eq!(namespace.applied.len(), 1 + ROUTERS.len(), "others own them now");
    assert_eq!(namespace.ports(), [("b".to_owned(), 10_001)]);
    namespace.pass(&[going], &config());
    assert!(namespace.applied.is_empty());
}

#[test]
fn what_somebody_wrote_into_the_routes_is_put_right() {
    let models = [model("a", &[100]), model("b", &[100])];
    let mut namespace = Namespace::of(&models);
    let right = namespace.ports();
    for text in [
        "",
        "{}",
        r#"{"models": [{"name": "a", "port": 10000, "revisions": []}, {"name": "b", "port": 10000, "revisions": []}]}"#,
    ] {
        let before = namespace.observed.routes.clone().unwrap();
        let wrong = RoutesView::new(before.resource_version.clone(), before.owners.clone(), text.to_owned());
        namespace.observed.routes = Some(Arc::new(wrong));
        namespace.pass(&models, &config());
        assert_eq!(namespace.ports(), right, "{text}");
    }
}

#[test]
fn what_only_looks_like_ours_is_not_ours() {
    let Some(RouterObject::Routes(map)) =
        plan("team", &Observed { models: vec![model("a", &[])], ..Observed::default() }, &config()).into_iter().next()
    else {
        panic!("the routes come first")
    };
    let ours = map.metadata;
    assert!(is_ours(&ours));
    let mut unlabelled = ours.clone();
    unlabelled.labels = None;
    assert!(!is_ours(&unlabelled));
    let mut unowned = ours.clone();
    unowned.owner_references = None;
    assert!(!is_ours(&unowned));
    let mut foreign = ours;
    foreign.owner_references.as_mut().unwrap()[0].api_version = "other.dev/v1".to_owned();
    assert!(!is_ours(&foreign));
}
