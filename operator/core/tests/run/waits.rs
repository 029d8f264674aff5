//! What runs wait for, and with whose words.

use std::sync::Arc;

use millrace_core::api::{MLPipeline, MLPipelineStatus, RunNumbers, StageState};
use serde_json::json;

use crate::cluster::{Cluster, Fate, words};
use crate::{pipeline, stage};

#[test]
fn an_image_that_is_not_there_is_waited_for_with_the_kubelets_words_and_fails_in_time() {
    let spec = pipeline(json!({ "s": stage(json!({ "pendingTimeout": "5m" })) }));
    let mut cluster = Cluster::new(spec).fate("s", 1, Fate::NoImage);
    for _ in 0..5 {
        cluster.reconcile();
        crate::node::tick(&mut cluster);
    }
    let status = cluster.stage("s");
    assert_eq!((status.state, status.reason.as_deref()), (StageState::Pending, Some("ErrImagePull")));
    assert!(cluster.condition("Succeeded").unwrap().2.contains("nowhere/nothing:1"));
    let waiting = cluster.events.iter().filter(|event| event.reason == "StageWaiting").count();
    assert_eq!(waiting, 1, "one event a change");
    cluster.settle();
    let status = cluster.stage("s");
    assert_eq!((status.state, status.reason.as_deref()), (StageState::Failed, Some("PendingTimeout")));
    assert!(status.message.as_ref().unwrap().contains("nowhere/nothing:1"), "{:?}", status.message);
    assert!(cluster.jobs.is_empty(), "its Job is deleted");
}

#[test]
fn what_is_no_name_of_an_image_fails_at_once() {
    let mut cluster = Cluster::new(pipeline(json!({ "s": stage(json!({})) }))).fate("s", 1, Fate::NoImage);
    for _ in 0..2 {
        cluster.reconcile();
        crate::node::tick(&mut cluster);
    }
    let main = cluster.pods[0].main.as_mut().unwrap();
    main.waiting = Some(words("InvalidImageName", "couldn't parse image name \"No Image\""));
    cluster.reconcile();
    let status = cluster.stage("s");
    assert_eq!((status.state, status.reason.as_deref()), (StageState::Failed, Some("InvalidImageName")));
    assert!(status.message.as_ref().unwrap().contains("No Image"), "{:?}", status.message);
}

#[test]
fn a_job_that_the_apiserver_refuses_is_tried_again_with_its_words_until_it_takes_it() {
    let mut cluster = Cluster::new(pipeline(json!({ "s": stage(json!({})) })));
    cluster.refuse_jobs = Some((403, "exceeded quota: pods=0"));
    let wait = cluster.reconcile().unwrap();
    assert!(wait.as_secs() <= 60, "{wait:?}");
    let status = cluster.stage("s");
    assert_eq!((status.state, status.reason.as_deref()), (StageState::Pending, Some("Forbidden")));
    assert_eq!(status.message.as_deref(), Some("exceeded quota: pods=0 (gives up at 01:00Z)"));
    let before = cluster.run.status.clone();
    cluster.pass_time(wait);
    cluster.reconcile();
    assert_eq!(cluster.run.status, before, "the same refusal changes nothing");
    cluster.refuse_jobs = None;
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    assert_eq!(cluster.stage("s").attempts, 1);
}

#[test]
fn a_name_that_somebody_else_has_taken_fails_the_stage() {
    let mut cluster = Cluster::new(pipeline(json!({ "s": stage(json!({})) })));
    cluster.reconcile();
    let (mut view, job) = cluster.jobs.remove("r-s-1").unwrap();
    let mut other = Cluster::new(pipeline(json!({ "s": stage(json!({})) })));
    view.owner = Some("somebody".into());
    view.complete = true;
    other.jobs.insert("r-s-1".into(), (view, job));
    other.settle();
    let status = other.stage("s");
    assert_eq!((status.state, status.reason.as_deref()), (StageState::Failed, Some("NameTaken")));
}

#[test]
fn a_run_waits_for_the_pipeline_that_it_names() {
    let mut cluster = Cluster::new(pipeline(json!({ "s": stage(json!({})) })));
    cluster.run.spec.pipeline = None;
    cluster.run.spec.pipeline_ref = Some(millrace_core::api::PipelineRef { name: "later".into() });
    cluster.pipelines = vec!["late".into(), "shop".into()];
    cluster.settle();
    for kind in ["Accepted", "Succeeded"] {
        let (_, reason, message) = cluster.condition(kind).unwrap();
        assert_eq!(reason, "PipelineNotFound");
        assert!(message.contains("spec.pipelineRef.name") && message.contains("later"), "{message}");
        assert!(message.contains("did you mean `late`? There is late, shop"), "{message}");
    }
    assert!(cluster.status().completion_time.is_none());
    assert_eq!(cluster.writes, 1);
}

#[test]
fn a_run_begins_when_its_pipeline_has_given_it_a_number_and_keeps_that() {
    let args = json!({ "image": "i", "command": ["c"], "args": ["number-$[[ run.number ]]"] });
    let spec = json!({ "stages": { "s": { "container": args, "when": "run.number < 9.0" } } });
    let mut cluster = Cluster::new(spec.clone());
    cluster.run.spec.pipeline = None;
    cluster.run.spec.pipeline_ref = Some(millrace_core::api::PipelineRef { name: "p".into() });
    let mut counted = MLPipeline::new("p", serde_json::from_value(spec).unwrap());
    cluster.pipeline = Some(Arc::new(counted.clone()));
    assert!(cluster.reconcile().is_some(), "it looks again");
    assert_eq!((cluster.writes, cluster.jobs.len()), (0, 0));
    let numbers = |uid: &str, last: i64| RunNumbers { last, given: [(uid.to_owned(), last)].into() };
    counted.status = Some(MLPipelineStatus { run_numbers: Some(numbers("another", 6)), ..MLPipelineStatus::default() });
    cluster.pipeline = Some(Arc::new(counted.clone()));
    cluster.reconcile();
    assert_eq!(cluster.writes, 0, "that is another's");
    counted.status.as_mut().unwrap().run_numbers = Some(numbers("run-uid-0", 7));
    cluster.pipeline = Some(Arc::new(counted.clone()));
    cluster.settle();
    assert_eq!((cluster.status().number, cluster.stage("s").state), (Some(7), StageState::Succeeded));
    assert!(serde_json::to_string(&cluster.jobs["r-s-1"].1).unwrap().contains("number-7"));
    counted.status.as_mut().unwrap().run_numbers = Some(numbers("another", 8));
    cluster.pipeline = Some(Arc::new(counted));
    let again = serde_json::from_value(json!({ "stage": "s" })).unwrap();
    cluster.run.spec.retry_from = Some(again);
    cluster.settle();
    assert!(serde_json::to_string(&cluster.jobs["r-s-2"].1).unwrap().contains("number-7"), "{:?}", cluster.jobs.keys());
    assert_eq!(cluster.status().number, Some(7));
}

#[test]
fn a_pipeline_with_a_mistake_is_refused_and_nothing_is_created() {
    let mut cluster = Cluster::new(pipeline(json!({ "s": stage(json!({ "needs": ["nobody"] })) })));
    cluster.settle();
    let (status, _, message) = cluster.condition("Accepted").unwrap();
    assert_eq!(status, "False");
    assert!(message.contains("spec.stages.s.needs") && message.contains("nobody"), "{message}");
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "False");
    assert_eq!(cluster.condition("Stalled").unwrap().0, "True");
    assert!(cluster.status().completion_time.is_some());
    assert!(cluster.jobs.is_empty() && cluster.frozen.is_none());
    assert_eq!(cluster.writes, 1);
}

#[test]
fn a_run_that_is_refused_names_every_fault_in_accepted_and_counts_them_elsewhere() {
    let stages = (0..5).map(|n| (format!("s{n}"), stage(json!({ "needs": ["nowhere"] }))));
    let mut cluster = Cluster::new(pipeline(stages.collect::<serde_json::Map<_, _>>().into()));
    cluster.settle();
    assert_eq!(cluster.condition("Accepted").unwrap().2.lines().count(), 5);
    let brief = cluster.condition("Ready").unwrap().2;
    assert!(brief.starts_with("5 faults: see Accepted. The first 2: spec.stages.s0.needs[0]: "), "{brief}");
    assert_eq!(cluster.condition("Stalled").unwrap().2, brief);
    assert!(cluster.events.iter().any(|event| event.message.ends_with(brief)));
}

#[test]
fn a_run_says_what_it_begins_and_what_in_it_is_no_template() {
    let container = json!({ "container": { "image": "i", "args": ["{{ params.x }}"], "command": ["c"] } });
    let mut cluster = Cluster::new(pipeline(json!({ "s": stage(container) })));
    cluster.settle();
    let told: Vec<_> = cluster.events.iter().map(|event| (event.reason, event.message.as_str())).take(2).collect();
    let not = "spec.stages.s.container.args[0]: `{{ params.x }}` is not replaced: write $[[ params.x ]]";
    assert_eq!(told, [("RunStarted", "1 stage"), ("NotReplaced", not)]);
}

#[test]
fn a_parameter_that_is_not_declared_refuses_the_run() {
    let mut cluster = Cluster::new(pipeline(json!({ "s": stage(json!({})) })));
    cluster.run.spec.params.insert("epochs".into(), json!(3));
    cluster.settle();
    let (status, _, message) = cluster.condition("Accepted").unwrap();
    assert_eq!(status, "False");
    assert!(message.contains("spec.params") && message.contains("epochs"), "{message}");
}

#[test]
fn a_pipeline_that_cannot_be_kept_is_tried_again_and_the_words_are_shown() {
    let mut cluster = Cluster::new(pipeline(json!({ "s": stage(json!({})) })));
    cluster.refuse_revisions = true;
    let wait = cluster.reconcile().unwrap();
    let (status, reason, message) = cluster.condition("Succeeded").unwrap();
    assert_eq!((status, reason, message), ("Unknown", "Forbidden", "exceeded quota"));
    assert!(cluster.jobs.is_empty());
    cluster.refuse_revisions = false;
    cluster.pass_time(wait);
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
}

#[test]
fn the_schedulers_words_are_shown_once_they_last_and_go_when_the_pod_has_a_node() {
    let mut cluster = Cluster::new(pipeline(json!({ "s": stage(json!({})) })));
    cluster.reconcile();
    crate::node::tick(&mut cluster);
    let now = cluster.now;
    cluster.pods[0].created = Some(now);
    cluster.pods[0].unschedulable =
        Some(words("Unschedulable", "0/2 nodes are available: 2 Insufficient nvidia.com/gpu"));
    let writes = cluster.writes;
    let wait = cluster.reconcile().unwrap();
    assert_eq!((cluster.writes, wait.as_secs()), (writes, 2), "the scheduler may find a place in its second try");
    cluster.pass_time(wait);
    cluster.reconcile();
    let status = cluster.stage("s");
    assert_eq!((status.state, status.reason.as_deref()), (StageState::Pending, Some("Unschedulable")));
    assert!(status.message.as_ref().unwrap().contains("nvidia.com/gpu"));
    cluster.pods[0].unschedulable = None;
    cluster.reconcile();
    assert_eq!(cluster.stage("s").reason, None);
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
}
