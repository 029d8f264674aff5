//! One change, one run, whatever crashes; which runs are kept; what the status says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{PipelineObserved, plan, plan_template};
use crate::api::{Condition, ConditionStatus, MLPipeline, MLPipelineRun, StageTemplate, set_condition};
use crate::config::Config;
use crate::plan::{Create, Delete, DeleteKind, Refusal};
use crate::pod::{Access, Claims};

/// A pipeline and its runs, as they lie in a cluster.
struct World {
    pipeline: MLPipeline,
    runs: Vec<Arc<MLPipelineRun>>,
    refusals: Vec<Refusal>,
    templates: BTreeMap<String, Arc<StageTemplate>>,
    claims: Claims,
    now: Timestamp,
}

/// Where a pass ends early.
#[derive(Clone, Copy, PartialEq)]
enum Crash {
    Never,
    BeforeAll,
    AfterStatus,
    AfterCreate,
}

fn spec(text: &str) -> Value {
    json!({
        "triggers": { "onChange": true },
        "stages": { "say": { "container": { "image": "i", "command": ["echo", text] } } }
    })
}

impl World {
    fn new(spec: Value) -> Self {
        let mut pipeline = MLPipeline::new("shop", serde_json::from_value(spec).unwrap());
        pipeline.metadata.uid = Some("u1".to_owned());
        pipeline.metadata.namespace = Some("team".to_owned());
        pipeline.metadata.generation = Some(1);
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let (templates, claims) = (BTreeMap::new(), Claims::new());
        Self { pipeline, runs: Vec::new(), refusals: Vec::new(), templates, claims, now }
    }

    fn edit(&mut self, spec: Value) {
        self.pipeline.spec = serde_json::from_value(spec).unwrap();
        *self.pipeline.metadata.generation.as_mut().unwrap() += 1;
    }

    fn plan(&self) -> crate::plan::Plan<crate::api::MLPipelineStatus> {
        let observed = PipelineObserved {
            templates: self.templates.clone(),
            runs: self.runs.clone(),
            refusals: self.refusals.clone(),
            claims: self.claims.clone(),
            ..PipelineObserved::default()
        };
        plan(&self.pipeline, &observed, &Config::default(), self.now)
    }

    /// One pass, cut short by a crash.
    fn pass(&mut self, crash: Crash) -> usize {
        let plan = self.plan();
        let effects = usize::from(plan.status.is_some()) + plan.create.len() + plan.delete.len();
        if crash == Crash::BeforeAll {
            return effects;
        }
        if let Some(status) = plan.status {
            self.pipeline.status = Some(status);
        }
        if crash == Crash::AfterStatus {
            return effects;
        }
        for create in plan.create {
            let Create::Run(run) = create else { panic!("{create:?}") };
            // On 409 the one that is there is the one that was meant.
            if !self.runs.iter().any(|there| there.metadata.name == run.metadata.name) {
                self.runs.push(Arc::new(*run));
            }
        }
        if crash == Crash::AfterCreate {
            return effects;
        }
        for Delete { name, .. } in plan.delete {
            self.runs.retain(|run| run.metadata.name.as_deref() != Some(&name));
        }
        effects
    }

    /// Passes until there is nothing to do.
    fn settle(&mut self) {
        for _ in 0..5 {
            if self.pass(Crash::Never) == 0 {
                return;
            }
        }
        panic!("no end: {:?}", self.plan());
    }

    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.pipeline.status.as_ref()?.conditions.iter().find(|c| c.type_ == kind)
    }

    fn finish(&mut self, name: &str, minutes_ago: i64, succeeded: bool) {
        let mut run = MLPipelineRun::new(name, serde_json::from_value(json!({})).unwrap());
        run.metadata.uid = Some(format!("uid-{name}"));
        let mut status = crate::api::MLPipelineRunStatus::default();
        let ended = self.now - SignedDuration::from_mins(minutes_ago);
        status.completion_time = Some(Time(ended));
        let outcome = if succeeded { ConditionStatus::True } else { ConditionStatus::False };
        set_condition(&mut status.conditions, "Succeeded", outcome, "x", "", None, ended);
        run.status = Some(status);
        self.runs.push(Arc::new(run));
    }

    fn deleted(&self) -> Vec<String> {
        self.plan().delete.into_iter().map(|delete| delete.name).collect()
    }
}

#[test]
fn a_change_starts_one_run_that_belongs_to_the_pipeline() {
    let mut world = World::new(spec("a"));
    world.settle();
    let [run] = world.runs.as_slice() else { panic!("{:?}", world.runs) };
    let owner = &run.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.uid.as_str(), owner.controller), ("u1", Some(true)));
    assert_eq!(run.spec.pipeline_ref.as_ref().unwrap().name, "shop");
    let status = world.pipeline.status.as_ref().unwrap();
    assert_eq!(status.last_run, run.metadata.name);
    assert_eq!(status.last_change, run.spec.trigger.as_ref().map(|trigger| trigger.key.clone()));
    assert_eq!(world.condition("Ready").unwrap().status, "True");
}

#[test]
fn one_change_starts_one_run_wherever_the_operator_crashes() {
    let crashes = [Crash::BeforeAll, Crash::AfterStatus, Crash::AfterCreate, Crash::Never];
    for first in crashes {
        for second in crashes {
            let mut world = World::new(spec("a"));
            world.pass(first);
            world.pass(second);
            // An edit that changes nothing that runs, in the middle of it.
            let mut same = spec("a");
            same["history"] = json!({ "keepFailed": 3 });
            world.edit(same);
            world.pass(second);
            world.settle();
            assert_eq!(world.runs.len(), 1);
            world.edit(spec("b"));
            world.pass(first);
            world.pass(second);
            world.settle();
            assert_eq!(world.runs.len(), 2);
        }
    }
}

#[test]
fn a_stale_view_of_the_runs_makes_no_second_run() {
    let mut world = World::new(spec("a"));
    world.pass(Crash::Never);
    let made = world.runs.clone();
    world.runs.clear();
    let again = world.plan().create;
    let [Create::Run(run)] = again.as_slice() else { panic!("{again:?}") };
    assert_eq!(run.metadata.name, made[0].metadata.name);
}

#[test]
fn going_back_to_an_earlier_spec_starts_a_run_again() {
    let mut world = World::new(spec("a"));
    for text in ["a", "b", "a", "b", "a"] {
        world.edit(spec(text));
        world.settle();
    }
    assert_eq!(world.runs.len(), 5);
}

#[test]
fn a_run_that_was_deleted_is_not_made_again() {
    let mut world = World::new(spec("a"));
    world.settle();
    world.runs.clear();
    world.settle();
    assert!(world.runs.is_empty());
}

#[test]
fn without_on_change_nothing_starts() {
    let mut quiet = spec("a");
    quiet["triggers"] = json!({ "onChange": false });
    let mut world = World::new(quiet);
    world.settle();
    assert!(world.runs.is_empty());
    assert_eq!(world.condition("Ready").unwrap().status, "True");
}

#[test]
fn what_is_not_accepted_says_why_and_starts_nothing_until_it_is_right() {
    let mut wrong = spec("a");
    wrong["stages"]["say"]["needs"] = json!(["sya"]);
    let mut world = World::new(wrong);
    assert_eq!(world.plan().events.len(), 1);
    world.settle();
    assert!(world.runs.is_empty());
    let accepted = world.condition("Accepted").unwrap();
    assert_eq!((accepted.status.as_str(), accepted.reason.as_str()), ("False", "UnknownStage"));
    assert!(accepted.message.starts_with("spec.stages.say.needs[0]: "), "{}", accepted.message);
    assert_eq!(world.condition("Stalled").unwrap().status, "True");
    assert_eq!(world.condition("Ready").unwrap().status, "False");
    world.edit(spec("a"));
    world.settle();
    assert_eq!(world.runs.len(), 1);
    assert!(world.condition("Stalled").is_none());
    assert_eq!(world.pipeline.status.as_ref().unwrap().observed_generation, Some(2));
}

#[test]
fn a_run_that_the_apiserver_refuses_shows_in_the_status() {
    let mut world = World::new(spec("a"));
    let object = "MLPipelineRun shop-x".to_owned();
    world.refusals =
        vec![Refusal { object, code: 403, reason: "Forbidden".to_owned(), message: "exceeded quota".to_owned() }];
    let status = world.plan().status.unwrap();
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "Forbidden"));
    assert!(ready.message.contains("exceeded quota"));
    assert_eq!(world.plan().create.len(), 1);
}

#[test]
fn the_newest_finished_runs_of_each_outcome_are_kept() {
    let mut world =
        World::new(json!({ "history": { "keepSucceeded": 1, "keepFailed": 0 }, "stages": spec("a")["stages"] }));
    world.finish("old", 30, true);
    world.finish("new", 10, true);
    world.finish("failed", 20, false);
    assert_eq!(world.deleted(), ["old", "failed"]);
    let mut world = World::new(spec("a"));
    for i in 0..12 {
        world.finish(&format!("run-{i:02}"), 100 - i, true);
    }
    assert_eq!(world.deleted(), ["run-00", "run-01"]);
}

#[test]
fn a_finished_run_is_deleted_when_its_time_is_up_and_not_before() {
    let mut world = World::new(json!({ "history": { "ttl": "1h" }, "stages": spec("a")["stages"] }));
    world.finish("old", 60, true);
    world.finish("new", 10, false);
    assert_eq!(world.deleted(), ["old"]);
    assert_eq!(world.plan().requeue, Some(Duration::from_mins(50)));
}

/// Whose frozen pipelines go, with runs `(name, minutes ago, what it ran, started by a trigger)` of which one is kept.
fn revisions_deleted(runs: &[(&str, i64, &str, bool)]) -> Vec<String> {
    let mut world = World::new(json!({ "history": { "keepSucceeded": 1 }, "stages": spec("a")["stages"] }));
    for (name, minutes_ago, frozen, triggered) in runs {
        world.finish(name, *minutes_ago, true);
        let run = Arc::make_mut(world.runs.last_mut().unwrap());
        run.status.as_mut().unwrap().frozen = Some((*frozen).to_owned());
        if *triggered {
            run.spec.trigger = serde_json::from_value(json!({ "kind": "Change", "key": "1-a" })).unwrap();
        }
    }
    let deleted = world.plan().delete;
    let (first, runs): (Vec<_>, Vec<_>) =
        deleted.iter().cloned().partition(|delete| delete.kind == DeleteKind::ControllerRevision);
    assert_eq!([first.clone(), runs].concat(), deleted, "what they ran goes before the runs");
    assert!(first.iter().all(|delete| delete.uid == "u1"), "{first:?}");
    first.into_iter().map(|delete| delete.name).collect()
}

#[test]
fn what_no_run_names_any_more_goes_with_the_last_run_that_named_it() {
    assert_eq!(revisions_deleted(&[("r1", 30, "x", true), ("r2", 20, "x", true), ("r3", 10, "y", true)]), ["x"]);
    assert!(revisions_deleted(&[("r1", 30, "x", true), ("r2", 20, "x", true)]).is_empty(), "r2 names it still");
    assert!(revisions_deleted(&[("r1", 30, "x", false), ("r2", 20, "y", true)]).is_empty(), "it is the run's own");
}

/// A world in which every finished run goes: these ran `frozen`, the last one most recently.
fn leaving(frozen: &str, names: &[&str]) -> World {
    let mut world = World::new(json!({ "history": { "keepSucceeded": 0 }, "stages": spec("a")["stages"] }));
    for (minutes_ago, name) in (1..).zip(names.iter().rev()) {
        world.finish(name, minutes_ago, true);
        let run = Arc::make_mut(world.runs.last_mut().unwrap());
        run.status.as_mut().unwrap().frozen = Some(frozen.to_owned());
        run.spec.trigger = serde_json::from_value(json!({ "kind": "Change", "key": "1-a" })).unwrap();
    }
    world
}

#[test]
fn what_a_run_that_begins_may_be_about_to_run_stays_and_the_run_that_knows_of_it() {
    let mut world = leaving("x", &["older", "last"]);
    let begins = |spec: Value| Arc::new(MLPipelineRun::new("begins", serde_json::from_value(spec).unwrap()));
    world.runs.push(begins(json!({ "trigger": { "kind": "Change", "key": "2-b" } })));
    assert_eq!(world.deleted(), ["older"]);
    // What a person's run runs is its own.
    world.runs.pop();
    world.runs.push(begins(json!({})));
    assert_eq!(world.deleted(), ["x", "older", "last"]);
}

#[test]
fn what_the_run_of_a_change_will_run_stays_until_it_is_made() {
    let on_change = |frozen: &str| {
        let mut world = leaving(frozen, &["older", "last"]);
        world.pipeline.spec.triggers = serde_json::from_value(json!({ "onChange": true })).unwrap();
        world
    };
    let checked = super::check(&on_change("").pipeline.spec, &BTreeMap::new(), &Config::default()).unwrap();
    let same = checked.revision_name("shop", "u1").unwrap();
    let mut world = on_change(&same);
    assert_eq!((world.deleted(), world.plan().create.len()), (vec!["older".to_owned()], 1));
    let object = "MLPipelineRun shop-x".to_owned();
    world.refusals = vec![Refusal { object, code: 403, reason: "Forbidden".to_owned(), message: "quota".to_owned() }];
    assert_eq!(world.deleted(), ["older"], "it is tried again");
    // What no run will run goes, also where a quota counts it.
    let refusals = world.refusals;
    world = on_change("other");
    world.refusals = refusals;
    assert_eq!(world.deleted(), ["other", "older", "last"]);
}

#[test]
fn a_pipeline_that_is_being_deleted_is_left_alone() {
    let mut world = World::new(spec("a"));
    world.pipeline.metadata.deletion_timestamp = Some(Time(world.now));
    assert_eq!(world.plan(), crate::plan::Plan::default());
}

#[test]
fn a_template_says_whether_it_is_right_once() {
    let container = |text: &str| json!({ "container": { "image": "i", "command": [text] } });
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    for (text, ready) in [("x", "True"), ("$[[ params.x ]]", "False")] {
        let mut template = StageTemplate::new("t", serde_json::from_value(container(text)).unwrap());
        let status = plan_template(&template, &Config::default(), now).status.unwrap();
        let found = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!(found.status, ready, "{text}");
        template.status = Some(status);
        let later = now + SignedDuration::from_mins(1);
        assert_eq!(plan_template(&template, &Config::default(), later), crate::plan::Plan::default(), "{text}");
    }
}

#[test]
fn accepted_names_every_fault_and_the_others_count_them() {
    let stages = (0..18).map(|n| {
        (format!("s{n:02}"), json!({ "needs": ["nowhere"], "container": { "image": "i", "command": ["c"] } }))
    });
    let mut world = World::new(json!({ "stages": stages.collect::<serde_json::Map<_, _>>() }));
    let plan = world.plan();
    world.settle();
    let accepted = world.condition("Accepted").unwrap();
    assert_eq!((accepted.status.as_str(), accepted.message.lines().count()), ("False", 18));
    for kind in ["Ready", "Stalled"] {
        let message = &world.condition(kind).unwrap().message;
        assert!(message.starts_with("18 faults: see Accepted. The first 2: spec.stages.s00.needs[0]: "), "{message}");
        assert!(message.contains("spec.stages.s01") && !message.contains("spec.stages.s02"), "{message}");
    }
    assert_eq!(plan.events.len(), 1);
    assert_eq!(plan.events[0].message, world.condition("Ready").unwrap().message);
}

#[test]
fn a_template_of_another_tool_is_told_once_and_does_not_hinder() {
    let mut world = World::new(spec("{{ params.x }}"));
    world.settle();
    let said = "spec.stages.say.container.command[1]: `{{ params.x }}` is not replaced: write $[[ params.x ]]";
    let accepted = world.condition("Accepted").unwrap();
    assert_eq!((accepted.status.as_str(), accepted.message.as_str()), ("True", said));
    assert_eq!(world.condition("Ready").unwrap().status, "True");
    let mut first = World::new(spec("{{ params.x }}"));
    first.pipeline.spec.triggers = None;
    let events = first.plan().events;
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].warning, events[0].reason, events[0].message.as_str()), (true, "NotReplaced", said));
    first.settle();
    first.edit(json!({ "history": { "keepFailed": 1 }, "stages": spec("{{ params.x }}")["stages"] }));
    assert!(first.plan().status.is_some() && first.plan().events.is_empty(), "it was said");
    first.edit(spec("x"));
    first.settle();
    assert_eq!(first.condition("Accepted").unwrap().message, "");
}

#[test]
fn a_pipeline_that_its_claim_makes_impossible_starts_nothing_until_there_is_another_claim() {
    let on = |pool: &str| json!({ "container": { "image": "i", "command": ["c"], "nodeSelector": { "pool": pool } } });
    let mut world = World::new(json!({
        "triggers": { "onChange": true },
        "store": { "pvc": { "claimName": "artifacts" } },
        "stages": { "prepare": on("cpu"), "train": on("gpu") },
    }));
    world.claims = Claims::from([("artifacts".to_owned(), Access::OneNode)]);
    let plan = world.plan();
    assert!(
        plan.requeue.is_some_and(|wait| wait <= Duration::from_mins(1)),
        "nobody tells of claims: {:?}",
        plan.requeue
    );
    world.pass(Crash::Never);
    assert!(world.runs.is_empty());
    let status = world.pipeline.status.clone().unwrap();
    let accepted = status.conditions.iter().find(|condition| condition.type_ == "Accepted").unwrap();
    assert_eq!((accepted.status.as_str(), accepted.reason.as_str()), ("False", "ClaimNotShared"));
    assert!(accepted.message.starts_with("spec.stages.train.container.nodeSelector: "), "{}", accepted.message);
    world.claims = Claims::from([("artifacts".to_owned(), Access::Shared)]);
    world.pass(Crash::Never);
    assert_eq!(world.runs.len(), 1);
}
