//! When there is a pod, what it is told, what is taken over from it, and which runs wait for it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use millrace_contract::{Removed, SWEEP_ENV, SweepReport, SweepTask};
use serde_json::{Value, json};

use super::{Needs, sweep_is_due};
use crate::api::{ArchiveStatus, MLPipeline, MLPipelineRun, MLPipelineStatus, ModelVersion, StageTemplate};
use crate::config::Config;
use crate::names;
use crate::pipeline::{Looks, PipelineObserved, plan};
use crate::plan::{Create, DeleteKind, Plan, Refusal};
use crate::run::{ContainerView, JobView, PodView, Terminated, Words};

/// A pipeline with an archive, its runs, and the one Job that there may be.
struct World {
    pipeline: MLPipeline,
    runs: Vec<Arc<MLPipelineRun>>,
    versions: Vec<Arc<ModelVersion>>,
    job: Option<Job>,
    said: Option<SweepReport>,
    now: Timestamp,
}

fn hours(count: i64) -> SignedDuration {
    SignedDuration::from_hours(count)
}

impl World {
    fn new(history: &Value) -> Self {
        let spec = json!({
            "store": { "pvc": { "claimName": "lake" } }, "history": history,
            "stages": { "say": { "container": { "image": "i", "command": ["echo"] } } },
        });
        let mut pipeline = MLPipeline::new("shop", serde_json::from_value(spec).unwrap());
        pipeline.metadata.uid = Some("0123456789".to_owned());
        pipeline.metadata.namespace = Some("team".to_owned());
        let now = "2026-01-10T00:00:00Z".parse().unwrap();
        Self { pipeline, runs: vec![], versions: vec![], job: None, said: None, now }
    }

    /// A run that ended so many hours ago, or has not.
    fn run(&mut self, name: &str, hours_ago: Option<i64>, output: &str) {
        let ended = hours_ago.map(|ago| (self.now - hours(ago)).to_string());
        let output = json!({ "uri": output, "digest": "sha256:ab", "size": 3 });
        let run = json!({
            "metadata": { "name": name, "uid": format!("{name}-uid-0000"), "namespace": "team" },
            "spec": { "pipelineRef": { "name": "shop" }, "params": { "day": 3 } },
            "status": {
                "completionTime": ended, "startTime": "2026-01-01T00:00:00Z", "frozen": "shop-1",
                "conditions": [{ "type": "Succeeded", "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }],
                "stages": { "say": { "state": "Succeeded", "attempts": 2, "metrics": { "f1": 0.5 }, "outputs": { "m": output } } },
            },
        });
        let mut run = run;
        run["apiVersion"] = json!("millrace.dev/v1alpha1");
        run["kind"] = json!("MLPipelineRun");
        self.runs.push(Arc::new(serde_json::from_value(run).unwrap()));
    }

    fn version(&mut self, namespace: &str, uri: &str) {
        let version = json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "ModelVersion", "metadata": { "name": "m-v1", "namespace": namespace },
            "spec": { "model": "m", "version": 1, "format": "onnx", "artifact": { "uri": uri, "digest": "sha256:ab", "size": 3 } },
        });
        self.versions.push(Arc::new(serde_json::from_value(version).unwrap()));
    }

    fn observed(&self) -> PipelineObserved {
        let mut looks = Looks::default();
        if let Some(job) = &self.job {
            let name = job.metadata.name.clone().unwrap();
            let view = JobView {
                uid: format!("uid-{name}"),
                stage: job.metadata.labels.as_ref().unwrap()[names::TRIGGER_LABEL].clone(),
                owner: self.pipeline.metadata.uid.clone(),
                name,
                ..JobView::default()
            };
            let ended = self.said.as_ref().map(|said| Terminated {
                message: serde_json::to_string(said).unwrap(),
                reason: "Completed".into(),
                ..Terminated::default()
            });
            looks.pods.push(Arc::new(PodView {
                owner: Some(view.uid.clone()),
                main: Some(ContainerView { terminated: ended, ..ContainerView::default() }),
                ..PodView::default()
            }));
            looks.jobs.push(Arc::new(view));
        }
        let mut observed = PipelineObserved { runs: self.runs.clone(), looks, ..PipelineObserved::default() };
        if sweep_is_due(&self.pipeline, &observed, self.now) {
            let mut needs = Needs::of(&self.pipeline).unwrap();
            self.runs.iter().for_each(|run| needs.run(json!(**run)));
            self.versions.iter().for_each(|version| needs.object(&json!(**version)));
            observed.needs = Some(Ok(needs));
        }
        observed
    }

    fn plan(&self) -> Plan<MLPipelineStatus> {
        plan(&self.pipeline, &self.observed(), &Config::default(), self.now)
    }

    /// One pass; what it deleted, and its events.
    fn pass(&mut self) -> (Vec<String>, Vec<String>) {
        let plan = self.plan();
        if let Some(status) = plan.status {
            self.pipeline.status = Some(status);
        }
        for create in plan.create {
            let Create::Look(job) = create else { panic!("{create:?}") };
            self.job = Some(*job);
            self.said = None;
        }
        let gone: Vec<String> =
            plan.delete.into_iter().filter(|gone| gone.kind == DeleteKind::Run).map(|gone| gone.name).collect();
        self.runs.retain(|run| !gone.contains(run.metadata.name.as_ref().unwrap()));
        (gone, plan.events.iter().map(|event| event.reason.to_owned()).collect())
    }

    /// What the pod is told.
    fn told(&self) -> SweepTask {
        let pod = self.job.as_ref().expect("a Job").spec.as_ref().unwrap().template.spec.as_ref().unwrap();
        let env = pod.containers[0].env.as_ref().unwrap();
        assert!(env.iter().enumerate().all(|(at, part)| part.name == format!("{SWEEP_ENV}{at}")));
        let text: String = env.iter().map(|part| part.value.clone().unwrap()).collect();
        // As the kubelet gives it.
        serde_json::from_str(&text.replace("$$(", "$(")).unwrap()
    }

    /// The pod did what it was told.
    fn does(&mut self, left: u64, next: Option<u64>, removed: Removed) {
        let told = self.told();
        assert_eq!(told.now, u64::try_from(self.now.as_second()).unwrap());
        self.did(&told, left, next, removed, None);
    }

    fn did(&mut self, told: &SweepTask, left: u64, next: Option<u64>, removed: Removed, not_removed: Option<String>) {
        let recorded = told.records.iter().map(|record| record.key.clone()).collect();
        let dry_run = told.artifacts.as_ref().is_none_or(|artifacts| artifacts.dry_run);
        let kept = told.kept.len() as u64;
        self.said = Some(SweepReport::Done { recorded, kept, left, next, removed, dry_run, not_removed });
    }

    /// It was told of it long ago.
    fn does_late(&mut self) {
        let told = self.told();
        self.did(&told, 0, None, Removed::default(), None);
    }

    fn fails(&mut self) {
        let (reason, message) = ("StoreNotWritable".into(), "no rights".into());
        self.said = Some(SweepReport::Failed { reason, message, recorded: vec![] });
    }

    fn status(&self) -> ArchiveStatus {
        *self.pipeline.status.clone().unwrap().archive.unwrap()
    }

    fn archived(&self) -> Option<(String, String)> {
        let conditions = &self.pipeline.status.as_ref()?.conditions;
        conditions.iter().find(|c| c.type_ == "Archived").map(|c| (c.status.clone(), c.reason.clone()))
    }

    /// A Job is made in this pass.
    fn begins(&mut self) -> bool {
        self.job = None;
        self.pass();
        self.job.is_some()
    }
}

#[test]
fn finished_runs_are_recorded_together_and_deleted_only_then() {
    let mut world = World::new(&json!({ "keepSucceeded": 1, "archive": { "every": "2h" } }));
    for (name, ago) in [("b", Some(2)), ("a", Some(3)), ("c", Some(1)), ("d", None)] {
        world.run(name, ago, "pvc://lake/runs/x/say/m");
    }
    assert_eq!(world.pass().0, [] as [&str; 0]);
    let told = world.told();
    assert_eq!(told.folder, "history/shop-01234567");
    assert_eq!(told.kept, ["a-a-uid-00", "b-b-uid-00", "c-c-uid-00", "d-d-uid-00"]);
    assert_eq!((told.artifacts, told.store), (None, None));
    let names = |told: &SweepTask| -> Vec<Value> {
        told.records.iter().map(|r| serde_json::from_str::<Value>(&r.line).unwrap()["name"].clone()).collect()
    };
    assert_eq!(names(&world.told()), ["a", "b", "c"], "the oldest first");
    // While nothing is said, nothing else is made, and nothing is deleted.
    let name = world.job.as_ref().unwrap().metadata.name.clone();
    assert_eq!((world.pass().0.len(), world.job.as_ref().unwrap().metadata.name == name), (0, true));

    world.does(0, None, Removed::default());
    let before = world.plan();
    assert!(before.status.is_some() && before.create.is_empty(), "the status comes first");
    assert_eq!(world.pass().0, ["a", "b"]);
    assert_eq!((world.status().runs, world.archived().unwrap().0.as_str()), (3, "True"));
    // The rest comes together again.
    world.run("e", Some(0), "");
    world.run("f", Some(0), "");
    assert!(!world.begins());
    assert_eq!(world.plan().requeue, Some(Duration::from_hours(2)));
    world.now += hours(2);
    assert!(world.begins());
    assert_eq!(names(&world.told()), ["e", "f"]);
}

#[test]
fn a_record_says_what_is_known_of_a_run() {
    let mut world = World::new(&json!({ "archive": {} }));
    world.run("a", Some(1), "pvc://lake/runs/a/say/m");
    world.pass();
    let record: Value = serde_json::from_str(&world.told().records[0].line).unwrap();
    let wanted = json!({
        "name": "a", "uid": "a-uid-0000", "namespace": "team", "pipeline": "shop", "params": { "day": 3 }, "startTime": "2026-01-01T00:00:00Z",
        "completionTime": "2026-01-09T23:00:00Z", "outcome": "Succeeded", "reason": "Succeeded", "frozen": "shop-1",
        "stages": { "say": {
            "state": "Succeeded", "attempts": 2, "metrics": { "f1": 0.5 },
            "outputs": { "m": { "uri": "pvc://lake/runs/a/say/m", "digest": "sha256:ab", "size": 3 } },
        } },
    });
    assert_eq!(record, wanted);
}

#[test]
fn without_an_archive_nothing_waits_and_no_pod_is_made() {
    let mut world = World::new(&json!({ "keepSucceeded": 0 }));
    world.run("a", Some(1), "");
    assert_eq!(world.pass().0, ["a"]);
    assert!(world.job.is_none() && world.pipeline.status.as_ref().unwrap().archive.is_none());
}

#[test]
fn a_pipeline_that_is_quiet_has_no_pods() {
    let mut world = World::new(&json!({ "archive": { "every": "1h" }, "artifacts": {} }));
    world.run("a", Some(1), "");
    world.pass();
    world.does(0, None, Removed::default());
    world.pass();
    world.now += hours(1000);
    assert!(!world.begins());
    assert_eq!((world.plan().status, world.plan().requeue), (None, None));
}

#[test]
fn what_lies_in_runs_that_are_gone_is_looked_at_when_its_time_comes() {
    let artifacts = json!({ "archive": { "every": "1h" }, "artifacts": { "gracePeriod": "5h" } });
    let mut world = World::new(&artifacts);
    world.run("a", Some(1), "");
    world.run("b", None, "");
    world.pass();
    let told = world.told().artifacts.unwrap();
    assert_eq!((told.grace_seconds, told.dry_run), (5 * 3600, false));
    world.does(0, None, Removed::default());
    world.pass();
    // Somebody deletes a run before it has ended.
    world.runs.pop();
    assert!(!world.begins());
    world.now += hours(1);
    assert!(world.begins());
    world.does(1, Some(5 * 3600), Removed::default());
    world.pass();
    world.now += hours(4);
    assert!(!world.begins());
    world.now += hours(1);
    assert!(world.begins());
    // Something of it is needed yet.
    let removed = Removed { runs: 1, files: 3, bytes: 9, first: vec!["b-b-uid-00".into()] };
    world.does(1, None, removed);
    assert_eq!(world.pass().1, ["ArtifactsRemoved"]);
    let said = world.status().artifacts.unwrap();
    assert_eq!((said.runs, said.files, said.bytes, said.dry_run), (1, 3, 9, false));
    assert_eq!(said.first, ["b-b-uid-00"]);
    world.now += SignedDuration::from_mins(59);
    assert!(!world.begins());
    world.now += SignedDuration::from_mins(1);
    assert!(world.begins());
}

#[test]
fn a_dry_run_tells_once_and_the_real_one_follows_when_it_is_no_dry_run_any_more() {
    let history = |dry_run: bool| json!({ "archive": { "every": "1h" }, "artifacts": { "dryRun": dry_run } });
    let mut world = World::new(&history(true));
    world.run("a", Some(1), "");
    world.pass();
    assert!(world.told().artifacts.unwrap().dry_run);
    let removed = Removed { runs: 1, files: 1, bytes: 2, first: vec!["x".into()] };
    world.does(1, None, removed.clone());
    assert_eq!(world.pass().1, ["ArtifactsUnneeded"]);
    assert!(world.status().artifacts.unwrap().dry_run);
    world.now += hours(24);
    assert!(world.begins());
    world.does(1, None, removed.clone());
    assert_eq!(world.pass().1, [] as [&str; 0], "it is the same");
    world.pipeline.spec.history = serde_json::from_value(history(false)).unwrap();
    assert!(!world.begins(), "not sooner than the last one says");
    world.now += hours(1);
    assert!(world.begins());
    world.does(0, None, removed);
    assert_eq!(world.pass().1, ["ArtifactsRemoved"]);
    assert!(!world.status().artifacts.unwrap().dry_run);
}

#[test]
fn fifty_finished_runs_do_not_wait() {
    let mut world = World::new(&json!({ "archive": {} }));
    world.run("first", Some(1), "");
    world.pass();
    world.does(0, None, Removed::default());
    world.pass();
    for n in 0..49 {
        world.run(&format!("r{n}"), Some(0), "");
    }
    assert!(!world.begins());
    // A run of a stage is not what `history` counts.
    world.run("nested", Some(0), "");
    let mut nested = (*world.runs.pop().unwrap()).clone();
    nested.metadata.owner_references = serde_json::from_value(json!([
        { "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun", "name": "r0", "uid": "u", "controller": true },
    ]))
    .unwrap();
    world.runs.push(Arc::new(nested));
    world.now += SignedDuration::from_mins(5);
    assert!(!world.begins());
    world.run("last", Some(0), "");
    assert!(world.begins());
    assert_eq!(world.told().records.len(), 51);
    assert_eq!(world.told().look, 1, "one has said something");
    // There is a pause, whatever is left.
    world.does(0, None, Removed::default());
    world.pass();
    for n in 50..120 {
        world.run(&format!("r{n}"), Some(0), "");
    }
    assert!(!world.begins());
    world.now += SignedDuration::from_mins(1);
    assert!(world.begins());
}

#[test]
fn what_is_told_is_told_of_what_the_pod_did_and_not_of_what_it_would_do_now() {
    let history = |dry_run: bool| json!({ "archive": { "every": "1h" }, "artifacts": { "dryRun": dry_run } });
    let mut world = World::new(&history(true));
    world.run("a", Some(1), "");
    world.pass();
    world.does(1, None, Removed { runs: 1, files: 1, bytes: 2, first: vec!["x".into()] });
    world.pipeline.spec.history = serde_json::from_value(history(false)).unwrap();
    assert_eq!(world.pass().1, ["ArtifactsUnneeded"]);
    assert!(world.status().artifacts.unwrap().dry_run);
}

#[test]
fn what_cannot_be_taken_out_is_told_and_keeps_no_run() {
    let mut world = World::new(&json!({ "keepSucceeded": 0, "archive": { "every": "1h" }, "artifacts": {} }));
    world.run("a", Some(1), "");
    world.pass();
    let told = world.told();
    world.did(&told, 1, Some(0), Removed::default(), Some("no rights".to_owned()));
    assert_eq!(world.pass(), (vec!["a".to_owned()], vec!["ArchiveFailed".to_owned()]));
    assert_eq!(world.archived(), Some(("False".into(), "NotRemoved".into())));
    assert!(world.status().last_time.is_some() && world.status().failing_since.is_none());
    assert!(!world.begins());
    world.now += hours(1);
    assert!(world.begins());
    let told = world.told();
    world.did(&told, 0, None, Removed::default(), None);
    world.pass();
    assert_eq!(world.archived().unwrap().0, "True");
}

#[test]
fn what_cannot_be_read_is_told_and_makes_no_pod() {
    let mut world = World::new(&json!({ "archive": {}, "artifacts": {} }));
    world.run("a", Some(1), "");
    let observed = PipelineObserved { needs: Some(Err("modelversions: forbidden".to_owned())), ..world.observed() };
    let plan = plan(&world.pipeline, &observed, &Config::default(), world.now);
    assert!(plan.create.iter().all(|create| !matches!(create, Create::Look(_))));
    world.pipeline.status = plan.status;
    assert_eq!(world.archived(), Some(("False".into(), "NeedsNotReadable".into())));
    assert_eq!(world.status().error.unwrap().message, "modelversions: forbidden");
    assert!(!world.begins());
    world.now += SignedDuration::from_mins(5);
    assert!(world.begins());
}

#[test]
fn an_operator_that_was_away_deletes_no_run_before_its_record() {
    let mut world = World::new(&json!({ "keepSucceeded": 0, "archive": { "every": "1h" } }));
    world.run("a", Some(1), "");
    world.pass();
    world.now += hours(1000);
    assert_eq!(world.pass().0, [] as [&str; 0]);
    world.does_late();
    assert_eq!(world.pass(), (vec!["a".to_owned()], vec![]));
}

#[test]
fn in_another_store_everything_begins_anew() {
    let mut world = World::new(&json!({ "archive": { "every": "1h" }, "artifacts": {} }));
    world.run("a", Some(1), "");
    world.pass();
    world.does(0, None, Removed::default());
    world.pass();
    assert_eq!((world.status().done.len(), world.status().reports), (1, 1));
    world.pipeline.spec.store = serde_json::from_value(json!({ "pvc": { "claimName": "pond" } })).unwrap();
    assert!(!world.begins(), "the status comes first");
    let status = world.status();
    assert_eq!((status.done.len(), status.reports, status.runs, status.last_time), (0, 2, 1, None));
    assert!(world.begins());
    assert_eq!((world.told().records.len(), world.told().look), (1, 2));
}

#[test]
fn what_a_model_version_or_a_kept_run_has_the_address_of_is_held() {
    let gone = "pvc://lake/runs/old-12345678/fit/attempts/1/outputs/m";
    let mut world = World::new(&json!({ "archive": {}, "artifacts": {} }));
    // From the cache: its output lies in a run that is gone.
    world.run("hit", Some(1), gone);
    world.run("own", Some(1), "pvc://lake/runs/own-own-uid-/say/attempts/1/outputs/m");
    world.version("team", "pvc://lake/runs/older-1234567/fit/attempts/2/outputs/m");
    world.version("team", "s3://lake/runs/bucket-1234/fit/outputs/m");
    world.pass();
    assert_eq!(world.told().held, ["old-12345678/fit/attempts/1/outputs/m", "older-1234567/fit/attempts/2/outputs/m"]);

    // A bucket may serve several namespaces.
    let store = json!({ "s3": { "bucket": "lake", "secretRef": { "name": "keys" } } });
    world.pipeline.spec.store = serde_json::from_value(store).unwrap();
    world.version("other", "s3://lake/runs/foreign-1234/fit/outputs/m");
    assert!(!world.begins(), "it is another store");
    assert!(world.begins());
    let told = world.told();
    assert_eq!(told.held, ["bucket-1234/fit/outputs/m", "foreign-1234/fit/outputs/m"]);
    assert_eq!(told.store.unwrap().key, "");
}

#[test]
fn more_than_a_pod_can_be_told_takes_nothing_out() {
    let mut world = World::new(&json!({ "archive": {}, "artifacts": {} }));
    for n in 0..4000 {
        world.version("team", &format!("pvc://lake/runs/gone-{n:08}/fit/attempts/1/outputs/{}", "m".repeat(63)));
    }
    world.run("a", Some(1), "");
    assert_eq!(world.pass().1, ["ArtifactsKept"]);
    let told = world.told();
    assert!(told.artifacts.is_none() && told.held.is_empty() && told.kept.is_empty());
    assert_eq!(told.records.len(), 1);
}

#[test]
fn a_store_that_cannot_be_written_is_told_and_keeps_runs_for_a_day() {
    let mut world = World::new(&json!({ "keepSucceeded": 0, "archive": { "every": "1h" } }));
    world.run("a", Some(300), "");
    world.pass();
    world.fails();
    let (gone, events) = world.pass();
    assert_eq!((gone.len(), events), (0, vec!["ArchiveFailed".to_owned()]));
    assert_eq!(world.archived(), Some(("False".into(), "StoreNotWritable".into())));
    assert!(!world.begins(), "not at once");
    world.now += hours(1);
    assert!(world.begins());
    world.fails();
    assert_eq!(world.pass().1, [] as [&str; 0], "the same is told once");
    world.now += hours(22);
    assert_eq!(world.pass().0.len(), 0);
    world.now += hours(1);
    let (gone, events) = world.pass();
    assert_eq!(gone, ["a"]);
    assert!(events.contains(&"NotArchived".to_owned()), "{events:?}");

    world.run("b", Some(0), "");
    world.now += hours(1);
    assert!(world.begins());
    world.does(0, None, Removed::default());
    let (gone, events) = world.pass();
    assert_eq!((gone, events), (vec!["b".to_owned()], vec!["ArchiveWorks".to_owned()]));
    assert_eq!(world.archived().unwrap().0, "True");
}

#[test]
fn five_hundred_runs_wait_at_most() {
    let mut world = World::new(&json!({ "keepSucceeded": 0, "archive": {} }));
    for n in 0..503 {
        world.run(&format!("r{n:03}"), Some(1000 - n), "");
    }
    let (gone, events) = world.pass();
    assert_eq!(gone, ["r000", "r001", "r002"]);
    assert_eq!(events, ["NotArchived"]);
}

#[test]
fn a_run_that_is_begun_again_is_recorded_again() {
    let mut world = World::new(&json!({ "archive": { "every": "1h" } }));
    world.run("a", Some(1), "");
    world.pass();
    world.does(0, None, Removed::default());
    world.pass();
    let mut again = (*world.runs[0]).clone();
    again.status.as_mut().unwrap().completion_time =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now));
    world.runs = vec![Arc::new(again)];
    world.now += hours(1);
    assert!(world.begins());
    assert_eq!(world.told().records.len(), 1);
}

#[test]
fn what_keeps_the_pod_is_told_in_the_words_of_who_knows() {
    let mut world = World::new(&json!({ "archive": {} }));
    world.run("a", Some(1), "");
    world.pass();
    let mut observed = world.observed();
    let mut pod = (*observed.looks.pods[0]).clone();
    pod.unschedulable = Some(Words { reason: "Unschedulable".into(), message: "no node".into() });
    pod.created = Some(world.now - SignedDuration::from_mins(5));
    observed.looks.pods = vec![Arc::new(pod)];
    let status = plan(&world.pipeline, &observed, &Config::default(), world.now).status.unwrap();
    let error = status.archive.unwrap().error.unwrap();
    assert_eq!((error.reason.as_str(), error.message.as_str()), ("Unschedulable", "no node"));

    // The Job itself is refused.
    let name = world.job.take().unwrap().metadata.name.unwrap();
    let refusal =
        Refusal { object: format!("Job {name}"), code: 403, reason: "Forbidden".into(), message: "quota".into() };
    let observed = PipelineObserved { refusals: vec![refusal], ..world.observed() };
    let status = plan(&world.pipeline, &observed, &Config::default(), world.now).status.unwrap();
    assert_eq!(status.archive.unwrap().error.unwrap().reason, "Forbidden");
}

#[test]
fn the_pod_sees_the_runs_and_its_own_history_and_has_no_rights() {
    let mut world = World::new(&json!({ "archive": {} }));
    world.run("a", Some(1), "");
    world.pass();
    let job = json!(world.job.as_ref().unwrap());
    let pod = &job["spec"]["template"]["spec"];
    let mounts = &pod["containers"][0]["volumeMounts"];
    assert_eq!((&mounts[0]["subPath"], &mounts[1]["subPath"]), (&json!("runs"), &json!("history/shop-01234567")));
    assert_eq!(mounts.as_array().unwrap().len(), 2);
    assert_eq!(pod["automountServiceAccountToken"], json!(false));
    assert_eq!(pod["securityContext"]["runAsUser"], json!(65532));
    assert_eq!(pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"], json!(false));
    assert!(pod["containers"][0].get("envFrom").is_none());
    assert_eq!(world.status().agent, Some(Config::default().agent()));

    let store = json!({ "s3": { "bucket": "lake", "prefix": "teams/a", "secretRef": { "name": "keys" } } });
    world.pipeline.spec.store = serde_json::from_value(store).unwrap();
    world.begins();
    assert!(world.begins());
    let job = json!(world.job.as_ref().unwrap());
    let pod = &job["spec"]["template"]["spec"];
    assert!(pod.get("volumes").is_none());
    assert_eq!(pod["containers"][0]["envFrom"][0]["secretRef"]["name"], "keys");
    assert_eq!(world.told().store.unwrap().key, "teams/a");
}

#[test]
fn the_pod_is_the_user_that_all_stages_are() {
    let user = |stages: Value| {
        let mut world = World::new(&json!({ "archive": {} }));
        world.pipeline.spec.stages = serde_json::from_value(stages).unwrap();
        world.run("a", Some(1), "");
        let template: StageTemplate = serde_json::from_value(json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "StageTemplate", "metadata": { "name": "t" },
            "spec": { "container": { "image": "i", "command": ["c"], "runAsUser": 7, "runAsGroup": 8 } },
        }))
        .unwrap();
        let templates = [("t".to_owned(), Arc::new(template))].into();
        let observed = PipelineObserved { templates, ..world.observed() };
        let made = plan(&world.pipeline, &observed, &Config::default(), world.now).create;
        let job = made.into_iter().find_map(|create| if let Create::Look(job) = create { Some(job) } else { None });
        let security = json!(job.unwrap())["spec"]["template"]["spec"]["securityContext"].clone();
        ["runAsUser", "runAsGroup", "fsGroup"].map(|name| security[name].as_i64().unwrap())
    };
    let own = |user: Option<i64>, group: Option<i64>| {
        let mut container = json!({ "image": "i", "command": ["c"] });
        container["runAsUser"] = json!(user);
        container["runAsGroup"] = json!(group);
        json!({ "container": container })
    };
    let usual = 65532;
    for (stages, expected) in [
        (json!({ "a": own(None, None), "b": own(None, None) }), [usual; 3]),
        (json!({ "a": own(Some(7), Some(8)), "b": own(Some(7), Some(8)) }), [7, 8, 8]),
        (json!({ "a": own(Some(7), Some(8)), "b": own(Some(9), Some(8)), "c": own(Some(7), Some(8)) }), [usual, 8, 8]),
        (json!({ "a": own(Some(7), Some(8)), "b": { "uses": "t" } }), [7, 8, 8]),
        (json!({ "a": own(Some(7), None), "b": { "uses": "t" } }), [7, usual, usual]),
        (json!({ "a": { "uses": "t", "overrides": { "runAsUser": 9 } } }), [9, 8, 8]),
        (json!({ "a": { "uses": "t" }, "b": { "uses": "t", "overrides": { "runAsUser": 9 } } }), [usual, 8, 8]),
    ] {
        assert_eq!(user(stages.clone()), expected, "{stages}");
    }
}
