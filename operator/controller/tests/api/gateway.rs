//! The controller beside the Gateway API's own kinds: without them, when they come, and when they go. Here is no controller of Gateways: the
//! test says what one would say.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use millrace_core::gateway_api::{Gateway, HTTPRoute};
use serde_json::{Value, json};

use super::support::{Controller, change, create, eventually, read, with_temp_ns};

const KINDS: [&str; 2] = ["httproutes", "gateways"];
/// Who has this one may install and delete the kinds: tests/cluster/test_gateway.py takes it too.
const LOCK: &str = "gateway-api-crds";

/// Takes the lock of all tests that install the kinds. One of a test that was killed is taken over.
async fn lock(client: &Client) -> Api<Lease> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "default");
    let wanted: Lease = serde_json::from_value(json!({ "metadata": { "name": LOCK } })).unwrap();
    let began = Instant::now();
    while leases.create(&PostParams::default(), &wanted).await.is_err() {
        if let Some(held) = leases.get_opt(LOCK).await.unwrap() {
            let since = held.metadata.creation_timestamp.unwrap().0;
            if k8s_openapi::jiff::Timestamp::now().duration_since(since).as_secs() > 600 {
                let _gone = leases.delete(LOCK, &DeleteParams::default()).await;
            }
        }
        assert!(began.elapsed() < Duration::from_mins(11), "another test does not let go of the Gateway API");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    leases
}

fn definitions() -> Vec<CustomResourceDefinition> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/gateway-api/crds");
    let done = Command::new(script).output().expect("the script runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let folder = String::from_utf8(done.stdout).unwrap();
    let read = |plural: &str| {
        let path = Path::new(folder.trim()).join(format!("gateway.networking.k8s.io_{plural}.yaml"));
        serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    KINDS.iter().map(|plural| read(plural)).collect()
}

async fn install(client: &Client) {
    let all: Api<CustomResourceDefinition> = Api::all(client.clone());
    for wanted in definitions() {
        let name = wanted.metadata.name.clone().unwrap();
        all.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&wanted)).await.unwrap();
        eventually("the kind", || async {
            let conditions = all.get(&name).await.unwrap().status?.conditions?;
            conditions.iter().any(|c| c.type_ == "Established" && c.status == "True").then_some(())
        })
        .await;
    }
}

async fn uninstall(client: &Client) {
    let all: Api<CustomResourceDefinition> = Api::all(client.clone());
    for plural in KINDS {
        let name = format!("{plural}.gateway.networking.k8s.io");
        let _may_be_gone = all.delete(&name, &DeleteParams::default()).await;
        eventually("the end of the kind", || async { all.get_opt(&name).await.unwrap().is_none().then_some(()) }).await;
    }
}

/// The condition `Routed` once it has this reason.
async fn routed(client: &Client, namespace: &str, reason: &str) -> Value {
    eventually(reason, || async {
        let found = read(client, namespace, "ModelDeployment", "m").await.unwrap();
        let conditions = found["status"]["conditions"].as_array()?.clone();
        let told = conditions.into_iter().find(|c| c["type"] == "Routed" && c["reason"] == reason)?;
        Some(json!({ "status": told["status"], "message": told["message"], "address": found["status"]["address"] }))
    })
    .await
}

/// What a controller of Gateways says of the route as it is.
async fn say(routes: &Api<HTTPRoute>, accepted: &str) {
    let generation = routes.get("m").await.unwrap().metadata.generation;
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind, "status": status, "reason": "Said", "message": "by the test", "observedGeneration": generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let parent = json!({
        "parentRef": { "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge" },
        "controllerName": "example.com/test",
        "conditions": [condition("Accepted", accepted), condition("ResolvedRefs", "True")],
    });
    let status = json!({ "status": { "parents": [parent] } });
    routes.patch_status("m", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

#[tokio::test]
async fn the_gateway_api_may_come_later_and_go_and_what_gateways_say_is_told() {
    with_temp_ns(|client, namespace| async move {
        let leases = lock(&client).await;
        let told = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(walk(&client, &namespace))).await;
        uninstall(&client).await;
        leases.delete(LOCK, &DeleteParams::default()).await.unwrap();
        if let Err(panic) = told {
            std::panic::resume_unwind(panic);
        }
    })
    .await;
}

async fn walk(client: &Client, namespace: &str) {
    uninstall(client).await;
    let controller = Controller::start_with_gateways(namespace);
    let model = json!({
        "apiVersion": "millrace.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "m" },
        "spec": { "model": { "name": "m" }, "routing": { "gateway": { "parentRefs": [{ "name": "edge" }], "path": "/v2/models/m" } } },
    });
    create(client, namespace, &model, false).await.unwrap();
    let missing = routed(client, namespace, "GatewayAPIMissing").await;
    assert_eq!(missing["status"], "False");
    // Nothing else waits for it.
    eventually("it is ready", || async { controller.get("/readyz").starts_with("HTTP/1.1 200").then_some(()) }).await;

    install(client).await;
    let told = routed(client, namespace, "GatewayMissing").await;
    assert!(told["message"].as_str().unwrap().contains("there is no Gateway edge"), "{told}");
    let routes: Api<HTTPRoute> = Api::namespaced(client.clone(), namespace);
    let made = routes.get("m").await.unwrap();
    let owner = &made.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.controller), ("ModelDeployment", Some(true)));
    let rule = &json!(made.spec)["rules"][0];
    assert_eq!(rule["matches"][0]["path"], json!({ "type": "PathPrefix", "value": "/v2/models/m" }));
    assert_eq!((&rule["backendRefs"][0]["name"], &rule["backendRefs"][0]["port"]), (&json!("m"), &json!(80)));

    let gateways: Api<Gateway> = Api::namespaced(client.clone(), namespace);
    let listener = json!({ "name": "web", "port": 8080, "protocol": "HTTP", "hostname": "m.example.com" });
    let edge =
        json!({ "metadata": { "name": "edge" }, "spec": { "gatewayClassName": "test", "listeners": [listener] } });
    gateways.create(&PostParams::default(), &serde_json::from_value(edge).unwrap()).await.unwrap();
    let told = routed(client, namespace, "RoutePending").await;
    assert!(told["message"].as_str().unwrap().contains("a controller of its class test"), "{told}");
    say(&routes, "False").await;
    let told = routed(client, namespace, "RouteRejected").await;
    let words = "Gateway edge does not take the HTTPRoute: Accepted is False, Said: by the test";
    assert_eq!(told["message"], words);
    say(&routes, "True").await;
    let told = routed(client, namespace, "RouteAccepted").await;
    assert_eq!(told["address"]["gatewayUrl"], "http://m.example.com:8080/v2/models/m");

    // What somebody changes is put right, and has to be accepted again.
    let generation = made.metadata.generation.unwrap();
    let stolen = json!({ "spec": { "hostnames": ["elsewhere.example.com"] } });
    routes.patch("m", &PatchParams::default(), &Patch::Merge(stolen)).await.unwrap();
    eventually("the route as it was", || async {
        let found = routes.get("m").await.unwrap();
        (found.metadata.generation > Some(generation + 1) && found.spec == made.spec).then_some(())
    })
    .await;
    say(&routes, "True").await;
    routed(client, namespace, "RouteAccepted").await;

    // At rest it is written no more.
    let before = routes.get("m").await.unwrap().metadata.resource_version;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(routes.get("m").await.unwrap().metadata.resource_version, before);

    // The kinds go, and come again.
    uninstall(client).await;
    routed(client, namespace, "GatewayAPIMissing").await;
    install(client).await;
    eventually("another route", || async { routes.get_opt("m").await.ok().flatten() }).await;
    let without = json!({ "spec": { "routing": null } });
    change(client, namespace, "ModelDeployment", "m", &without).await.unwrap();
    eventually("the end of the route", || async { routes.get_opt("m").await.unwrap().is_none().then_some(()) }).await;
    assert!(controller.terminate().success());
}

#[tokio::test]
async fn an_operator_without_the_gateway_api_says_that_it_is_switched_off() {
    with_temp_ns(|client, namespace| async move {
        let controller = Controller::start(&namespace);
        let routing = json!({ "gateway": { "parentRefs": [{ "name": "edge" }] } });
        let model = json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "m" },
            "spec": { "model": { "name": "m" }, "routing": routing },
        });
        create(&client, &namespace, &model, false).await.unwrap();
        let told = routed(&client, &namespace, "GatewayAPIDisabled").await;
        assert!(told["message"].as_str().unwrap().contains("gatewayAPI.enabled"), "{told}");
        assert!(controller.terminate().success());
    })
    .await;
}
