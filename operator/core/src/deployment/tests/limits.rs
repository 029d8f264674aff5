//! What a spec says of waiting, answering and starting: at the routers, which roll nothing for it, and at the servers.

use millrace_routes::{Model, Protocol};
use serde_json::{Value, json};

use super::cluster::{Cluster, pair};
use crate::plan::Apply;

fn set(cluster: &mut Cluster, server: Value, routing: Value) {
    cluster.owner.spec.server = serde_json::from_value(server).unwrap();
    cluster.owner.spec.routing = serde_json::from_value(routing).unwrap();
    cluster.edited();
}

fn told(cluster: &Cluster) -> &Model {
    &cluster.in_force[0].models[0]
}

/// The main container's arguments, the seconds of the pod's end, and those that it may start in.
fn pod(server: Value) -> (Vec<String>, i64, i32) {
    let mut cluster = Cluster::new();
    set(&mut cluster, server, Value::Null);
    cluster.set_version(4);
    let deployment = cluster.plan().apply.into_iter().find_map(|apply| match apply {
        Apply::Deployment(deployment) => deployment.spec,
        _ => None,
    });
    let pod = deployment.unwrap().template.spec.unwrap();
    let main = &pod.containers[0];
    let start = main.startup_probe.as_ref().unwrap();
    assert_eq!(start.period_seconds, Some(1));
    (
        main.args.clone().unwrap_or_default(),
        pod.termination_grace_period_seconds.unwrap(),
        start.failure_threshold.unwrap(),
    )
}

#[test]
fn what_the_routers_keep_changes_without_another_revision() {
    let mut cluster = Cluster::serving_version_1();
    let before = cluster.served().unwrap().name.clone();
    let usual = told(&cluster).clone();
    assert_eq!((usual.queue.max, usual.queue.timeout_ms, usual.limits.answer_ms), (1000, 120_000, None));
    assert_eq!((usual.revisions[0].concurrency, usual.revisions[0].protocol), (None, Protocol::Auto));
    let queue = json!({ "queue": { "max": 5, "timeout": "10m" } });
    set(&mut cluster, json!({ "concurrency": 1, "timeout": "20s" }), queue);
    cluster.settle();
    assert_eq!(cluster.served().unwrap().name, before);
    assert_eq!(cluster.observed.deployments.len(), 1);
    let told = told(&cluster);
    assert_eq!((told.queue.max, told.queue.timeout_ms, told.limits.answer_ms), (5, 600_000, Some(20_000)));
    assert_eq!(told.revisions[0].concurrency, Some(1));
    set(&mut cluster, Value::Null, Value::Null);
    cluster.settle();
    assert_eq!(self::told(&cluster).revisions, usual.revisions);
    assert_eq!(cluster.observed.deployments.len(), 1);
}

#[test]
fn a_revision_that_goes_keeps_the_settings_that_it_came_with() {
    let mut cluster = Cluster::new();
    let server = |concurrency: u32, protocol: &str, image: &str| json!({ "concurrency": concurrency, "container": { "image": image, "protocol": protocol } });
    set(&mut cluster, server(1, "H2C", "one"), Value::Null);
    cluster.set_version(1);
    cluster.settle();
    cluster.pods_get_ready();
    cluster.settle();
    let old = cluster.served().unwrap().name.clone();
    set(&mut cluster, server(4, "HTTP1", "two"), Value::Null);
    cluster.settle();
    let of = |name: &str| {
        let revision = told(&cluster).revisions.iter().find(|revision| (revision.name == old) == (name == "old"));
        revision.map(|revision| (revision.concurrency, revision.protocol)).unwrap()
    };
    assert_eq!(of("old"), (Some(1), Protocol::Http2));
    assert_eq!(of("new"), (Some(4), Protocol::Http1));
}

#[test]
fn a_gateway_learns_by_a_revisions_service_that_its_pods_speak_http_2() {
    for (protocol, told) in [("H2C", Some("kubernetes.io/h2c")), ("HTTP1", None), ("Auto", None)] {
        let mut cluster = Cluster::new();
        set(&mut cluster, json!({ "container": { "image": "one", "protocol": protocol } }), Value::Null);
        cluster.set_version(1);
        let services = cluster.plan().apply.into_iter().filter_map(|apply| match apply {
            Apply::Service(service) => service.spec,
            _ => None,
        });
        let headless = services.into_iter().find(|spec| spec.cluster_ip.as_deref() == Some("None")).unwrap();
        assert_eq!(headless.ports.unwrap()[0].app_protocol.as_deref(), told, "{protocol}");
    }
}

#[test]
fn a_model_without_pods_says_for_how_long_requests_wait() {
    let mut cluster = Cluster::serving_version_1();
    cluster.set_replicas(0);
    cluster.settle();
    assert!(cluster.message().contains("requests wait for one for 2m"), "{}", cluster.message());
    set(&mut cluster, Value::Null, json!({ "queue": { "timeout": "10m" } }));
    cluster.settle();
    assert!(cluster.message().contains("requests wait for one for 10m"), "{}", cluster.message());
}

#[test]
fn the_server_is_told_what_it_must_know_and_nothing_without_a_word_of_it() {
    let (usual, ends, starts) = pod(Value::Null);
    assert_eq!((ends, starts), (60, 900));
    let named = |name: &str| usual.iter().any(|argument| argument.starts_with(&format!("--{name}=")));
    assert!(!["max-delay", "request-timeout", "max-body", "threads", "explain-budget"].into_iter().any(named));
    // The routers keep it.
    let router_only = json!({ "concurrency": 2, "timeout": "30s" });
    assert_eq!(pod(router_only), (usual, 60, 900));
    let server = json!({
        "timeout": "90s", "threads": 3, "explainBudget": 4096, "startupTimeout": "1h",
        "batching": { "maxSize": 16, "maxDelay": "2ms" }
    });
    let (arguments, ends, starts) = pod(server);
    for argument in [
        "--max-batch-size=16",
        "--max-delay=2ms",
        "--request-timeout=90000ms",
        "--grace=90s",
        "--threads=3",
        "--explain-budget=4096",
    ] {
        assert!(arguments.contains(&argument.to_owned()), "{argument}: {arguments:?}");
    }
    assert_eq!((ends, starts), (120, 3600), "as much more as an answer may take");
}

#[test]
fn a_container_ends_in_the_time_that_its_answers_may_take_and_has_arguments_of_its_own() {
    let (arguments, ends, starts) =
        pod(json!({ "timeout": "10m", "startupTimeout": "30s", "container": { "image": "i", "args": ["serve"] } }));
    assert_eq!((arguments, ends, starts), (vec!["serve".to_owned()], 630, 30));
}

#[test]
fn a_container_shows_by_grpc_or_by_tcp_that_it_can_serve_and_routers_leave_that_to_the_kubelet() {
    for (probe, by) in [("GRPC", json!({ "port": 9000 })), ("TCP", json!({ "port": "http" }))] {
        let mut cluster = Cluster::new();
        let container = json!({ "image": "i", "port": 9000, "readyProbe": probe });
        set(&mut cluster, json!({ "container": container }), Value::Null);
        cluster.set_version(1);
        let deployment = cluster.plan().apply.into_iter().find_map(|apply| match apply {
            Apply::Deployment(deployment) => deployment.spec,
            _ => None,
        });
        let main = deployment.unwrap().template.spec.unwrap().containers.remove(0);
        for of in [main.startup_probe.unwrap(), main.readiness_probe.unwrap()] {
            assert!(of.http_get.is_none());
            let found = if probe == "GRPC" { json!(of.grpc.unwrap()) } else { json!(of.tcp_socket.unwrap()) };
            assert_eq!(found, by);
        }
        cluster.settle();
        cluster.pods_get_ready();
        cluster.settle();
        assert_eq!(told(&cluster).revisions[0].ready_path, None);
        let old = cluster.served().unwrap().name.clone();
        // It is known still when another one comes that shows it otherwise.
        set(&mut cluster, Value::Null, Value::Null);
        cluster.set_version(2);
        cluster.settle();
        let revisions = &told(&cluster).revisions;
        assert_eq!(revisions.len(), 2);
        for revision in revisions {
            assert_eq!(revision.ready_path.is_none(), revision.name == old, "{revision:?}");
        }
    }
}

#[test]
fn a_longer_body_passes_the_router_and_the_server() {
    let mut cluster = Cluster::serving_version_1();
    let before = cluster.served().unwrap().name.clone();
    let bound = |cluster: &mut Cluster, bytes: i64| {
        cluster.owner.spec.security = serde_json::from_value(json!({ "maxBodyBytes": bytes })).unwrap();
        cluster.edited();
        cluster.settle();
    };
    bound(&mut cluster, 8 << 20);
    assert_eq!((told(&cluster).limits.body_bytes, cluster.observed.deployments.len()), (Some(8 << 20), 1));
    bound(&mut cluster, 16 << 20);
    assert_eq!(told(&cluster).limits.body_bytes, Some(16 << 20));
    assert_eq!((cluster.served().unwrap().name.clone(), cluster.observed.deployments.len()), (before, 2));
}

#[test]
fn what_is_out_of_bounds_is_refused_with_what_to_write() {
    for (server, routing, at, says) in [
        (json!(null), json!({ "queue": { "timeout": "2h" } }), "spec.routing.queue.timeout", "write one, such as 10m"),
        (json!({ "timeout": "50ms" }), json!(null), "spec.server.timeout", "write one, such as 2m"),
        (json!({ "startupTimeout": "5s" }), json!(null), "spec.server.startupTimeout", "write one, such as 1h"),
        (json!({ "batching": { "maxDelay": "11s" } }), json!(null), "spec.server.batching.maxDelay", "such as 2ms"),
        (
            json!({ "timeout": "2m", "terminationGracePeriod": "2m" }),
            json!(null),
            "spec.server.terminationGracePeriod",
            "write 137s or more, or leave it out",
        ),
        (
            json!({ "timeout": "2m", "terminationGracePeriod": "2m", "container": { "image": "i" } }),
            json!(null),
            "spec.server.terminationGracePeriod",
            "write 125s or more, or leave it out",
        ),
    ] {
        let mut cluster = Cluster::new();
        set(&mut cluster, server, routing);
        cluster.set_version(1);
        cluster.pass();
        assert_eq!(cluster.condition("Accepted"), pair("False", "InvalidDuration"), "{at}");
        let message = cluster.message();
        assert!(message.contains(at) && message.contains(says), "{message}");
    }
}

#[test]
fn an_end_that_is_long_enough_is_taken() {
    let (arguments, ends, _) = pod(json!({ "timeout": "2m", "terminationGracePeriod": "137s" }));
    assert!(arguments.contains(&"--grace=120s".to_owned()), "{arguments:?}");
    assert_eq!(ends, 137);
}
