//! How many pods there are: chosen by load, pinned, or somebody else's; at zero, and on the way there and back.

use std::sync::Arc;
use std::time::Duration;

use super::cluster::{Cluster, pair};
use crate::api::{Scale, ScaleMetric};
use crate::autoscale::{Blind, Window};
use crate::deployment::{AutoscalerView, followed, is_awake, is_due};
use crate::run::{PodView, Words};

/// Version 1 is served with this in `spec.scale`.
fn serving(scale: serde_json::Value) -> (Cluster, String) {
    let mut cluster = Cluster::new();
    set(&mut cluster, scale);
    cluster.set_version(1);
    cluster.settle();
    cluster.pods_get_ready();
    cluster.settle();
    let name = cluster.served().unwrap().name.clone();
    (cluster, name)
}

fn set(cluster: &mut Cluster, scale: serde_json::Value) {
    cluster.owner.spec.scale = Some(serde_json::from_value::<Scale>(scale).unwrap());
    cluster.edited();
}

/// Routers say that for so long there was no request.
fn idle(cluster: &mut Cluster, seconds: u64) {
    let window = Window { idle: Duration::from_secs(seconds), complete: true, peak: Some(0.0), ..Window::default() };
    cluster.observed.load = Some(window);
}

fn load(cluster: &mut Cluster, load: f64) {
    let window = Window { short: load, middle: load, peak: Some(load), complete: true, ..Window::default() };
    cluster.observed.load = Some(window);
}

fn wanted(cluster: &Cluster, name: &str) -> i32 {
    cluster.view(name).unwrap().wanted
}

fn desired(cluster: &Cluster) -> Option<i32> {
    cluster.owner.status.as_ref().unwrap().desired_replicas
}

fn reasons(cluster: &Cluster) -> Vec<&'static str> {
    cluster.events.iter().map(|event| event.reason).collect()
}

#[test]
fn pods_follow_the_load_and_the_status_says_why() {
    let (mut cluster, name) = serving(serde_json::json!({ "max": 5, "target": 2 }));
    assert_eq!((desired(&cluster), cluster.condition("ScalingActive")), (Some(1), pair("True", "Concurrency")));
    load(&mut cluster, 5.0);
    cluster.pass();
    assert_eq!((wanted(&cluster, &name), desired(&cluster)), (3, Some(3)));
    let message = |cluster: &Cluster| {
        let status = cluster.owner.status.clone().unwrap();
        status.conditions.into_iter().find(|condition| condition.type_ == "ScalingActive").unwrap().message
    };
    assert_eq!(message(&cluster), "Concurrency 5.0 over 6 s, target 2: 3 pods");
    assert_eq!(cluster.events.last().unwrap().message, "from 1 to 3: Concurrency 5.0 over 6 s, target 2: 3 pods");
    cluster.pods_get_ready();
    cluster.settle();
    // Other figures, the same number: nothing is written.
    let writes = cluster.writes;
    load(&mut cluster, 5.5);
    cluster.settle();
    assert_eq!((cluster.writes, message(&cluster).as_str()), (writes, "Concurrency 5.0 over 6 s, target 2: 3 pods"));
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
}

#[test]
fn at_zero_it_is_ready_and_a_routers_start_is_kept() {
    let (mut cluster, name) = serving(serde_json::json!({ "min": 0, "toZeroAfter": "10s" }));
    assert_eq!(cluster.in_force[0].models[0].revisions[0].deployment, Some(name.clone()), "routers may start it");
    idle(&mut cluster, 9);
    cluster.settle();
    assert_eq!(wanted(&cluster, &name), 1);
    idle(&mut cluster, 10);
    cluster.settle();
    assert_eq!((wanted(&cluster, &name), desired(&cluster)), (0, Some(0)));
    cluster.pods_get_ready();
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("True", "AtZero"));
    assert_eq!(cluster.condition("Reconciling").0, "False");
    assert!(!is_awake(&cluster.owner), "routers need not be asked every second");
    // A request: its router writes 1. What was reported last is from before.
    cluster.change(&name, |view| (view.wanted, view.generation) = (1, view.generation + 1));
    idle(&mut cluster, 0);
    cluster.settle();
    assert_eq!((wanted(&cluster, &name), desired(&cluster)), (1, Some(1)));
    assert_eq!(cluster.condition("Ready"), pair("True", "Starting"));
    assert!(is_awake(&cluster.owner));
    assert!(!reasons(&cluster).contains(&"ReplicasChanged"), "{:?}", cluster.events);
    let words = Words { reason: "Unschedulable".to_owned(), message: "insufficient nvidia.com/gpu".to_owned() };
    let pod = PodView { name: "p".to_owned(), stage: name.clone(), unschedulable: Some(words), ..PodView::default() };
    cluster.observed.pods.push(pod.into());
    cluster.pass();
    assert_eq!(cluster.condition("Ready"), pair("False", "Scaling"));
    assert!(cluster.message().contains("insufficient nvidia.com/gpu"), "{}", cluster.message());
    cluster.observed.pods.clear();
    cluster.pods_get_ready();
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
}

#[test]
fn a_start_that_comes_while_it_goes_down_is_not_written_over() {
    let (mut cluster, name) = serving(serde_json::json!({ "min": 0, "toZeroAfter": "10s" }));
    idle(&mut cluster, 10);
    cluster.settle();
    // The operator sees 0 and would start one too; a router was faster.
    load(&mut cluster, 1.0);
    let plan = cluster.plan();
    cluster.change(&name, |view| view.wanted = 1);
    assert!(plan.apply.iter().any(|apply| format!("{apply:?}").contains("from: 0, replicas: 1")), "{plan:?}");
    cluster.settle();
    assert_eq!((wanted(&cluster, &name), desired(&cluster)), (1, Some(1)));
}

#[test]
fn a_crash_before_the_write_loses_nothing() {
    for crash in 0..4 {
        let (mut cluster, name) = serving(serde_json::json!({ "min": 0, "max": 5, "target": 1, "toZeroAfter": "10s" }));
        idle(&mut cluster, 10);
        cluster.pass_until(crash);
        // An operator that begins knows of no time without requests.
        cluster.observed.load = None;
        cluster.settle();
        let left = wanted(&cluster, &name);
        assert!(left == 1 || left == 0 && desired(&cluster) == Some(0), "after {crash}: {left}");
        assert_eq!(desired(&cluster), Some(left));
        load(&mut cluster, 3.0);
        cluster.pass_until(crash);
        cluster.settle();
        assert_eq!((wanted(&cluster, &name), desired(&cluster)), (3, Some(3)));
        assert!(!reasons(&cluster).contains(&"ReplicasChanged"), "nobody else wrote: {:?}", cluster.events);
    }
}

#[test]
fn what_somebody_sets_at_the_deployment_is_put_back_and_told() {
    for scale in [serde_json::json!({ "max": 5, "target": 2 }), serde_json::json!({ "replicas": 1 })] {
        let (mut cluster, name) = serving(scale);
        cluster.change(&name, |view| view.wanted = 4);
        cluster.settle();
        assert_eq!(wanted(&cluster, &name), 1);
        let told = cluster.events.iter().filter(|event| event.reason == "ReplicasChanged").collect::<Vec<_>>();
        assert_eq!(told.len(), 1);
        assert!(told[0].message.contains(&format!("replicas of the Deployment {name} to 4: it is put back to 1")));
    }
}

#[test]
fn replicas_pins_the_number_until_it_is_taken_out() {
    let (mut cluster, name) = serving(serde_json::json!({ "min": 0, "max": 5, "target": 2 }));
    set(&mut cluster, serde_json::json!({ "min": 0, "max": 5, "target": 2, "replicas": 7 }));
    load(&mut cluster, 40.0);
    cluster.settle();
    assert_eq!((wanted(&cluster, &name), cluster.condition("ScalingActive")), (7, pair("False", "Pinned")));
    assert!(followed(&cluster.owner).is_none());
    set(&mut cluster, serde_json::json!({ "min": 0, "max": 5, "target": 2 }));
    cluster.settle();
    assert_eq!((wanted(&cluster, &name), cluster.condition("ScalingActive").0), (5, "True".to_owned()), "max holds");
    set(&mut cluster, serde_json::json!({}));
    cluster.settle();
    let status = cluster.owner.status.clone().unwrap();
    assert!(status.conditions.iter().all(|condition| condition.type_ != "ScalingActive"));
}

#[test]
fn one_at_zero_whose_scale_is_taken_out_gets_a_pod_back() {
    let (mut cluster, name) = serving(serde_json::json!({ "min": 0, "toZeroAfter": "5s" }));
    idle(&mut cluster, 10);
    cluster.settle();
    assert_eq!((wanted(&cluster, &name), desired(&cluster)), (0, Some(0)));
    set(&mut cluster, serde_json::json!({}));
    cluster.settle();
    assert_eq!((wanted(&cluster, &name), desired(&cluster)), (1, None));
}

#[test]
fn with_external_only_replicas_is_carried_over_and_zero_waits_for_requests_to_end() {
    let (mut cluster, name) = serving(serde_json::json!({ "metric": "External" }));
    assert_eq!(cluster.condition("ScalingActive"), pair("False", "External"));
    cluster.change(&name, |view| view.wanted = 4);
    cluster.settle();
    assert_eq!((wanted(&cluster, &name), desired(&cluster)), (4, None), "nothing is written where nothing is set");
    set(&mut cluster, serde_json::json!({ "metric": "External", "replicas": 2 }));
    cluster.settle();
    assert_eq!(wanted(&cluster, &name), 2);
    set(&mut cluster, serde_json::json!({ "metric": "External", "replicas": 0, "toZeroAfter": "30s" }));
    idle(&mut cluster, 29);
    cluster.settle();
    assert_eq!(wanted(&cluster, &name), 1);
    idle(&mut cluster, 30);
    cluster.settle();
    assert_eq!(wanted(&cluster, &name), 0);
    cluster.pods_get_ready();
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("True", "AtZero"));
}

#[test]
fn a_version_that_comes_at_zero_shows_that_it_answers_first() {
    let (mut cluster, old) = serving(serde_json::json!({ "min": 0, "max": 3, "target": 1, "toZeroAfter": "10s" }));
    idle(&mut cluster, 10);
    cluster.settle();
    cluster.pods_get_ready();
    cluster.set_version(2);
    cluster.settle();
    let new = cluster.observed.deployments.iter().find(|view| view.name != old).unwrap().name.clone();
    assert_eq!((wanted(&cluster, &new), wanted(&cluster, &old)), (1, 0));
    assert_eq!(cluster.served().unwrap().name, old);
    cluster.pods_get_ready();
    cluster.settle();
    assert_eq!(cluster.served().unwrap().name, new);
    assert!(cluster.view(&old).is_none());
    idle(&mut cluster, 10);
    cluster.settle();
    assert_eq!(wanted(&cluster, &new), 0);
}

#[test]
fn a_version_that_comes_under_load_has_as_many_pods_as_the_one_that_is_served() {
    let (mut cluster, old) = serving(serde_json::json!({ "max": 9, "target": 1 }));
    load(&mut cluster, 4.0);
    cluster.settle();
    cluster.pods_get_ready();
    cluster.set_version(2);
    cluster.settle();
    let new = cluster.observed.deployments.iter().find(|view| view.name != old).unwrap().name.clone();
    assert_eq!(wanted(&cluster, &new), 4);
    load(&mut cluster, 6.0);
    cluster.settle();
    assert_eq!((wanted(&cluster, &new), wanted(&cluster, &old)), (6, 6));
    cluster.pods_get_ready();
    cluster.settle();
    assert_eq!((cluster.served().unwrap().name.clone(), wanted(&cluster, &new)), (new, 6));
}

#[test]
fn no_pass_is_due_while_the_number_stays() {
    let (mut cluster, name) = serving(serde_json::json!({ "min": 0, "max": 5, "target": 2, "toZeroAfter": "10s" }));
    let due =
        |cluster: &Cluster, window: &Window| is_due(&cluster.owner, cluster.view(&name).unwrap(), window, cluster.now);
    let quiet = Window { complete: true, peak: Some(0.0), ..Window::default() };
    assert!(!due(&cluster, &quiet));
    assert!(due(&cluster, &Window { idle: Duration::from_secs(10), ..quiet.clone() }));
    assert!(due(&cluster, &Window { short: 3.0, ..quiet }));
    idle(&mut cluster, 10);
    cluster.settle();
    assert!(!due(&cluster, &Window { idle: Duration::from_secs(100), complete: true, ..Window::default() }));
}

#[test]
fn a_time_to_zero_that_is_too_short_is_refused_with_what_to_write() {
    let mut cluster = Cluster::new();
    set(&mut cluster, serde_json::json!({ "min": 0, "toZeroAfter": "4s" }));
    cluster.set_version(1);
    cluster.pass();
    assert_eq!(cluster.condition("Accepted"), pair("False", "InvalidDuration"));
    assert!(cluster.message().contains("spec.scale.toZeroAfter"), "{}", cluster.message());
    assert!(cluster.message().contains("write 5s or more"), "{}", cluster.message());
}

fn words(cluster: &Cluster, kind: &str) -> String {
    let status = cluster.owner.status.clone().unwrap();
    status.conditions.into_iter().find(|condition| condition.type_ == kind).unwrap().message
}

fn asked(min: i32) -> serde_json::Value {
    let asked =
        serde_json::json!({ "address": "http://p:9090", "query": "sum(queue{model=\"$[[ deployment.name ]]\"})" });
    serde_json::json!({ "min": min, "max": 5, "target": 10, "metric": "Prometheus", "prometheus": asked, "toZeroAfter": "10s" })
}

fn blind(cluster: &mut Cluster, early: bool) {
    let blind = Some(Blind { why: "p:9090: refused".to_owned(), early });
    cluster.observed.load = Some(Window { blind, ..Window::default() });
}

#[test]
fn pods_follow_an_answer_and_stay_without_one() {
    let (mut cluster, name) = serving(asked(1));
    let queries = &cluster.in_force[0].models[0].queries;
    assert_eq!((queries.len(), queries[0].query.as_str()), (1, "sum(queue{model=\"penguins\"})"));
    let (_, follow) = followed(&cluster.owner).unwrap();
    assert_eq!(follow.query.as_ref(), Some(&queries[0].id));
    load(&mut cluster, 35.0);
    cluster.pass();
    assert_eq!((wanted(&cluster, &name), cluster.condition("ScalingActive")), (4, pair("True", "Prometheus")));
    assert_eq!(words(&cluster, "ScalingActive"), "Prometheus 35.0 now, target 10: 4 pods");
    cluster.pods_get_ready();
    cluster.settle();
    // An operator that has just begun says nothing new.
    blind(&mut cluster, true);
    let view = cluster.view(&name).unwrap().clone();
    let due = |cluster: &Cluster| is_due(&cluster.owner, &view, cluster.observed.load.as_ref().unwrap(), cluster.now);
    assert!(!due(&cluster));
    cluster.settle();
    assert_eq!(cluster.condition("ScalingActive"), pair("True", "Prometheus"));
    blind(&mut cluster, false);
    assert!(due(&cluster), "it is told");
    cluster.settle();
    assert!(!due(&cluster), "and told once");
    assert_eq!((wanted(&cluster, &name), cluster.condition("ScalingActive")), (4, pair("False", "QueryFailed")));
    assert_eq!(
        words(&cluster, "ScalingActive"),
        "p:9090: refused; the number of pods stays at 4 until there is an answer"
    );
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    load(&mut cluster, 35.0);
    assert!(due(&cluster), "it is told again");
    cluster.settle();
    assert_eq!(cluster.condition("ScalingActive"), pair("True", "Prometheus"));
}

#[test]
fn an_answer_of_nothing_takes_the_last_pod_and_another_brings_one() {
    let (mut cluster, name) = serving(asked(0));
    idle(&mut cluster, 10);
    cluster.settle();
    assert_eq!((wanted(&cluster, &name), cluster.condition("Ready")), (0, pair("True", "AtZero")));
    blind(&mut cluster, false);
    cluster.settle();
    assert_eq!((wanted(&cluster, &name), cluster.condition("ScalingActive")), (0, pair("False", "QueryFailed")));
    load(&mut cluster, 12.0);
    cluster.pass();
    assert_eq!(wanted(&cluster, &name), 2);
}

/// Version 1 is served under `metric: CPU`.
fn handed(min: i32) -> (Cluster, String) {
    let mut cluster = Cluster::new();
    let resources = serde_json::json!({ "resources": { "requests": { "cpu": "100m" } } });
    cluster.owner.spec.server = Some(serde_json::from_value(resources).unwrap());
    set(&mut cluster, cpu(min));
    cluster.set_version(1);
    cluster.settle();
    cluster.pods_get_ready();
    cluster.settle();
    let name = cluster.served().unwrap().name.clone();
    (cluster, name)
}

fn cpu(min: i32) -> serde_json::Value {
    serde_json::json!({ "min": min, "max": 5, "target": 70, "metric": "CPU" })
}

#[test]
fn an_autoscaler_of_the_promoted_revision_has_the_number_and_goes_with_the_metric() {
    let (mut cluster, name) = handed(2);
    let spec = cluster.autoscaler.clone().unwrap().spec.unwrap();
    let target = &spec.scale_target_ref;
    assert_eq!((target.kind.as_str(), target.name.as_str()), ("Deployment", name.as_str()));
    assert_eq!((spec.min_replicas, spec.max_replicas, spec.behavior), (Some(2), 5, None));
    let metric = spec.metrics.unwrap().remove(0).container_resource.unwrap();
    assert_eq!((metric.container.as_str(), metric.target.average_utilization), ("main", Some(70)));
    assert_eq!((wanted(&cluster, &name), desired(&cluster)), (2, None), "it begins with min");
    assert_eq!(cluster.condition("ScalingActive"), pair("Unknown", "CPU"));
    // What it writes stays.
    cluster.change(&name, |view| view.wanted = 4);
    cluster.settle();
    assert_eq!((wanted(&cluster, &name), desired(&cluster)), (4, None));
    let mut view = AutoscalerView::clone(cluster.observed.autoscaler.as_ref().unwrap());
    let words_of_it = Words { reason: "FailedGetMetric".to_owned(), message: "no metrics server".to_owned() };
    view.active = Some(("False".to_owned(), words_of_it));
    cluster.observed.autoscaler = Some(Arc::new(view.clone()));
    cluster.settle();
    assert_eq!(cluster.condition("ScalingActive"), pair("False", "AutoscalerFailed"));
    assert_eq!(words(&cluster, "ScalingActive"), "the HorizontalPodAutoscaler says FailedGetMetric: no metrics server");
    // Somebody changes it.
    cluster.observed.autoscaler = Some(Arc::new(AutoscalerView { shape: 1, ..view }));
    cluster.autoscaler = None;
    cluster.settle();
    assert!(cluster.autoscaler.is_some(), "it is put right");
    set(&mut cluster, serde_json::json!({ "max": 5, "target": 2 }));
    cluster.settle();
    assert!(cluster.observed.autoscaler.is_none());
    assert_eq!(cluster.condition("ScalingActive"), pair("True", "Concurrency"));
}

#[test]
fn with_an_autoscaler_it_goes_to_zero_and_a_routers_start_is_kept() {
    let (mut cluster, name) = handed(0);
    let (_, follow) = followed(&cluster.owner).unwrap();
    assert_eq!(follow.metric, ScaleMetric::CPU);
    assert_eq!(cluster.autoscaler.clone().unwrap().spec.unwrap().min_replicas, Some(1));
    assert_eq!(cluster.in_force[0].models[0].revisions[0].deployment, Some(name.clone()), "routers may start it");
    idle(&mut cluster, 300);
    cluster.settle();
    assert_eq!((wanted(&cluster, &name), cluster.condition("Ready")), (0, pair("True", "AtZero")));
    assert_eq!(cluster.condition("ScalingActive"), pair("True", "CPU"));
    let told: Vec<_> = cluster.events.iter().filter(|event| event.reason == "Scaled").map(|e| &e.message).collect();
    assert_eq!(told, ["from 1 to 0: no request for 5m: 0 pods"]);
    idle(&mut cluster, 0);
    cluster.change(&name, |view| view.wanted = 1);
    cluster.settle();
    assert_eq!((wanted(&cluster, &name), desired(&cluster)), (1, None));
    // It has no pod, and must have one: an autoscaler does nothing at zero.
    cluster.change(&name, |view| view.wanted = 0);
    set(&mut cluster, cpu(1));
    cluster.settle();
    assert_eq!(wanted(&cluster, &name), 1);
}

#[test]
fn in_a_rollout_the_autoscaler_takes_nothing_away_and_then_it_is_of_the_next() {
    let (mut cluster, old) = handed(1);
    let rollout = serde_json::json!({ "strategy": "Canary", "steps": [{ "weight": 50, "hold": "1m" }] });
    cluster.owner.spec.rollout = Some(serde_json::from_value(rollout).unwrap());
    cluster.set_version(2);
    for _ in 0..3 {
        cluster.settle();
        cluster.pods_get_ready();
        cluster.routers_report();
    }
    cluster.settle();
    let spec = |cluster: &Cluster| cluster.autoscaler.clone().unwrap().spec.unwrap();
    let down = spec(&cluster).behavior.and_then(|behavior| behavior.scale_down?.select_policy);
    assert_eq!((spec(&cluster).scale_target_ref.name, down.as_deref()), (old.clone(), Some("Disabled")));
    cluster.wait(61);
    for _ in 0..3 {
        cluster.settle();
        cluster.pods_get_ready();
        cluster.routers_report();
    }
    cluster.settle();
    let new = cluster.served().unwrap().name.clone();
    assert_ne!(new, old);
    assert_eq!((spec(&cluster).scale_target_ref.name, spec(&cluster).behavior), (new, None));
}

#[test]
fn cpu_without_a_request_of_it_is_refused() {
    let mut cluster = Cluster::new();
    set(&mut cluster, cpu(1));
    cluster.set_version(1);
    cluster.settle();
    assert_eq!(cluster.condition("Accepted"), pair("False", "RequestMissing"));
    assert!(
        words(&cluster, "Accepted").starts_with("spec.server.resources.requests.cpu: "),
        "{}",
        words(&cluster, "Accepted")
    );
    assert!(cluster.autoscaler.is_none() && cluster.observed.deployments.is_empty());
    let resources = serde_json::json!({ "resources": { "limits": { "cpu": "1" } } });
    cluster.owner.spec.server = Some(serde_json::from_value(resources).unwrap());
    cluster.edited();
    cluster.settle();
    assert_eq!(cluster.condition("Accepted"), pair("True", "Accepted"));
}
