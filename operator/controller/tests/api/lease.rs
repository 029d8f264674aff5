//! Replicas of the controller: one works, and when it goes the other goes on.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use serde_json::json;

use super::support::{Controller, create, eventually, with_temp_ns};

fn leads(controller: &Controller) -> bool {
    controller.metric("millrace_controller_leader") > 0.0
}

async fn holder(client: &Client, namespace: &str) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    leases.get("controller").await.unwrap().spec.unwrap().holder_identity
}

/// A run gets its Job, so somebody works.
async fn works(client: &Client, namespace: &str, name: &str) {
    let stage = json!({ "container": { "image": "none.invalid/none:1", "command": ["true"] } });
    let run = json!({
        "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun", "metadata": { "name": name },
        "spec": { "pipeline": { "stages": { "only": stage } } },
    });
    create(client, namespace, &run, false).await.unwrap();
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let job = format!("{name}-only-1");
    eventually(&job, || async { jobs.get_opt(&job).await.unwrap() }).await;
}

#[tokio::test]
async fn the_lease_is_let_go_at_the_end_and_taken_over_after_a_crash() {
    with_temp_ns(|client, namespace| async move {
        let a = Controller::start_replica(&namespace, "a");
        eventually("a leads", || async { leads(&a).then_some(()) }).await;
        let b = Controller::start_replica(&namespace, "b");
        eventually("b is ready", || async { b.get("/readyz").starts_with("HTTP/1.1 200").then_some(()) }).await;
        works(&client, &namespace, "first").await;
        assert!(leads(&a) && !leads(&b));

        assert!(a.terminate().success());
        assert_ne!(holder(&client, &namespace).await.as_deref(), Some("a"), "it was let go before the process ended");
        eventually("b leads", || async { leads(&b).then_some(()) }).await;
        works(&client, &namespace, "second").await;

        let c = Controller::start_replica(&namespace, "c");
        eventually("c is ready", || async { c.get("/readyz").starts_with("HTTP/1.1 200").then_some(()) }).await;
        // One that only waits leaves the holder alone when it goes.
        assert!(Controller::start_replica(&namespace, "d").terminate().success());
        assert_eq!(holder(&client, &namespace).await.as_deref(), Some("b"));
        // SIGKILL: nothing is let go.
        drop(b);
        assert_eq!(holder(&client, &namespace).await.as_deref(), Some("b"));
        eventually("c leads", || async { leads(&c).then_some(()) }).await;
        works(&client, &namespace, "third").await;
        assert!(c.terminate().success());
    })
    .await;
}
