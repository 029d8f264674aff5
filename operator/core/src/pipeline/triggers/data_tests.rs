//! `onData` over time, with Jobs that say what a test lets them say.
// The calls read better with `json!` as it is.
#![allow(clippy::needless_pass_by_value)]

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::EnvVar;
use k8s_openapi::jiff::SignedDuration;
use millrace_contract::{LookKnown, LookTask};
use serde_json::{Value, json};

use super::tests::World;
use crate::api::{DataTriggerStatus, MLPipeline};
use crate::names;
use crate::pipeline::{PipelineObserved, plan};
use crate::plan::{Create, Refusal};
use crate::run::{ContainerView, JobView, PodView, Terminated, Words};

fn lake(more: Value) -> Value {
    let mut trigger = json!({ "uri": "s3://lake/penguins/" });
    trigger.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "onData": { "lake": trigger } })
}

fn found(version: &str) -> Value {
    json!({ "found": { "version": version, "found": "2 objects, 16 bytes" } })
}

fn refused() -> Value {
    json!({ "failed": { "reason": "Refused", "message": "s3://lake/penguins/: access is refused" } })
}

impl World {
    /// A Job that was made, and its pod.
    pub(super) fn made(&mut self, job: Job) {
        let meta = &job.metadata;
        let label = |name: &str| meta.labels.as_ref().unwrap()[name].clone();
        assert_eq!(label(names::PIPELINE_UID_LABEL), "u1");
        let name = meta.name.clone().unwrap();
        assert!(!self.looks.jobs.iter().any(|there| there.name == name), "{name} is there");
        let uid = format!("{name}-{}", self.looks.warnings.len());
        self.looks.jobs.push(Arc::new(JobView {
            name,
            uid: uid.clone(),
            stage: label(names::TRIGGER_LABEL),
            owner: meta.owner_references.as_ref().map(|owners| owners[0].uid.clone()),
            created: Some(self.now),
            ..JobView::default()
        }));
        self.looks.pods.push(Arc::new(PodView {
            name: uid.clone(),
            uid: format!("pod-{uid}"),
            owner: Some(uid),
            created: Some(self.now),
            phase: "Pending".to_owned(),
            ..PodView::default()
        }));
    }

    fn pod(&mut self) -> &mut PodView {
        Arc::make_mut(self.looks.pods.last_mut().unwrap())
    }

    /// The pod ends and says this.
    fn says(&mut self, exit_code: i32, message: impl ToString) {
        let end =
            Terminated { exit_code, message: message.to_string(), reason: "Error".into(), ..Terminated::default() };
        self.pod().main = Some(ContainerView { terminated: Some(end), ..ContainerView::default() });
    }

    fn runs_since(&mut self, seconds: i64) {
        let since = self.now - SignedDuration::from_secs(seconds);
        self.pod().main = Some(ContainerView { running_since: Some(since), ..ContainerView::default() });
    }

    fn lake(&self) -> DataTriggerStatus {
        self.pipeline.status.as_ref().unwrap().triggers.as_ref().unwrap().on_data["lake"].clone()
    }

    fn versions(&self) -> Vec<&str> {
        self.runs.iter().map(|run| run.spec.trigger.as_ref().unwrap().version.as_deref().unwrap()).collect()
    }

    /// The Job that is wanted now, as it would be made.
    fn job(&self) -> Job {
        let mut without = Self::new(json!({}));
        (without.pipeline, without.config, without.now) = (self.pipeline.clone(), self.config.clone(), self.now);
        match without.plan().create.pop() {
            Some(Create::Look(job)) => *job,
            other => panic!("{other:?}"),
        }
    }

    fn task(&self) -> LookTask {
        let pod = self.job().spec.unwrap().template.spec.unwrap();
        serde_json::from_str(&pod.containers[0].args.as_ref().unwrap()[2]).unwrap()
    }
}

#[test]
fn what_is_there_at_first_starts_nothing_and_each_new_version_one_run() {
    let mut world = World::new(lake(json!({ "params": { "day": "d" } })));
    world.settle();
    assert_eq!((world.looks.jobs.len(), world.task().known), (1, None));
    world.says(0, found("v1"));
    world.settle();
    assert!(world.runs.is_empty());
    assert_eq!((world.lake().version.as_deref(), world.lake().reports), (Some("v1"), 1));
    assert_eq!(world.task().known, Some(LookKnown { version: Some("v1".into()), error: None }));
    for version in ["v2", "v1", "v2"] {
        world.advance(1);
        world.says(0, found(version));
        world.settle();
    }
    assert_eq!(world.versions(), ["v2", "v1", "v2"], "what it was before is new too");
    assert_eq!(world.looks.jobs.len(), 1, "one looks at a time");
    let run = &world.runs[0].spec;
    let trigger = run.trigger.as_ref().unwrap();
    assert_eq!((trigger.kind.as_str(), trigger.name.as_deref()), ("Data", Some("lake")));
    assert_eq!(run.params["day"], json!("d"));
    assert_eq!((world.lake().runs, world.lake().last_run), (3, world.runs[2].metadata.name.clone()));
    assert!(world.events[0].ends_with("for version v2 of the data: 2 objects, 16 bytes"), "{:?}", world.events);
}

#[test]
fn what_comes_where_nothing_was_starts_a_run_and_initial_does_at_first() {
    let mut world = World::new(lake(json!({ "settle": "1m" })));
    world.settle();
    assert_eq!(world.task().settle, 0, "what is there at first may be known at once");
    world.says(0, json!({ "found": { "found": "nothing is there yet" } }));
    world.settle();
    assert_eq!((world.lake().version, world.lake().found.as_deref()), (None, Some("nothing is there yet")));
    assert_eq!((world.task().settle, world.task().known), (60, Some(LookKnown::default())));
    world.says(0, found("v1"));
    world.settle();
    assert_eq!(world.versions(), ["v1"]);
    let mut world = World::new(lake(json!({ "initial": true, "settle": "1m" })));
    world.settle();
    assert_eq!(world.task().settle, 60);
    world.says(0, found("v1"));
    world.settle();
    assert_eq!(world.versions(), ["v1"]);
}

#[test]
fn a_crash_a_lost_job_or_a_deleted_run_makes_no_second_run_and_loses_none() {
    for lost in ["nothing", "job", "pod"] {
        for crash in [true, false] {
            let mut world = World::new(lake(json!({})));
            world.settle();
            world.says(0, found("v1"));
            world.settle();
            world.says(0, found("v2"));
            world.pass(crash);
            match lost {
                "job" => world.looks = crate::pipeline::Looks::default(),
                "pod" => {
                    world.looks.pods.clear();
                    for job in &mut world.looks.jobs {
                        Arc::make_mut(job).complete = true;
                    }
                }
                _ => {}
            }
            world.settle();
            if lost != "nothing" {
                assert_eq!(world.lake().version.as_deref(), Some("v1"), "nobody knows what it said");
                world.says(0, found("v2"));
                world.settle();
            }
            assert_eq!(world.versions(), ["v2"], "{lost} {crash}");
            world.runs.clear();
            world.settle();
            assert!(world.runs.is_empty() && world.lake().version.as_deref() == Some("v2"), "{lost} {crash}");
        }
    }
}

#[test]
fn what_keeps_it_from_looking_is_told_once_and_starts_nothing() {
    let mut world = World::new(lake(json!({})));
    world.settle();
    world.says(0, refused());
    world.settle();
    assert_eq!(world.lake().error.as_ref().map(|error| error.reason.as_str()), Some("Refused"));
    let blocked = "TriggerBlocked: onData.lake: Refused: s3://lake/penguins/: access is refused";
    assert_eq!(world.events, [blocked]);
    assert_eq!(world.task().known, Some(LookKnown { version: None, error: Some("Refused".into()) }));
    world.live(30);
    assert_eq!(world.events.len(), 1);
    world.says(0, found("v1"));
    world.settle();
    assert!(world.runs.is_empty(), "that is what was there at first");
    assert_eq!((world.lake().error, world.lake().version.as_deref()), (None, Some("v1")));
    assert!(
        world.events[1].starts_with("TriggerUnblocked: onData lake: looking goes well again"),
        "{:?}",
        world.events
    );
}

#[test]
fn what_its_pod_waits_for_is_told_after_a_while_until_it_runs() {
    let mut world = World::new(lake(json!({})));
    world.settle();
    let words = Words { reason: "CreateContainerConfigError".into(), message: "secret \"lake\" not found".into() };
    world.pod().main = Some(ContainerView { waiting: Some(words), ..ContainerView::default() });
    world.settle();
    assert_eq!(world.lake().message, None);
    assert!(world.plan().requeue.is_some_and(|wait| wait.as_secs() <= 10));
    world.live(1);
    let message = world.lake().message.unwrap();
    assert_eq!(message, "CreateContainerConfigError: secret \"lake\" not found");
    world.runs_since(1);
    world.settle();
    assert_eq!(world.lake().message, Some(message), "it may end at once");
    assert!(world.plan().requeue.is_some_and(|wait| wait.as_secs() <= 19));
    world.live(1);
    assert_eq!(world.lake().message, None);
    world.says(137, "out of memory");
    world.settle();
    assert!(world.lake().message.unwrap().ends_with("ended with 137 (Error): out of memory"));
    assert!(world.runs.is_empty());
}

#[test]
fn a_job_that_is_refused_or_gets_no_pod_is_told() {
    let world = World::new(lake(json!({})));
    let name = world.job().metadata.name.unwrap();
    let refusal = Refusal {
        object: format!("Job {name}"),
        code: 403,
        reason: "Forbidden".into(),
        message: "exceeded quota".into(),
    };
    let observed = PipelineObserved { refusals: vec![refusal], ..PipelineObserved::default() };
    let planned = plan(&world.pipeline, &observed, &world.config, world.now);
    let status = planned.status.unwrap();
    assert_eq!(status.triggers.unwrap().on_data["lake"].message.as_deref(), Some("Forbidden: exceeded quota"));
    assert!(status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"), "runs by hand work");
    assert_eq!(planned.create.len(), 1, "it is tried again");
    let mut world = World::new(lake(json!({})));
    world.settle();
    world.looks.pods.clear();
    world.looks.warnings.insert(
        name.clone(),
        Words {
            reason: "FailedCreate".into(),
            message: "Error creating: pods \"look-x7k2p\" is forbidden: exceeded quota".into(),
        },
    );
    world.settle();
    let told = "the Job that looks: FailedCreate: Error creating: its pod is forbidden: exceeded quota";
    assert_eq!(world.lake().message.as_deref(), Some(told));
}

#[test]
fn nothing_is_left_of_a_trigger_that_is_suspended_or_gone() {
    let mut world = World::new(lake(json!({})));
    world.settle();
    world.says(0, found("v1"));
    world.settle();
    world.edit(lake(json!({ "suspend": true })));
    world.settle();
    assert!(world.looks.jobs.is_empty());
    assert_eq!(world.lake().version.as_deref(), Some("v1"), "what comes meanwhile is new afterwards");
    world.edit(lake(json!({})));
    world.settle();
    world.says(0, found("v2"));
    world.settle();
    assert_eq!((world.looks.jobs.len(), world.versions()), (1, vec!["v2"]));
    world.edit(json!({}));
    world.settle();
    assert!(world.looks.jobs.is_empty());
    // Also of a pipeline that is not accepted; what goes on there stays.
    world.edit(lake(json!({})));
    world.settle();
    for stage in world.pipeline.spec.stages.values_mut() {
        stage.needs = vec!["nobody".into()];
    }
    world.settle();
    assert_eq!(world.looks.jobs.len(), 1);
    world.edit(json!({}));
    world.settle();
    assert!(world.looks.jobs.is_empty());
}

#[test]
fn another_address_begins_anew_and_another_interval_does_not() {
    let mut world = World::new(lake(json!({})));
    world.settle();
    world.says(0, found("v1"));
    world.settle();
    let before = world.job().metadata.name;
    world.edit(lake(json!({ "poll": "10s" })));
    world.settle();
    assert_ne!(world.job().metadata.name, before);
    assert_eq!((world.looks.jobs.len(), world.task().poll, world.lake().reports), (1, 10, 1));
    world.edit(lake(json!({ "uri": "s3://lake/seals/" })));
    world.settle();
    assert_eq!((world.looks.jobs.len(), world.lake().version, world.task().known), (1, None, None));
    world.says(0, found("v1"));
    world.settle();
    assert!(world.runs.is_empty());
}

#[test]
fn somebody_elses_job_is_neither_read_nor_deleted() {
    let mut world = World::new(lake(json!({})));
    world.settle();
    world.says(0, found("v1"));
    for job in &mut world.looks.jobs {
        Arc::make_mut(job).owner = Some("another".into());
    }
    let planned = world.plan();
    assert!(planned.delete.is_empty() && planned.create.len() == 1);
}

#[test]
fn its_pod_is_small_restricted_and_holds_what_it_needs() {
    let mut world =
        World::new(lake(json!({ "access": { "secretRef": { "name": "lake" }, "region": "eu-central-1" } })));
    let pod = world.job().spec.unwrap().template.spec.unwrap();
    let keys = |job: Job| {
        let main = job.spec.unwrap().template.spec.unwrap().containers.remove(0);
        let of = |variable: EnvVar| variable.value_from.and_then(|from| from.secret_key_ref);
        let keys = main.env.into_iter().flatten().filter_map(of);
        keys.map(|key| (key.name, key.key, key.optional == Some(true))).collect::<Vec<_>>()
    };
    let key = |name: &str, optional: bool| ("lake".to_owned(), name.to_owned(), optional);
    let expected =
        [key("AWS_ACCESS_KEY_ID", false), key("AWS_SECRET_ACCESS_KEY", false), key("AWS_SESSION_TOKEN", true)];
    assert_eq!(keys(world.job()), expected);
    assert_eq!((pod.automount_service_account_token, pod.volumes.is_none()), (Some(false), true));
    assert_eq!(world.task().access.region.as_deref(), Some("eu-central-1"));
    world.edit(json!({ "onData": { "drop": { "uri": "pvc://inbox/day/" } } }));
    let pod = world.job().spec.unwrap().template.spec.unwrap();
    let claim = pod.volumes.as_ref().unwrap()[0].persistent_volume_claim.as_ref().unwrap();
    assert_eq!((claim.claim_name.as_str(), claim.read_only), ("inbox", None));
    assert_eq!(pod.containers[0].volume_mounts.as_ref().unwrap()[0].mount_path, "/millrace/look");
    world.config.data_image = String::new();
    let planned = world.plan();
    assert!(planned.create.is_empty());
    let message = planned.status.unwrap().triggers.unwrap().on_data["drop"].message.clone();
    assert!(message.unwrap().contains("--data-image"));
    // Two pipelines of one name, one after the other, have Jobs of their own.
    let job = |uid: &str| {
        let mut world = World::new(lake(json!({})));
        let mut other: MLPipeline = world.pipeline.clone();
        other.metadata.uid = Some(uid.to_owned());
        world.pipeline = other;
        world.job().metadata.name
    };
    assert_ne!(job("u1"), job("u2"));
}
