//! `onPipeline` over time.
// The calls read better with `json!` as it is.
#![allow(clippy::needless_pass_by_value)]

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::tests::{World, ended};
use crate::api::{Condition, MLPipeline, MLPipelineRun, PipelineTriggerStatus};
use crate::config::Config;
use crate::pipeline::{PipelineObserved, plan};

fn follows(more: Value) -> Value {
    let mut trigger = json!({ "pipeline": "clean" });
    trigger.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "onPipeline": { "upstream": trigger } })
}

fn clean() -> MLPipeline {
    let stages = json!({ "say": { "container": { "image": "i", "command": ["echo"] } } });
    let mut clean = MLPipeline::new("clean", serde_json::from_value(json!({ "stages": stages })).unwrap());
    clean.metadata.uid = Some("u2".to_owned());
    clean
}

impl World {
    /// With the pipeline `clean` beside it.
    fn beside(triggers: Value) -> Self {
        let mut world = Self::new(triggers);
        world.upstreams.insert("clean".to_owned(), Arc::new(clean()));
        world
    }

    /// A run of `clean` ends.
    fn clean(&mut self, name: &str, succeeded: &str) -> &mut MLPipelineRun {
        let mut run = MLPipelineRun::new(name, serde_json::from_value(json!({})).unwrap());
        run.metadata.uid = Some(format!("uid-{name}"));
        run.status = Some(ended(self.now, succeeded));
        let runs = self.upstream_runs.entry("clean".to_owned()).or_default();
        runs.push(Arc::new(run));
        Arc::make_mut(runs.last_mut().unwrap())
    }

    fn upstream(&self) -> PipelineTriggerStatus {
        self.pipeline.status.as_ref().unwrap().triggers.as_ref().unwrap().on_pipeline["upstream"].clone()
    }

    /// The runs that started runs of this one.
    fn causes(&self) -> Vec<&str> {
        self.runs.iter().map(|run| run.spec.trigger.as_ref().unwrap().run.as_deref().unwrap()).collect()
    }
}

#[test]
fn each_run_that_succeeds_starts_one_that_knows_it() {
    let mut world = World::beside(follows(json!({ "params": { "day": "d" } })));
    world.clean("before", "True");
    world.settle();
    assert!(world.runs.is_empty(), "it was over before the trigger was there");
    world.clean("failed", "False");
    world.clean("first", "True").spec.scheduled_time = Some(Time("2025-12-31T00:00:00Z".parse().unwrap()));
    world.settle();
    world.advance(1);
    world.clean("second", "True");
    world.settle();
    assert_eq!(world.causes(), ["first", "second"]);
    let run = &world.runs[0].spec;
    let trigger = run.trigger.as_ref().unwrap();
    assert_eq!((trigger.kind.as_str(), trigger.name.as_deref()), ("Pipeline", Some("upstream")));
    assert_eq!(run.scheduled_time.as_ref().unwrap().0.to_string(), "2025-12-31T00:00:00Z");
    assert_eq!(run.params["day"], json!("d"));
    assert_eq!((world.upstream().runs, world.upstream().last_run), (2, world.runs[1].metadata.name.clone()));
    assert!(
        world.events.iter().any(|event| event.ends_with("because MLPipelineRun first succeeded")),
        "{:?}",
        world.events
    );
}

#[test]
fn a_crash_a_deleted_run_or_the_others_history_makes_no_second_one_and_loses_none() {
    for crash in [true, false] {
        let mut world = World::beside(follows(json!({})));
        world.settle();
        world.clean("first", "True");
        world.pass(crash);
        world.pass(false);
        world.settle();
        assert_eq!(world.causes(), ["first"]);
        world.runs.clear();
        world.settle();
        assert!(world.runs.is_empty());
        assert_eq!(world.upstream().done, ["uid-first"]);
        world.upstream_runs.clear();
        world.settle();
        assert_eq!(world.upstream().done, [""; 0], "what is gone needs no note");
    }
}

#[test]
fn one_that_fails_and_is_begun_again_starts_a_run_when_it_succeeds() {
    let mut world = World::beside(follows(json!({})));
    world.clean("again", "False");
    world.settle();
    let now = world.now;
    let runs = world.upstream_runs.get_mut("clean").unwrap();
    Arc::make_mut(&mut runs[0]).status = Some(ended(now, "True"));
    world.settle();
    assert_eq!(world.causes(), ["again"]);
    // Once it has counted it does not count again, though the run that it started is gone.
    world.runs.clear();
    for status in [None, Some(ended(now, "True"))] {
        Arc::make_mut(&mut world.upstream_runs.get_mut("clean").unwrap()[0]).status = status;
        world.settle();
        assert!(world.runs.is_empty());
    }
}

#[test]
fn a_run_that_a_gate_rejected_succeeded_but_was_not_promoted() {
    for (outcome, expected) in [(json!({}), 2), (json!({ "outcome": "Promoted" }), 1)] {
        let mut world = World::beside(follows(outcome));
        world.settle();
        world.clean("plain", "True");
        let rejected: Condition = serde_json::from_value(json!({ "type": "Promoted", "status": "False", "reason": "GateRejected", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" })).unwrap();
        world.clean("rejected", "True").status.as_mut().unwrap().conditions.push(rejected);
        world.settle();
        assert_eq!(world.runs.len(), expected);
        // Another outcome is for what is still to come.
        world.edit(follows(json!({ "outcome": "Succeeded" })));
        world.settle();
        assert_eq!(world.runs.len(), expected);
    }
}

#[test]
fn many_that_succeed_at_once_start_one_run_each_and_the_status_stays_small() {
    let mut world = World::beside(follows(json!({})));
    world.settle();
    for n in 0..450 {
        world.clean(&format!("r{n:03}"), "True");
        if n % 100 == 0 {
            world.advance(1);
        }
    }
    for _ in 0..60 {
        world.pass(false);
    }
    assert_eq!(world.upstream().runs, 450);
    assert_eq!(world.upstream().done.len(), 200);
    assert!(world.upstream().done_until.is_some());
    let made = world.runs.len();
    world.settle();
    assert_eq!(world.runs.len(), made);
}

#[test]
fn a_pipeline_that_is_not_there_is_told_and_begins_when_it_is() {
    let mut world = World::beside(follows(json!({})));
    world.upstreams.clear();
    world.settle();
    let words = "there is no MLPipeline clean: create it, or correct the name";
    assert_eq!(world.upstream().message.as_deref(), Some(words));
    let condition = |world: &World| {
        let conditions = &world.pipeline.status.as_ref().unwrap().conditions;
        let found = conditions.iter().find(|condition| condition.type_ == "TriggersReady").unwrap();
        (found.status.clone(), found.message.clone())
    };
    assert_eq!(condition(&world), ("False".to_owned(), format!("onPipeline.upstream: {words}")));
    assert_eq!(world.events, [format!("TriggerBlocked: onPipeline.upstream: {words}")]);
    world.upstreams.insert("clean".to_owned(), Arc::new(clean()));
    world.settle();
    assert_eq!(condition(&world), ("True".to_owned(), String::new()));
    world.clean("first", "True");
    world.settle();
    assert_eq!(world.runs.len(), 1);
}

#[test]
fn while_it_is_suspended_nothing_is_missed() {
    let mut world = World::beside(follows(json!({})));
    world.settle();
    world.edit(follows(json!({ "suspend": true })));
    world.clean("meanwhile", "True");
    world.settle();
    world.edit(follows(json!({})));
    world.advance(1);
    world.settle();
    assert!(world.runs.is_empty());
    world.clean("after", "True");
    world.settle();
    assert_eq!(world.causes(), ["after"]);
}

#[test]
fn pipelines_that_would_start_each_other_for_ever_are_refused() {
    let mut world = World::beside(follows(json!({})));
    let mut clean = clean();
    clean.spec.triggers = serde_json::from_value(json!({ "onPipeline": { "back": { "pipeline": "shop" } } })).unwrap();
    world.upstreams.insert("clean".to_owned(), Arc::new(clean));
    world.upstreams.insert("shop".to_owned(), Arc::new(world.pipeline.clone()));
    world.settle();
    let conditions = &world.pipeline.status.as_ref().unwrap().conditions;
    let accepted = conditions.iter().find(|condition| condition.type_ == "Accepted").unwrap();
    assert_eq!((accepted.status.as_str(), accepted.reason.as_str()), ("False", "TriggerCircle"));
    assert!(
        accepted.message.starts_with("spec.triggers.onPipeline.upstream.pipeline: `shop` starts `clean` starts `shop`"),
        "{}",
        accepted.message
    );
}

#[test]
fn history_keeps_a_run_until_the_pipelines_that_follow_it_have_noted_it() {
    let mut world = World::beside(follows(json!({})));
    world.settle();
    world.clean("first", "True");
    world.clean("failed", "False");
    let mut of = clean();
    of.spec.history = serde_json::from_value(json!({ "keepSucceeded": 0, "keepFailed": 0 })).unwrap();
    let deleted = |world: &World| {
        let observed = PipelineObserved {
            runs: world.upstream_runs["clean"].clone(),
            followers: vec![Arc::new(world.pipeline.clone())],
            ..PipelineObserved::default()
        };
        let deletes = plan(&of, &observed, &Config::default(), world.now).delete;
        deletes.into_iter().map(|delete| delete.name).collect::<Vec<_>>()
    };
    assert_eq!(deleted(&world), ["failed"]);
    world.settle();
    assert_eq!(deleted(&world), ["failed", "first"]);
    // One that is not accepted holds nothing up.
    world.clean("second", "True");
    assert_eq!(deleted(&world), ["failed", "first"]);
    world.pipeline.status.as_mut().unwrap().conditions.retain(|condition| condition.type_ != "Accepted");
    assert_eq!(deleted(&world), ["failed", "first", "second"]);
}
