//! The routers of a namespace: ports, owners, and what is written when.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use millrace_routes::{ROUTES_KEY, Routes};

use super::document::PORTS;
use super::{FETCH_POLICY, Observed, PartView, RouterObject, RoutesView, SERVERS_POLICY, Step, is_ours, plan};
use crate::api::{
    ConditionStatus, ModelDeployment, ModelDeploymentSpec, ModelDeploymentStatus, RevisionStatus, Security, TlsSecret,
    set_condition,
};
use crate::config::{Config, RouterConfig};
use crate::deployment::Applied;

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
    /// Kinds that were applied in the last pass, and those of them that put something right.
    applied: Vec<String>,
    corrected: Vec<String>,
    deleted: Vec<String>,
    seconds: i64,
}

impl Namespace {
    fn of(models: &[Arc<ModelDeployment>]) -> Self {
        let mut namespace = Self::default();
        namespace.pass(models, &config());
        namespace
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.seconds).unwrap()
    }

    /// Returns when it would look again.
    fn pass(&mut self, models: &[Arc<ModelDeployment>], config: &Config) -> Option<Duration> {
        self.observed.models = models.to_vec();
        (self.applied, self.corrected, self.deleted) = Default::default();
        let plan = plan("team", &self.observed, config, self.now());
        for Step { object, corrects } in plan.apply {
            let (key, asked) = (object.key(), object.asked());
            let kind = key.split_once('/').unwrap().0.to_owned();
            let found = self.observed.parts.get(&key).map(|part| part.shape);
            // The cluster makes of it what is asked for.
            let mut shape = asked;
            if let RouterObject::Routes(map) = object {
                assert!(is_ours(&map.metadata));
                let seen = self.observed.routes.as_ref().map(|routes| routes.resource_version.clone());
                assert_eq!(map.metadata.resource_version, seen);
                let owners = map.metadata.owner_references.into_iter().flatten().map(|owner| owner.uid).collect();
                let version = seen.map_or(1, |seen| seen.parse::<u32>().unwrap() + 1).to_string();
                let routes = RoutesView::new("u".to_owned(), version, owners, map.data.as_ref());
                shape = routes.shape();
                self.observed.routes = Some(Arc::new(routes));
            }
            let applied = Applied::new(asked, shape, 0);
            let before = self.observed.applied.get(&key);
            let applied = before.map_or(applied, |before| applied.after(before, found, self.now()));
            self.observed.applied.insert(key.clone(), applied);
            self.observed.parts.insert(key, PartView { uid: "u".to_owned(), is_ours: true, shape });
            if corrects {
                self.corrected.push(kind.clone());
            }
            self.applied.push(kind);
        }
        self.deleted = plan.delete.into_iter().map(|(name, _)| name).collect();
        plan.requeue
    }

    /// Somebody writes into the routes.
    fn write_routes(&mut self, text: &str) {
        let before = self.observed.routes.clone().unwrap();
        let data = [(ROUTES_KEY.to_owned(), text.to_owned())].into();
        let wrong =
            RoutesView::new("u".to_owned(), before.resource_version.clone(), before.owners.clone(), Some(&data));
        self.observed.parts.get_mut("ConfigMap/millrace-routes").unwrap().shape = wrong.shape();
        self.observed.routes = Some(Arc::new(wrong));
    }

    fn routes(&self) -> Routes {
        Routes::parse(self.observed.routes.as_ref().unwrap().text.as_bytes()).unwrap()
    }

    fn ports(&self) -> Vec<(String, u16)> {
        self.routes().models.into_iter().map(|model| (model.name, model.port)).collect()
    }

    fn port(&self, name: &str) -> u16 {
        self.ports().into_iter().find(|(model, _)| model == name).unwrap().1
    }
}

/// As its own plan leaves a model: with its port in the status.
fn with_port(model: &Arc<ModelDeployment>, port: u16) -> Arc<ModelDeployment> {
    let mut model = model.as_ref().clone();
    model.status.as_mut().unwrap().router_port = Some(port.into());
    Arc::new(model)
}

const ROUTERS: [&str; 7] = [
    "ServiceAccount",
    "RoleBinding",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "NetworkPolicy",
    "NetworkPolicy",
    "Deployment",
];

#[test]
fn the_routes_are_what_the_statuses_say() {
    let namespace = Namespace::of(&[model("b", &[0, 100]), model("a", &[])]);
    let routes = namespace.routes();
    let said = |name: &str| routes.models.iter().find(|model| model.name == name).unwrap();
    let weights: Vec<_> = said("b").revisions.iter().map(|r| (r.name.as_str(), r.service.as_str(), r.weight)).collect();
    assert_eq!(weights, [("b-0", "b-0", 0), ("b-1", "b-1", 100)]);
    assert_eq!((said("b").generation, said("a").revisions.len()), (3, 0));
    assert_ne!(namespace.port("a"), namespace.port("b"));
}

#[test]
fn what_is_asked_of_callers_is_in_the_routes_and_another_secret_replaces_the_routers() {
    let with = |secret: &str, bytes: i64| {
        let mut model = model("a", &[100]).as_ref().clone();
        let tls = Some(TlsSecret { secret_name: secret.to_owned() });
        model.spec.security = Some(Box::new(Security { tls, max_body_bytes: Some(bytes), ..Security::default() }));
        [Arc::new(model)]
    };
    let mut namespace = Namespace::of(&[model("a", &[100])]);
    assert_eq!(namespace.routes().models[0].security, None);
    namespace.pass(&with("cert", 7), &config());
    assert_eq!(namespace.applied, ["ConfigMap", "Deployment"]);
    let routed = &namespace.routes().models[0];
    assert_eq!(routed.limits.body_bytes, Some(7));
    let security = routed.security.clone().unwrap();
    assert_eq!((security.tls.unwrap().secret, security.auth, security.rate), ("cert".to_owned(), None, None));
    namespace.pass(&with("cert", 8), &config());
    assert_eq!(namespace.applied, ["ConfigMap"], "no other object is mounted");
    namespace.pass(&with("other", 8), &config());
    assert_eq!(namespace.applied, ["ConfigMap", "Deployment"]);
    namespace.pass(&[model("a", &[100])], &config());
    assert_eq!(namespace.applied, ["ConfigMap", "Deployment"]);
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
    assert_eq!(namespace.applied, ["Deployment"]);
    assert!(namespace.corrected.is_empty());
}

#[test]
fn an_operator_that_starts_anew_applies_all_but_the_routes_once() {
    let models = [model("a", &[100])];
    let mut namespace = Namespace::of(&models);
    namespace.observed.applied.clear();
    namespace.pass(&models, &config());
    assert_eq!(namespace.applied, ROUTERS);
    assert!(namespace.corrected.is_empty(), "nobody knows that somebody changed it");
    namespace.pass(&models, &config());
    assert!(namespace.applied.is_empty());
}

#[test]
fn whatever_somebody_changes_or_deletes_is_put_right_and_told() {
    let models = [model("a", &[100])];
    let mut namespace = Namespace::of(&models);
    for key in namespace.observed.parts.keys().cloned().collect::<Vec<_>>() {
        let kind = key.split_once('/').unwrap().0;
        if kind == "ConfigMap" {
            continue;
        }
        namespace.observed.parts.get_mut(&key).unwrap().shape += 1;
        namespace.pass(&models, &config());
        assert_eq!((&namespace.applied, &namespace.corrected), (&vec![kind.to_owned()], &vec![kind.to_owned()]));
        namespace.observed.parts.remove(&key);
        namespace.observed.applied.remove(&key);
        namespace.pass(&models, &config());
        assert_eq!(namespace.applied, [kind]);
    }
}

#[test]
fn two_that_fight_over_the_routers_or_the_routes_do_so_with_growing_pauses() {
    let models = [model("a", &[100])];
    for key in ["Deployment/millrace-router", "ConfigMap/millrace-routes"] {
        let mut namespace = Namespace::of(&models);
        let mut writes = 0;
        for _ in 0..60 {
            match key {
                "ConfigMap/millrace-routes" => namespace.write_routes("{}"),
                _ => namespace.observed.parts.get_mut(key).unwrap().shape = 1,
            }
            let again = namespace.pass(&models, &config());
            writes += namespace.applied.len();
            assert!(!namespace.applied.is_empty() || again.is_some(), "it is left wrong");
            namespace.seconds += 1;
        }
        assert!((4..=7).contains(&writes), "{key}: {writes} writes in a minute");
    }
}

#[test]
fn policies_that_are_not_wanted_any_more_go() {
    let models = [model("a", &[100])];
    let mut namespace = Namespace::of(&models);
    let mut open = config();
    open.router.network_policies = false;
    namespace.pass(&models, &open);
    assert_eq!(namespace.deleted, ["millrace-router", SERVERS_POLICY, FETCH_POLICY]);
    assert!(namespace.applied.is_empty(), "{:?}", namespace.applied);
    for part in namespace.observed.parts.values_mut() {
        part.is_ours = false;
    }
    namespace.pass(&models, &open);
    assert!(namespace.deleted.is_empty(), "somebody else's stays");
}

#[test]
fn gateways_that_split_requests_themselves_are_let_to_the_pods_and_others_are_not() {
    let peers = |provider: &str| {
        let gateway = serde_json::json!({ "parentRefs": [{ "name": "a" }, { "name": "b", "namespace": "infra" }] });
        let routing = serde_json::json!({ "provider": provider, "gateway": gateway });
        let mut model = model("m", &[100]);
        Arc::make_mut(&mut model).spec.routing = serde_json::from_value(routing).unwrap();
        let observed = Observed { models: vec![model], ..Observed::default() };
        let mut config = config();
        config.router.gateway_namespaces = vec!["proxies".to_owned()];
        let steps = plan("team", &observed, &config, Timestamp::UNIX_EPOCH).apply.into_iter();
        let policies = steps.filter_map(|step| match step.object {
            RouterObject::NetworkPolicy(policy) => Some(policy),
            _ => None,
        });
        let servers = policies.into_iter().find(|policy| policy.metadata.name.as_deref() == Some(SERVERS_POLICY));
        let ingress = servers.unwrap().spec.unwrap().ingress.unwrap();
        let selectors =
            ingress.into_iter().flat_map(|rule| rule.from.unwrap()).filter_map(|peer| peer.namespace_selector);
        selectors.filter_map(|selector| selector.match_expressions?[0].values.clone()).collect::<Vec<_>>()
    };
    assert_eq!(peers("GatewayAPI"), [["infra", "proxies", "team"]]);
    assert!(peers("Router").is_empty());
}

#[test]
fn a_model_keeps_its_port_whatever_becomes_of_the_routes() {
    // Made in another order than that of their names.
    let (z, a) = (model("z", &[100]), model("a", &[100]));
    let mut namespace = Namespace::of(std::slice::from_ref(&z));
    let port = namespace.port("z");
    namespace.pass(&[a.clone(), z.clone()], &config());
    assert_eq!(namespace.port("z"), port);
    let models = [with_port(&a, namespace.port("a")), with_port(&z, port)];
    let right = namespace.ports();
    for text in [
        "",
        "{}",
        r#"{"models": [{"name": "a", "port": 10000, "revisions": []}, {"name": "z", "port": 10000, "revisions": []}]}"#,
    ] {
        namespace.write_routes(text);
        namespace.seconds += 1000;
        namespace.pass(&models, &config());
        assert_eq!(namespace.ports(), right, "{text}");
    }
    namespace.observed.routes = None;
    namespace.observed.parts.remove("ConfigMap/millrace-routes");
    namespace.pass(&models, &config());
    assert_eq!(namespace.ports(), right);
}

#[test]
fn no_two_models_have_one_port_and_the_next_model_has_not_that_of_the_last() {
    let models: Vec<_> = (0..500).map(|i| model(&format!("m{i}"), &[])).collect();
    let mut namespace = Namespace::of(&models);
    let ports: BTreeSet<u16> = namespace.ports().into_iter().map(|(_, port)| port).collect();
    assert_eq!(ports.len(), 500);
    assert!(ports.iter().all(|port| PORTS.contains(port)));
    let gone = namespace.port("m7");
    let mut left: Vec<_> =
        models.iter().filter(|model| model.metadata.name.as_deref() != Some("m7")).cloned().collect();
    namespace.pass(&left, &config());
    left.push(model("new", &[]));
    namespace.pass(&left, &config());
    assert_ne!(namespace.port("new"), gone);
    // Two statuses with one port are somebody's doing. One of the models is left out, or routers would take none.
    let twice = [with_port(&model("a", &[]), 12_345), with_port(&model("b", &[]), 12_345)];
    assert_eq!(Namespace::of(&twice).ports(), [("a".to_owned(), 12_345)]);
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
    assert!(namespace.corrected.is_empty());
    assert_eq!(namespace.ports().len(), 1);
    namespace.pass(&[going], &config());
    assert!(namespace.applied.is_empty());
}

#[test]
fn what_only_looks_like_ours_is_not_ours() {
    let observed = Observed { models: vec![model("a", &[])], ..Observed::default() };
    let first = plan("team", &observed, &config(), Timestamp::UNIX_EPOCH).apply.into_iter().next();
    let Some(Step { object: RouterObject::Routes(map), .. }) = first else { panic!("the routes come first") };
    let ours = map.metadata;
    assert!(is_ours(&ours));
    let mut unlabelled = ours.clone();
    unlabelled.labels = None;
    assert!(is_ours(&unlabelled), "labels can be put back");
    let mut left_behind = ours.clone();
    left_behind.owner_references = None;
    assert!(is_ours(&left_behind));
    left_behind.labels = None;
    assert!(!is_ours(&left_behind));
    let mut foreign = ours;
    foreign.owner_references.as_mut().unwrap()[0].api_version = "other.dev/v1".to_owned();
    assert!(!is_ours(&foreign));
}
