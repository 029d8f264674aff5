//! Triggers over time: one start, one run, whatever crashes.
// The calls read better with `json!` as it is.
#![allow(clippy::needless_pass_by_value)]

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::api::{
    MLPipeline, MLPipelineRun, MLPipelineRunStatus, MLPipelineStatus, ModelDeployment, ModelTriggerStatus,
};
use crate::config::Config;
use crate::pipeline::{Looks, PipelineObserved, plan};
use crate::plan::{Create, DeleteKind, Plan, Refusal};

/// A pipeline, its runs, what it looks at, and a clock.
pub(super) struct World {
    pub(super) pipeline: MLPipeline,
    pub(super) runs: Vec<Arc<MLPipelineRun>>,
    pub(super) models: BTreeMap<String, Arc<ModelDeployment>>,
    pub(super) upstreams: BTreeMap<String, Arc<MLPipeline>>,
    pub(super) upstream_runs: BTreeMap<String, Vec<Arc<MLPipelineRun>>>,
    pub(super) looks: Looks,
    pub(super) config: Config,
    pub(super) now: Timestamp,
    pub(super) events: Vec<String>,
}

impl World {
    pub(super) fn new(triggers: Value) -> Self {
        let spec = json!({
            "params": { "day": { "type": "string", "default": "today" } },
            "history": { "keepSucceeded": 2 },
            "triggers": triggers,
            "stages": { "say": { "container": { "image": "i", "command": ["echo"] } } },
        });
        let mut pipeline = MLPipeline::new("shop", serde_json::from_value(spec).unwrap());
        pipeline.metadata.uid = Some("u1".to_owned());
        Self {
            pipeline,
            runs: Vec::new(),
            models: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            upstream_runs: BTreeMap::new(),
            looks: Looks::default(),
            config: Config { data_image: "registry/data:1".to_owned(), ..Config::default() },
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            events: Vec::new(),
        }
    }

    pub(super) fn edit(&mut self, triggers: Value) {
        self.pipeline.spec.triggers = serde_json::from_value(triggers).unwrap();
    }

    pub(super) fn plan(&self) -> Plan<MLPipelineStatus> {
        let observed = PipelineObserved {
            runs: self.runs.clone(),
            model_deployments: self.models.clone(),
            upstreams: self.upstreams.clone(),
            upstream_runs: self.upstream_runs.clone(),
            looks: self.looks.clone(),
            ..PipelineObserved::default()
        };
        plan(&self.pipeline, &observed, &self.config, self.now)
    }

    /// One pass; with `crash` it ends between the status and the runs.
    pub(super) fn pass(&mut self, crash: bool) -> bool {
        let plan = self.plan();
        let quiet = plan.status.is_none() && plan.create.is_empty() && plan.delete.is_empty();
        self.events.extend(plan.events.into_iter().map(|event| format!("{}: {}", event.reason, event.message)));
        if let Some(status) = plan.status {
            self.pipeline.status = Some(status);
        }
        if crash {
            return quiet;
        }
        for create in plan.create {
            match create {
                Create::Run(mut run) => {
                    run.metadata.uid = run.metadata.name.clone();
                    assert!(!self.runs.iter().any(|there| there.metadata.name == run.metadata.name), "{run:?}");
                    self.runs.push(Arc::new(*run));
                }
                Create::Look(job) => self.made(*job),
                other => panic!("{other:?}"),
            }
        }
        for delete in &plan.delete {
            if delete.kind == DeleteKind::Job {
                self.looks.jobs.retain(|job| job.uid != delete.uid);
                self.looks.pods.retain(|pod| pod.owner.as_ref() != Some(&delete.uid));
            } else {
                self.runs.retain(|run| run.metadata.name.as_ref() != Some(&delete.name));
            }
        }
        quiet
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..50 {
            if self.pass(false) {
                return;
            }
        }
        panic!("no end");
    }

    pub(super) fn advance(&mut self, minutes: i64) {
        self.now += SignedDuration::from_mins(minutes);
    }

    /// Minute by minute.
    pub(super) fn live(&mut self, minutes: i64) {
        for _ in 0..minutes {
            self.advance(1);
            self.settle();
        }
    }

    fn times(&self) -> Vec<String> {
        self.runs.iter().map(|run| run.spec.scheduled_time.as_ref().unwrap().0.to_string()).collect()
    }

    pub(super) fn end_all(&mut self) {
        for run in &mut self.runs {
            Arc::make_mut(run).status.get_or_insert_with(|| ended(self.now, "True"));
        }
    }
}

/// The status of a run that has ended.
pub(super) fn ended(now: Timestamp, succeeded: &str) -> MLPipelineRunStatus {
    let condition = json!({ "type": "Succeeded", "status": succeeded, "reason": "x", "message": "", "lastTransitionTime": now.to_string() });
    serde_json::from_value(json!({ "completionTime": now.to_string(), "conditions": [condition] })).unwrap()
}

fn hourly(more: Value) -> Value {
    let mut schedule = json!({ "cron": "0 * * * *" });
    schedule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "schedules": { "hourly": schedule } })
}

#[test]
fn each_time_has_one_run_that_knows_it() {
    let mut world = World::new(hourly(json!({ "params": { "day": "d" } })));
    world.settle();
    assert!(world.runs.is_empty());
    world.live(150);
    assert_eq!(world.times(), ["2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"]);
    let run = &world.runs[1].spec;
    let trigger = run.trigger.as_ref().unwrap();
    assert_eq!((trigger.kind.as_str(), trigger.name.as_deref()), ("Schedule", Some("hourly")));
    assert_eq!(run.params["day"], json!("d"));
    let status = world.pipeline.status.as_ref().unwrap();
    assert_eq!(status.last_run, world.runs[1].metadata.name);
    let schedule = &status.triggers.as_ref().unwrap().schedules["hourly"];
    assert_eq!(schedule.next_time.as_ref().unwrap().0.to_string(), "2026-01-01T03:00:00Z");
    assert_eq!(world.events.len(), 2, "{:?}", world.events);
}

#[test]
fn a_crash_or_a_deleted_run_makes_no_second_one_and_loses_none() {
    for crash in [true, false] {
        let mut world = World::new(hourly(json!({})));
        world.settle();
        world.advance(60);
        world.pass(crash);
        world.pass(false);
        world.settle();
        assert_eq!(world.times(), ["2026-01-01T01:00:00Z"]);
        world.runs.clear();
        world.settle();
        assert!(world.runs.is_empty());
    }
}

#[test]
fn it_waits_until_the_next_time_but_reads_the_clock_now_and_then() {
    let mut world = World::new(hourly(json!({})));
    world.settle();
    let next =
        |world: &World| plan(&world.pipeline, &PipelineObserved::default(), &Config::default(), world.now).requeue;
    assert_eq!(next(&world).map(|next| next.as_secs()), Some(300));
    world.advance(58);
    assert_eq!(next(&world).map(|next| next.as_secs()), Some(120));
}

#[test]
fn what_was_missed_is_passed_over_made_up_for_once_or_every_time() {
    for (missed, times, event) in [
        (
            json!({ "missed": "Skip" }),
            vec![],
            "MissedSchedule: schedule hourly: 5 times passed without a run; missed: Skip",
        ),
        (
            json!({}),
            vec!["2026-01-01T05:00:00Z"],
            "MissedSchedule: schedule hourly: 4 times passed without a run; missed: Last",
        ),
        (
            json!({ "missed": "All" }),
            vec![
                "2026-01-01T01:00:00Z",
                "2026-01-01T02:00:00Z",
                "2026-01-01T03:00:00Z",
                "2026-01-01T04:00:00Z",
                "2026-01-01T05:00:00Z",
            ],
            "",
        ),
    ] {
        let mut world = World::new(hourly(missed));
        world.settle();
        world.advance(5 * 60 + 30);
        world.settle();
        assert_eq!(world.times(), times);
        let told: Vec<_> = world.events.iter().filter(|event| event.starts_with("Missed")).collect();
        assert_eq!(told, if event.is_empty() { vec![] } else { vec![event] });
        // The next one comes as ever.
        world.live(31);
        assert_eq!(world.times().last().map(String::as_str), Some("2026-01-01T06:00:00Z"));
    }
}

#[test]
fn a_year_that_was_missed_makes_the_last_hundred_runs_and_says_so() {
    let mut world = World::new(hourly(json!({ "missed": "All" })));
    world.settle();
    world.advance(365 * 24 * 60 + 1);
    world.settle();
    // They have not ended: none is one too many.
    assert_eq!((world.runs.len(), world.times()[0].as_str()), (100, "2026-12-27T21:00:00Z"));
    let missed = "MissedSchedule: schedule hourly: times before 2026-12-27T21:00:00Z passed without a run; missed: All, 100 at most";
    assert!(world.events.iter().any(|event| event == missed), "{:?}", world.events);
    world.settle();
    assert_eq!(world.runs.len(), 100);
}

#[test]
fn runs_that_are_deleted_while_others_are_still_to_be_made_do_not_come_back() {
    let mut world = World::new(hourly(json!({ "missed": "All" })));
    world.settle();
    world.advance(30 * 60);
    let mut made = std::collections::BTreeSet::new();
    for _ in 0..20 {
        world.pass(false);
        made.extend(world.times());
        world.end_all();
    }
    assert_eq!(made.len(), 30);
    assert!(world.runs.len() <= 10, "history keeps few: {}", world.runs.len());
}

#[test]
fn an_edit_or_a_suspension_begins_anew() {
    let mut world = World::new(hourly(json!({})));
    world.settle();
    world.advance(30);
    world.edit(hourly(json!({ "suspend": true })));
    world.settle();
    assert_eq!(world.pipeline.status.as_ref().unwrap().triggers, None);
    let told = |world: &World| {
        let conditions = &world.pipeline.status.as_ref().unwrap().conditions;
        let ready = conditions.iter().find(|condition| condition.type_ == "TriggersReady");
        ready.map(|ready| (ready.reason.clone(), ready.message.clone()))
    };
    assert_eq!(told(&world), Some(("Suspended".to_owned(), "schedules.hourly is suspended".to_owned())));
    world.live(60);
    world.edit(hourly(json!({})));
    world.settle();
    assert_eq!(told(&world), None);
    assert!(world.runs.is_empty());
    world.edit(json!({ "schedules": { "hourly": { "cron": "*/20 * * * *" } } }));
    world.live(35);
    assert_eq!(world.times(), ["2026-01-01T01:40:00Z", "2026-01-01T02:00:00Z"]);
}

fn backfilled(more: Value) -> Value {
    let mut triggers = hourly(json!({ "suspend": true, "params": { "day": "d" } }));
    let mut backfill = json!({ "schedule": "hourly", "from": "2025-12-31T05:00:00Z", "to": "2025-12-31T10:00:00Z" });
    backfill.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    triggers["backfills"] = json!({ "past": backfill });
    triggers
}

#[test]
fn a_backfill_makes_each_run_of_its_range_in_order_and_so_many_at_a_time() {
    let mut world = World::new(backfilled(json!({ "parallelism": 2 })));
    let mut seen = Vec::new();
    for _ in 0..3 {
        world.settle();
        let running = world.runs.iter().filter(|run| run.status.is_none()).count();
        assert!(running <= 2, "{running}");
        seen.extend(world.times());
        world.end_all();
    }
    world.settle();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5);
    assert_eq!((seen[0].as_str(), seen[4].as_str()), ("2025-12-31T05:00:00Z", "2025-12-31T09:00:00Z"));
    let status = world.pipeline.status.clone().unwrap().triggers.unwrap();
    let past = &status.backfills["past"];
    assert_eq!((past.runs, past.completion_time.is_some()), (5, true));
    assert!(
        world
            .events
            .contains(&"BackfillCompleted: backfill past: 5 runs have ended: 5 succeeded, 0 did not".to_owned()),
        "{:?}",
        world.events
    );
    // Over is over, though the runs are deleted.
    world.runs.clear();
    world.advance(60);
    world.settle();
    assert!(world.runs.is_empty());
    // Taken out and put in again it is done once more, though its old runs are there.
    for _ in 0..2 {
        let before = world.runs.len();
        world.edit(json!({}));
        world.advance(1);
        world.settle();
        world.edit(backfilled(json!({ "parallelism": 5 })));
        world.settle();
        assert_eq!(world.runs.len(), before + 5);
        world.end_all();
        world.settle();
    }
}

#[test]
fn a_backfill_counts_which_of_its_runs_succeeded_though_history_keeps_none() {
    let mut world = World::new(backfilled(json!({ "parallelism": 5 })));
    world.pipeline.spec.history = serde_json::from_value(json!({ "keepSucceeded": 0, "keepFailed": 0 })).unwrap();
    world.settle();
    let past = |world: &World| world.pipeline.status.clone().unwrap().triggers.unwrap().backfills["past"].clone();
    assert_eq!(past(&world).running.len(), 5);
    for (run, succeeded) in world.runs.iter_mut().zip(["True", "False", "True"]) {
        Arc::make_mut(run).status = Some(ended(world.now, succeeded));
    }
    world.settle();
    assert_eq!((past(&world).succeeded, past(&world).failed, past(&world).running.len()), (2, 1, 2));
    // Somebody deletes one, and the last one ends.
    world.runs.pop();
    world.end_all();
    world.settle();
    assert_eq!((past(&world).succeeded, past(&world).failed, past(&world).runs), (3, 1, 5));
    let told = "BackfillCompleted: backfill past: 5 runs have ended: 3 succeeded, 1 did not, 1 were deleted before";
    assert!(world.events.iter().any(|event| event == told), "{:?}", world.events);
}

#[test]
fn times_that_are_made_up_for_wait_where_one_run_too_many_would_end_at_once() {
    for policy in ["Forbid", "Replace"] {
        let mut world = World::new(hourly(json!({ "missed": "All" })));
        world.pipeline.spec.concurrency = serde_json::from_value(json!({ "policy": policy, "max": 2 })).unwrap();
        world.settle();
        world.advance(5 * 60 + 30);
        let mut seen = Vec::new();
        for _ in 0..3 {
            world.settle();
            assert!(world.runs.iter().filter(|run| run.status.is_none()).count() <= 2, "{policy}");
            seen.extend(world.times());
            world.end_all();
        }
        world.settle();
        seen.sort();
        seen.dedup();
        assert_eq!((seen.len(), seen[4].as_str()), (5, "2026-01-01T05:00:00Z"), "{policy}");
        // A time that was not missed is for concurrency to decide.
        for run in &mut world.runs {
            Arc::make_mut(run).status = None;
        }
        let before = world.runs.len();
        world.advance(30);
        world.settle();
        assert_eq!(world.runs.len(), before + 1, "{policy}");
    }
}

#[test]
fn where_runs_forbid_or_replace_each_other_a_backfill_waits_for_all_of_them() {
    for policy in ["Forbid", "Replace"] {
        let mut world = World::new(backfilled(json!({ "parallelism": 5 })));
        world.pipeline.spec.concurrency = serde_json::from_value(json!({ "policy": policy, "max": 2 })).unwrap();
        let mut mine = MLPipelineRun::new("mine", serde_json::from_value(json!({})).unwrap());
        mine.spec.scheduled_time = Some(Time(world.now));
        world.runs.push(Arc::new(mine));
        world.settle();
        assert_eq!(world.runs.len(), 2, "{policy}");
        world.end_all();
        world.settle();
        assert_eq!(world.runs.iter().filter(|run| run.status.is_none()).count(), 2, "{policy}");
    }
}

#[test]
fn a_clock_that_was_ahead_stops_no_schedule() {
    let mut world = World::new(hourly(json!({})));
    world.settle();
    world.advance(30 * 24 * 60);
    world.settle();
    world.advance(-30 * 24 * 60);
    world.settle();
    assert!(world.events.iter().any(|event| event.starts_with("ClockSetBack: schedule hourly")), "{:?}", world.events);
    world.live(61);
    assert_eq!(world.times().last().map(String::as_str), Some("2026-01-01T01:00:00Z"));
}

#[test]
fn while_a_run_is_refused_none_behind_it_is_made() {
    let mut world = World::new(backfilled(json!({ "parallelism": 5 })));
    world.settle();
    world.runs.clear();
    world.pipeline.status.as_mut().unwrap().triggers = None;
    let refusal =
        Refusal { object: "MLPipelineRun x".into(), code: 403, reason: "Forbidden".into(), message: "quota".into() };
    let observed = PipelineObserved { refusals: vec![refusal], ..PipelineObserved::default() };
    assert_eq!(plan(&world.pipeline, &observed, &Config::default(), world.now).create.len(), 1);
}

#[test]
fn a_backfill_with_another_range_begins_anew_and_waits_for_what_is_to_come() {
    let mut world = World::new(backfilled(
        json!({ "from": "2025-12-31T23:00:00Z", "to": "2026-01-01T02:00:00Z", "params": { "day": "e" } }),
    ));
    for _ in 0..4 {
        world.settle();
        world.end_all();
    }
    assert_eq!(world.runs.last().unwrap().spec.params["day"], json!("e"));
    let last = |world: &World| {
        world.pipeline.status.clone().unwrap().triggers.unwrap().backfills["past"]
            .last_time
            .clone()
            .unwrap()
            .0
            .to_string()
    };
    assert_eq!(last(&world), "2026-01-01T00:00:00Z");
    world.advance(61);
    world.settle();
    assert_eq!(last(&world), "2026-01-01T01:00:00Z");
    world.end_all();
    world.settle();
    assert!(
        world
            .events
            .iter()
            .any(|event| event == "BackfillCompleted: backfill past: 3 runs have ended: 3 succeeded, 0 did not")
    );
}

fn degraded(more: Value) -> Value {
    let mut trigger = json!({ "modelDeployment": "m", "when": "drift.share > 0.3", "for": "10m", "cooldown": "2h" });
    trigger.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "onModel": { "degraded": trigger } })
}

impl World {
    /// What is found of the served model.
    fn found(&mut self, drift: Value) {
        let spec = json!({ "model": { "name": "m" }, "monitoring": { "drift": {} } });
        let mut model = ModelDeployment::new("m", serde_json::from_value(spec).unwrap());
        model.status = Some(serde_json::from_value(json!({ "drift": drift })).unwrap());
        self.models.insert("m".to_owned(), Arc::new(model));
    }

    fn share(&mut self, share: f64) {
        self.found(json!({ "revision": "m-1", "samples": 600, "share": share }));
    }

    fn degraded(&self) -> ModelTriggerStatus {
        self.pipeline.status.as_ref().unwrap().triggers.as_ref().unwrap().on_model["degraded"].clone()
    }
}

#[test]
fn what_holds_long_enough_starts_one_run() {
    let mut world = World::new(degraded(json!({})));
    world.share(0.2);
    world.live(20);
    world.share(0.4);
    world.live(6);
    // A break begins anew.
    world.share(0.2);
    world.live(1);
    assert_eq!(world.degraded().holds_since, None);
    world.share(0.4);
    world.live(9);
    assert!(world.runs.is_empty());
    world.live(3);
    assert_eq!(world.runs.len(), 1);
    let trigger = world.runs[0].spec.trigger.clone().unwrap();
    assert_eq!(
        (trigger.kind.as_str(), trigger.name.as_deref(), trigger.key.as_str()),
        ("Model", Some("degraded"), "degraded/1767225660/1")
    );
    assert_eq!(world.degraded().last_run, world.runs[0].metadata.name);
    assert!(world.events[0].contains("because `drift.share > 0.3` holds"), "{:?}", world.events);
}

#[test]
fn another_start_waits_for_the_cooldown_and_for_the_end_of_the_run() {
    let mut world = World::new(degraded(json!({})));
    world.share(0.4);
    world.live(200);
    assert_eq!((world.runs.len(), world.degraded().runs), (1, 1));
    assert!(world.degraded().message.unwrap().starts_with("waits for the end of MLPipelineRun shop-"));
    world.end_all();
    world.live(2);
    assert_eq!((world.runs.len(), world.degraded().runs), (2, 2));
    world.end_all();
    world.live(60);
    assert_eq!(world.runs.len(), 2);
}

#[test]
fn a_crash_between_makes_one_run_though_it_holds_no_more() {
    for crash in [true, false] {
        let mut world = World::new(degraded(json!({ "for": "0s" })));
        world.share(0.4);
        world.pass(crash);
        world.pass(false);
        assert_eq!((world.runs.len(), world.degraded().runs), (1, i64::from(!crash)));
        // Whether it was noted or not, and the model is well again.
        world.share(0.1);
        world.settle();
        assert_eq!((world.runs.len(), world.degraded().runs), (1, 1));
    }
}

#[test]
fn a_trigger_that_was_taken_out_and_comes_back_begins_anew() {
    let mut world = World::new(degraded(json!({ "for": "0s" })));
    world.share(0.4);
    world.live(2);
    world.end_all();
    assert_eq!(world.runs.len(), 1);
    world.edit(json!({}));
    world.live(1);
    world.edit(degraded(json!({ "for": "0s" })));
    world.live(1);
    assert_eq!((world.runs.len(), world.degraded().runs), (2, 1));
}

#[test]
fn another_when_has_to_hold_by_itself() {
    let mut world = World::new(degraded(json!({})));
    world.share(0.4);
    world.live(9);
    world.edit(degraded(json!({ "when": "drift.share > 0.35" })));
    world.live(9);
    assert!(world.runs.is_empty());
    world.live(2);
    assert_eq!(world.runs.len(), 1);
}

#[test]
fn with_too_few_rows_or_none_nothing_holds_and_it_says_why_where_somebody_can_mend_it() {
    let mut world = World::new(degraded(json!({ "for": "0s", "minSamples": 1000 })));
    world.settle();
    assert_eq!(world.degraded().message.as_deref(), Some("there is no ModelDeployment m"));
    for drift in
        [json!({ "revision": "m-1", "samples": 5 }), json!({ "revision": "m-1", "samples": 600, "share": 0.9 })]
    {
        world.found(drift);
        world.settle();
        assert!(world.runs.is_empty());
        assert_eq!(world.degraded().message, None);
    }
    let mut blind = (*world.models["m"]).clone();
    blind.spec.monitoring = None;
    world.models.insert("m".to_owned(), Arc::new(blind));
    world.settle();
    assert!(world.degraded().message.unwrap().contains("write spec.monitoring.drift there"));
    world.edit(degraded(json!({ "for": "0s", "when": "drift.features['sex'].value > 1.0" })));
    world.share(0.9);
    world.settle();
    assert!(world.degraded().message.unwrap().starts_with("when: "));
    world.found(json!({ "revision": "m-1", "samples": 600, "share": 0.1, "features": [{ "name": "sex", "value": 1.5, "drifted": true }] }));
    world.settle();
    assert_eq!(world.runs.len(), 1);
}

#[test]
fn one_report_starts_one_run_however_long_no_other_comes() {
    for when in ["live.accuracy < 0.75", "live.accuracy < 0.75 || drift.share > 0.3"] {
        let mut world = World::new(degraded(json!({ "for": "0s", "when": when })));
        let reported = |world: &mut World| {
            let spec = json!({ "model": { "name": "m" }, "monitoring": { "drift": {} } });
            let mut model = ModelDeployment::new("m", serde_json::from_value(spec).unwrap());
            let live = json!({
                "version": 2, "time": world.now.to_string(), "metrics": { "accuracy": 0.5 }, "run": "r", "stage": "s", "model": "m",
            });
            let revision = json!({ "name": "m-1", "version": 2, "replicas": 1, "readyReplicas": 1, "weight": 100 });
            let status = json!({ "stableRevision": "m-1", "revisions": [revision], "live": [live] });
            model.status = Some(serde_json::from_value(status).unwrap());
            world.models.insert("m".to_owned(), Arc::new(model));
        };
        reported(&mut world);
        world.live(1);
        assert_eq!(world.runs.len(), 1, "{when}");
        world.end_all();
        world.live(300);
        assert_eq!((world.runs.len(), world.degraded().message), (1, None), "{when}");
        reported(&mut world);
        world.live(1);
        assert_eq!(world.runs.len(), 2, "{when}");
    }
}

#[test]
fn what_was_reported_of_the_promoted_version_starts_a_run_too() {
    let when = "live.accuracy < 0.75";
    let mut world = World::new(degraded(json!({ "for": "0s", "when": when, "minSamples": 1000 })));
    let reported = |world: &mut World, version: i64, accuracy: f64, samples: i64| {
        let spec = json!({ "model": { "name": "m" } });
        let mut model = ModelDeployment::new("m", serde_json::from_value(spec).unwrap());
        let live = json!({
            "version": version, "samples": samples, "metrics": { "accuracy": accuracy }, "run": "r", "stage": "s", "model": "m",
        });
        let revision = json!({ "name": "m-1", "version": 2, "replicas": 1, "readyReplicas": 1, "weight": 100 });
        let status = json!({ "stableRevision": "m-1", "revisions": [revision], "live": [live] });
        model.status = Some(serde_json::from_value(status).unwrap());
        world.models.insert("m".to_owned(), Arc::new(model));
        world.settle();
    };
    // Of another version, of too few, and good enough.
    for (version, accuracy, samples) in [(1, 0.5, 5000), (2, 0.5, 999), (2, 0.75, 5000)] {
        reported(&mut world, version, accuracy, samples);
        assert_eq!((world.runs.len(), world.degraded().message), (0, None), "{version} {accuracy} {samples}");
    }
    reported(&mut world, 2, 0.74, 1000);
    assert_eq!(world.runs.len(), 1);
    assert!(world.events[0].contains("because `live.accuracy < 0.75` holds"), "{:?}", world.events);
    let both = json!({ "for": "0s", "when": "drift.share > 0.3 || live.accuracy < 0.75" });
    let mut world = World::new(degraded(both));
    reported(&mut world, 2, 0.5, 1);
    assert!(world.degraded().message.unwrap().contains("write spec.monitoring.drift there"));
    // Drift is watched, and there were too few rows yet: each of the two is enough.
    let mut watched = (*world.models["m"]).clone();
    watched.spec.monitoring = Some(serde_json::from_value(json!({ "drift": {} })).unwrap());
    world.models.insert("m".to_owned(), Arc::new(watched));
    world.settle();
    assert_eq!(world.runs.len(), 1);
}
