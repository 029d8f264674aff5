//! `tree`: the stages of a run, one under what it comes after.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use millrace_core::api::{MLPipelineRun, StageState};
use millrace_core::duration;
use millrace_core::pipeline::Frozen;
use millrace_core::run::retry_asked;

use crate::Answer;
use crate::connect::Cluster;
use crate::error::Error;
use crate::output::{self, Format};
use crate::rollout::tell;
use crate::show;

/// How often a live tree is drawn again.
const TICK: Duration = Duration::from_secs(1);
/// To the upper left, and nothing below.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Show the stages of a run: state, time, tries, and why. Ends with 1 where the run failed
#[derive(Args)]
pub struct Tree {
    run: String,
    /// Stay until the run's end
    #[arg(short, long)]
    watch: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub async fn tree(cluster: &Cluster, command: &Tree) -> Result<Answer, Error> {
    let mut run = cluster.get::<MLPipelineRun>(&command.run).await?;
    if command.watch {
        run = watch(cluster, &command.run, command.output == Format::Json).await?;
    }
    show(cluster, &run, command.output).await?;
    Ok((end(&run) != Some(false)).into())
}

/// Writes the tree of a run.
pub async fn show(cluster: &Cluster, run: &MLPipelineRun, format: Format) -> Result<(), Error> {
    match format {
        Format::Json => output::json(&show::document::run(run)),
        Format::Table => {
            let frozen = frozen(cluster, run).await;
            output::print(&show::stages::tree(run, frozen.as_ref(), Timestamp::now(), &cluster.options))
        }
    }
}

/// Whether a run has succeeded, if it has ended as its spec asks now: an end from before `retryFrom` is none.
pub fn end(run: &MLPipelineRun) -> Option<bool> {
    let status = run.status.as_ref().filter(|status| status.completion_time.is_some())?;
    if retry_asked(run).is_some() {
        return None;
    }
    match show::condition(&status.conditions, "Succeeded")?.status.as_str() {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

/// Refuses what makes sense only of a run that goes on.
pub fn not_ended(run: &MLPipelineRun, name: &str) -> Result<(), Error> {
    if end(run).is_none() {
        return Ok(());
    }
    let conditions = run.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let reason = show::condition(conditions, "Succeeded").map_or("", |condition| condition.reason.as_str());
    Err(Error::said(format!("run {name} has ended already: {reason}")))
}

/// What the run runs. It is for the order only: without it the stages stand in a list.
pub async fn frozen(cluster: &Cluster, run: &MLPipelineRun) -> Option<Frozen> {
    let name = run.status.as_ref()?.frozen.as_ref()?;
    let revision = cluster.api::<ControllerRevision>().get_opt(name).await.ok()??;
    serde_json::from_value(revision.data?.0).ok()
}

/// Waits for the end of a run. On a terminal the tree is drawn again and again; else every change of a stage is a line.
pub async fn watch(cluster: &Cluster, name: &str, quiet: bool) -> Result<MLPipelineRun, Error> {
    let live = !quiet && std::io::stdout().is_terminal();
    let began = Timestamp::now();
    let (mut latest, mut plan, mut told) = (None::<MLPipelineRun>, None, BTreeMap::new());
    let mut changes = pin!(watch_object(cluster.api::<MLPipelineRun>(), name).default_backoff());
    let mut ticks = tokio::time::interval(TICK);
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            _ = ticks.tick(), if live => None,
        };
        match change {
            Some(Ok(Some(run))) => latest = Some(run),
            Some(Ok(None)) => return Err(cluster.missing::<MLPipelineRun>(name).await),
            Some(Err(error)) => tell(name, error)?,
            None => {}
        }
        let Some(run) = &latest else { continue };
        if live {
            if plan.is_none() {
                plan = frozen(cluster, run).await;
            }
            let text = show::stages::tree(run, plan.as_ref(), Timestamp::now(), &cluster.options);
            output::print(&format!("{CLEAR}{text}"))?;
        } else if !quiet {
            let gone = duration::format(duration::since(began, Timestamp::now()));
            for line in changed(run, &mut told) {
                output::line(&format!("{gone:>7}  {line}"))?;
            }
        }
        if end(run).is_some() {
            if live {
                output::print(CLEAR)?;
            }
            return Ok(run.clone());
        }
    }
}

/// A line for each stage whose state, reason or attempt is another than the one told last.
fn changed(run: &MLPipelineRun, told: &mut BTreeMap<String, (StageState, Option<String>, u32)>) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, stage) in run.status.iter().flat_map(|status| &status.stages) {
        let now = (stage.state, stage.reason.clone(), stage.attempts);
        if told.get(name) != Some(&now) && stage.state != StageState::Waiting {
            lines.push(show::stages::line(name, stage));
        }
        told.insert(name.clone(), now);
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(stage: &serde_json::Value, spec: &serde_json::Value) -> MLPipelineRun {
        serde_json::from_value(json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun", "metadata": { "name": "r" }, "spec": spec,
            "status": {
                "completionTime": "2026-01-01T00:00:00Z", "stages": { "a": stage },
                "conditions": [{
                    "type": "Succeeded", "status": "False", "reason": "StageFailed", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
            },
        }))
        .unwrap()
    }

    #[test]
    fn an_end_from_before_it_was_asked_to_begin_again_is_none() {
        let stage = json!({ "state": "Failed" });
        assert_eq!(end(&run(&stage, &json!({}))), Some(false));
        assert_eq!(end(&run(&stage, &json!({ "retryFrom": { "failed": true } }))), None);
    }

    #[test]
    fn a_change_is_told_once() {
        let mut told = BTreeMap::new();
        let of = |state: &str, reason: Option<&str>| {
            run(&json!({ "state": state, "reason": reason, "message": "m" }), &json!({}))
        };
        assert_eq!(changed(&of("Waiting", None), &mut told), Vec::<String>::new());
        assert_eq!(changed(&of("Pending", Some("Unschedulable")), &mut told).len(), 1);
        assert_eq!(changed(&of("Pending", Some("Unschedulable")), &mut told), Vec::<String>::new());
        assert_eq!(changed(&of("Running", None), &mut told).len(), 1);
    }
}
