//! The controller as a process beside a real apiserver: what it writes, and what it leaves alone.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use super::support::{Controller, create, eventually, read, with_temp_ns};

fn run(name: &str) -> Value {
    json!({
        "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun", "metadata": { "name": name },
        "spec": { "pipeline": { "stages": { "only": { "container": { "image": "none.invalid/none:1", "command": ["true"] } } } } },
    })
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind)
}

#[tokio::test]
async fn a_run_gets_one_job_and_an_idle_controller_writes_nothing() {
    with_temp_ns(|client, namespace| async move {
        let controller = Controller::start(&namespace);
        create(&client, &namespace, &run("r"), false).await.unwrap();
        let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
        let job = eventually("the stage's Job", || async {
            jobs.list(&ListParams::default()).await.unwrap().items.into_iter().next()
        })
        .await;
        let written = read(&client, &namespace, "MLPipelineRun", "r").await.unwrap();
        let owner = &job.metadata.owner_references.unwrap()[0];
        assert_eq!((json!(owner.uid), owner.controller), (written["metadata"]["uid"].clone(), Some(true)));
        assert_eq!(written["status"]["stages"]["only"]["job"]["name"], json!(job.metadata.name.unwrap()));

        // Without a kubelet that pulls the image nothing changes any more, once the pod waits.
        let total = || {
            let mut sum = 0.0;
            for verb in ["Create", "Apply", "Scale", "Status", "Delete", "Event"] {
                sum += controller.metric(&format!("millrace_controller_writes_total{{verb=\"{verb}\"}}"));
            }
            sum
        };
        eventually("three seconds without a write", || async {
            let before = total();
            tokio::time::sleep(Duration::from_secs(3)).await;
            total().total_cmp(&before).is_eq().then_some(())
        })
        .await;
        let passes = controller.metric("millrace_controller_reconciles_total{kind=\"MLPipelineRun\",outcome=\"Done\"}");
        assert!(passes > 0.0, "it looked at the run");
        assert_eq!(jobs.list(&ListParams::default()).await.unwrap().items.len(), 1);
        assert!(controller.terminate().success());
    })
    .await;
}

#[tokio::test]
async fn a_job_of_somebody_else_under_the_name_is_not_adopted() {
    with_temp_ns(|client, namespace| async move {
        let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
        let container = json!({ "name": "main", "image": "none.invalid/none:1" });
        let foreign: Job = serde_json::from_value(json!({
            "metadata": { "name": "r-only-1", "labels": { "millrace.dev/run": "r" } },
            "spec": { "suspend": true, "template": { "spec": { "restartPolicy": "Never", "containers": [container] } } },
        }))
        .unwrap();
        let before = jobs.create(&PostParams::default(), &foreign).await.unwrap();
        let controller = Controller::start(&namespace);
        create(&client, &namespace, &run("r"), false).await.unwrap();
        let words = eventually("a stage that says that the name is taken", || async {
            let run = read(&client, &namespace, "MLPipelineRun", "r").await.unwrap();
            let text = run["status"].to_string();
            text.contains("NameTaken").then_some(text)
        })
        .await;
        assert!(words.contains("r-only-1"), "{words}");
        let after = jobs.get("r-only-1").await.unwrap();
        assert_eq!(after.metadata.owner_references, None);
        assert_eq!(after.metadata.uid, before.metadata.uid);
        assert!(controller.terminate().success());
    })
    .await;
}

#[tokio::test]
async fn a_pipeline_that_no_schema_can_refuse_is_not_accepted_and_makes_nothing() {
    with_temp_ns(|client, namespace| async move {
        let controller = Controller::start(&namespace);
        let mut wrong = run("wrong");
        wrong["spec"]["pipeline"]["stages"]["only"]["needs"] = json!(["nobody"]);
        create(&client, &namespace, &wrong, false).await.unwrap();
        let refused = eventually("Accepted=False", || async {
            let run = read(&client, &namespace, "MLPipelineRun", "wrong").await.unwrap();
            condition(&run, "Accepted").filter(|c| c["status"] == "False").cloned()
        })
        .await;
        assert!(refused["message"].as_str().unwrap().contains("nobody"), "{refused}");
        let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
        assert!(jobs.list(&ListParams::default()).await.unwrap().items.is_empty());
        assert!(controller.get("/readyz").starts_with("HTTP/1.1 200"));
        assert!(controller.terminate().success());
    })
    .await;
}
