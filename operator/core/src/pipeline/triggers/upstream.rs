//! `triggers.onPipeline`: each run of another pipeline that succeeds starts a run, once.
//!
//! The status has the uids of those that are done with, as long as they are there. The other pipeline's history leaves a run there until then.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::{Kind, Look, Start, condition, has_succeeded, since};
use crate::api::{EndedRun, MLPipeline, MLPipelineRun, PipelineTrigger, PipelineTriggerStatus, UpstreamOutcome};
use crate::run::parent;

/// So many uids are kept. Of more the oldest are known by their time.
const MOST_DONE: usize = 200;

/// Looks at one trigger: what its status says then. A suspended one has none: it begins anew.
pub(super) fn look(
    look: &mut Look<'_>,
    name: &str,
    trigger: &PipelineTrigger,
    old: Option<&PipelineTriggerStatus>,
) -> Option<PipelineTriggerStatus> {
    if trigger.suspend {
        return None;
    }
    let there = look.observed.upstream_runs.get(&trigger.pipeline).map(Vec::as_slice).unwrap_or_default();
    let mut ended = ended(there, trigger);
    // Those that ended first start first.
    ended.sort_by_key(|(_, at, uid)| (*at, *uid));
    let rule = rule(trigger);
    let mut new = match old.filter(|old| old.rule == rule) {
        Some(old) => old.clone(),
        None => PipelineTriggerStatus {
            rule,
            start_time: Some(Time(look.now)),
            done: ended.iter().map(|(_, _, uid)| (*uid).to_owned()).collect(),
            ..PipelineTriggerStatus::default()
        },
    };
    new.message = (!look.observed.upstreams.contains_key(&trigger.pipeline))
        .then(|| format!("there is no MLPipeline {}: create it, or correct the name", trigger.pipeline));
    if let Some(why) = &new.message {
        look.blocked("onPipeline", name, why);
    }
    let mut noted = true;
    for (run, at, uid) in &ended {
        if is_done(&new, *at, uid) {
            continue;
        }
        let key = format!("{name}/{}/{uid}", since(new.start_time.as_ref()));
        let start = Start {
            time: run.spec.scheduled_time.as_ref().map(|time| time.0),
            run: run.metadata.name.as_deref(),
            ..Start::of(Kind::Pipeline, name, key, &trigger.params)
        };
        match look.seen(&start) {
            Some(started) if noted => {
                let cause = run.metadata.name.as_deref().unwrap_or_default();
                look.tell(&format!("onPipeline {name}"), &started, &format!("because MLPipelineRun {cause} succeeded"));
                new.done.push((*uid).to_owned());
                new.runs += 1;
                new.last_time = Some(Time(look.now));
                new.last_run = Some(started);
            }
            // What is behind one that is to be made is noted when that one is.
            Some(_) => {}
            None => {
                look.start(start);
                noted = false;
            }
        }
    }
    forget(&mut new, there, &ended);
    Some(new)
}

type Ended<'a> = (&'a MLPipelineRun, Timestamp, &'a str);

/// The runs that count, when they ended, and their uids.
fn ended<'a>(runs: &'a [Arc<MLPipelineRun>], trigger: &PipelineTrigger) -> Vec<Ended<'a>> {
    let ended = |run: &'a Arc<MLPipelineRun>| {
        let at = run.status.as_ref()?.completion_time.as_ref()?.0;
        counts(run, trigger).then_some((run.as_ref(), at, run.metadata.uid.as_deref()?))
    };
    runs.iter().filter_map(ended).collect()
}

/// A run that is a stage of another one starts nothing: else a pipeline that runs what it follows would start itself for ever.
fn counts(run: &MLPipelineRun, trigger: &PipelineTrigger) -> bool {
    parent(run).is_none()
        && has_succeeded(run)
        && match trigger.outcome.unwrap_or_default() {
            UpstreamOutcome::Succeeded => true,
            // One that nothing decides about has no such condition.
            UpstreamOutcome::Promoted => condition(run, "Promoted") != Some("False"),
        }
}

fn is_done(status: &PipelineTriggerStatus, at: Timestamp, uid: &str) -> bool {
    let before = |until: &EndedRun| (at, uid) <= (until.time.0, until.uid.as_str());
    status.done.iter().any(|done| done == uid) || status.done_until.as_ref().is_some_and(before)
}

/// Takes out those that are not there any more, and of too many that have ended the oldest. One that is begun again is done with all the same.
fn forget(status: &mut PipelineTriggerStatus, there: &[Arc<MLPipelineRun>], ended: &[Ended<'_>]) {
    let there: BTreeSet<&str> = there.iter().filter_map(|run| run.metadata.uid.as_deref()).collect();
    status.done.retain(|uid| there.contains(uid.as_str()));
    // In the order of their ends.
    let done = ended.iter().filter(|(_, _, uid)| status.done.iter().any(|done| done == uid));
    let oldest = done.take(status.done.len().saturating_sub(MOST_DONE));
    let dropped: Vec<(Timestamp, String)> = oldest.map(|(_, at, uid)| (*at, (*uid).to_owned())).collect();
    status.done.retain(|uid| !dropped.iter().any(|(_, dropped)| dropped == uid));
    if let Some((at, uid)) = dropped.into_iter().next_back() {
        status.done_until = Some(EndedRun { time: Time(at), uid });
    }
}

/// What a status is said of.
fn rule(trigger: &PipelineTrigger) -> String {
    format!("{} {:?}", trigger.pipeline, trigger.outcome.unwrap_or_default())
}

/// Whether a run of the pipeline `name` is still to start one of a pipeline that follows it, so that it has to stay until then.
pub(in crate::pipeline) fn awaits(follower: &MLPipeline, name: &str, run: &MLPipelineRun) -> bool {
    let Some(status) = &follower.status else { return false };
    let accepted = status.conditions.iter().any(|c| c.type_ == "Accepted" && c.status == "True");
    let triggers = follower.spec.triggers.iter().flat_map(|triggers| &triggers.on_pipeline);
    accepted
        && triggers.filter(|(_, of)| of.pipeline == name && !of.suspend).any(|(trigger, of)| {
            let seen = status.triggers.as_ref().and_then(|triggers| triggers.on_pipeline.get(trigger));
            let Some(seen) = seen.filter(|seen| seen.rule == rule(of)) else { return false };
            let (uid, ended) =
                (run.metadata.uid.as_deref(), run.status.as_ref().and_then(|s| s.completion_time.as_ref()));
            counts(run, of) && uid.zip(ended).is_some_and(|(uid, at)| !is_done(seen, at.0, uid))
        })
}
