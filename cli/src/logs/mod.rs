//! `logs`: what the programs of a run wrote, out of the pods that are still there, and out of the store where they are gone.

mod follow;
mod kept;
mod wanted;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::pin::pin;

use clap::Args;
use futures::AsyncBufReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use millrace_contract::WantedLog;
use millrace_core::api::{MLPipelineRun, MLPipelineRunStatus, StageStatus};
use millrace_core::expr;
use millrace_core::names::{self, ATTEMPT_LABEL, ITEM_INDEX_ANNOTATION, ITEM_LABEL, RUN_UID_LABEL, STAGE_LABEL};
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::Answer;
use crate::connect::Cluster;
use crate::error::{Error, code, words};
use crate::output::{self, Format};
use crate::reader::{self, Rights};
use crate::show::prefix::Prefixes;
use crate::show::stages;
use crate::tree;
use follow::follow;
use kept::Kept;
use wanted::Source;

/// The container that runs a stage's program.
const MAIN: &str = "main";
/// Lines that wait to be written, of all pods.
const WAITING: usize = 256;

/// Show what the programs of a run wrote: from their pods, or from the store where they are gone
#[derive(Args, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own on the command line")]
pub struct Logs {
    run: String,
    /// Of this stage only
    stage: Option<String>,
    /// Of this item only, of a stage with `forEach`: its index, from 0
    #[arg(long, requires = "stage")]
    item: Option<u32>,
    /// Of this attempt of the stage only
    #[arg(long, requires = "stage")]
    attempt: Option<u32>,
    /// Of the attempt before the last one
    #[arg(long, requires = "stage", conflicts_with = "attempt")]
    previous: bool,
    /// Out of the store, also where a pod is there
    #[arg(long, conflicts_with = "follow")]
    kept: bool,
    /// The agent's image for the pod that reads the store; default: the one that the run noted
    #[arg(long)]
    image: Option<String>,
    /// Go on until the end of the run, or of the stage
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last so many lines of each pod
    #[arg(long)]
    tail: Option<i64>,
    /// Without the stage before each line
    #[arg(long)]
    no_prefix: bool,
}

pub async fn logs(cluster: &Cluster, command: &Logs) -> Result<Answer, Error> {
    let run = cluster.get::<MLPipelineRun>(&command.run).await?;
    let status = run.status.clone().unwrap_or_default();
    if let Some(stage) =
        command.stage.as_ref().filter(|stage| !status.stages.is_empty() && !status.stages.contains_key(*stage))
    {
        let hint = expr::did_you_mean(stage, status.stages.keys().map(String::as_str));
        return Err(Error::said(format!("run {} has no stage {stage}: {hint}", command.run)));
    }
    let items = command.stage.as_ref().and_then(|stage| status.stages.get(stage)?.items.as_ref());
    if let (Some(item), Some(stage)) = (command.item, &command.stage)
        && items.is_none_or(|items| item >= items.total)
    {
        let begun = status.stages.get(stage).is_some_and(|stage| stage.start_time.is_some());
        let none = if begun { "has no items" } else { "has not begun" };
        let there = items.map_or_else(|| none.to_owned(), |items| format!("has {} items, counted from 0", items.total));
        return Err(Error::said(format!(
            "stage {stage} of run {} {there}: --item {item} is none of them",
            command.run
        )));
    }
    let attempt = command.picked(&status).map_err(Error::Said)?;
    if let Some((of, own)) = own_run_of(cluster, &run, command, attempt).await? {
        output::warn(&own_run(&of, &own, &cluster.options));
        let whole = Logs { run: own, stage: None, item: None, attempt: None, previous: false, ..command.clone() };
        return Box::pin(logs(cluster, &whole)).await;
    }
    let wanted = Wanted {
        attempt,
        kept: command.kept,
        uid: run.metadata.uid.clone().unwrap_or_default(),
        stage: command.stage.clone(),
        item: command.item,
        tail: command.tail,
        // Lines of one program need no names.
        prefix: !command.no_prefix && (command.stage.is_none() || items.is_some() && command.item.is_none()),
    };
    // Of what has ended there is nothing to follow.
    let stage = command.stage.as_ref().and_then(|stage| status.stages.get(stage));
    let over = tree::end(&run).is_some()
        || stage.is_some_and(|stage| stage.state.ended() || attempt.is_some_and(|attempt| attempt < stage.attempts));
    if command.follow && !over {
        Box::pin(follow(cluster, &command.run, &wanted)).await?;
    } else {
        all(cluster, &run, &wanted, command.image.as_deref()).await?;
    }
    Ok(Answer::Yes)
}

/// Follows the logs of a run to its end, and shows how it went.
pub async fn until_end(cluster: &Cluster, name: &str) -> Result<Answer, Error> {
    let run = cluster.get::<MLPipelineRun>(name).await?;
    let uid = run.metadata.uid.unwrap_or_default();
    let wanted = Wanted { uid, stage: None, item: None, attempt: None, kept: false, tail: None, prefix: true };
    Box::pin(follow(cluster, name, &wanted)).await?;
    let run = cluster.get::<MLPipelineRun>(name).await?;
    tree::show(cluster, &run, Format::Table).await?;
    Ok((tree::end(&run) == Some(true)).into())
}

/// What of a run is wanted.
struct Wanted {
    uid: String,
    stage: Option<String>,
    item: Option<u32>,
    attempt: Option<u32>,
    /// Nothing out of pods.
    kept: bool,
    tail: Option<i64>,
    prefix: bool,
}

impl Wanted {
    fn selector(&self) -> String {
        let stage = self.stage.as_ref().map(|stage| format!(",{STAGE_LABEL}={stage}")).unwrap_or_default();
        format!("{RUN_UID_LABEL}={}{stage}", self.uid)
    }

    /// Its program has begun, and is wanted.
    fn has_begun(&self, pod: &Pod) -> bool {
        let (_, attempt) = stage_of(pod);
        has_begun(pod)
            && self.item.is_none_or(|item| item_of(pod) == Some(item))
            && self.attempt.is_none_or(|wanted| wanted == attempt)
    }

    fn parameters(&self, follow: bool) -> LogParams {
        LogParams { container: Some(MAIN.to_owned()), follow, tail_lines: self.tail, ..LogParams::default() }
    }
}

/// A line of a pod.
struct Line {
    stage: String,
    attempt: u32,
    text: String,
}

fn stage_of(pod: &Pod) -> (String, u32) {
    let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
    (label(STAGE_LABEL), label(ATTEMPT_LABEL).parse().unwrap_or(1))
}

/// Which item it is for.
fn item_of(pod: &Pod) -> Option<u32> {
    pod.annotations().get(ITEM_INDEX_ANNOTATION)?.parse().ok()
}

/// The stage, and the item: `train[7]`.
fn name_of(pod: &Pod) -> String {
    let (stage, _) = stage_of(pod);
    item_of(pod).map_or_else(|| stage.clone(), |item| format!("{stage}[{item}]"))
}

/// Its program has begun: there is something to read.
fn has_begun(pod: &Pod) -> bool {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let main = containers.filter(|container| container.name == MAIN).find_map(|container| container.state.as_ref());
    main.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
}

/// It ended without its program: its image could not be pulled, for one.
fn never_began(pod: &Pod) -> bool {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let none = |id: Option<&String>| id.is_none_or(String::is_empty);
    containers.filter(|container| container.name == MAIN).any(|container| {
        let ended = container.state.as_ref().and_then(|state| state.terminated.as_ref());
        ended.is_some_and(|ended| none(ended.container_id.as_ref()))
            && none(container.container_id.as_ref())
            && container.restart_count == 0
    })
}

fn no_log(pod: &Pod) -> String {
    format!("stage {}: pod {} never started, no log", name_of(pod), pod.name_any())
}

/// Everything that there is, stage after stage in the order in which they began.
async fn all(cluster: &Cluster, run: &MLPipelineRun, wanted: &Wanted, image: Option<&str>) -> Result<(), Error> {
    let api: Api<Pod> = cluster.api();
    let pods = if wanted.kept { Vec::new() } else { list(&api, wanted).await? };
    let pods = pods.into_iter().filter(|pod| wanted.has_begun(pod)).collect();
    let status = run.status.clone().unwrap_or_default();
    let sources = wanted::sources(pods, &status, wanted);
    if sources.is_empty()
        && let Some(why) = nothing(&run.name_any(), &status, wanted)
    {
        output::warn(&why);
    }
    let mut missed = print(cluster, run, wanted, sources, image).await?;
    // Their nodes did not answer.
    missed.retain(|log| !wanted.kept && (wanted.attempt.is_none() || wanted.attempt == log.attempt));
    if !missed.is_empty() {
        print(cluster, run, wanted, missed.into_iter().map(Source::Kept).collect(), image).await?;
    }
    for (name, stage) in &status.stages {
        let nested = nested_run(&run.name_any(), name, stage, wanted.attempt);
        if let Some(nested) = nested.filter(|_| wanted.stage.as_ref().is_none_or(|wanted| wanted == name)) {
            output::warn(&own_run(name, &nested, &cluster.options));
        }
    }
    item_runs(cluster, &status, wanted).await
}

/// Why there is no log, of a stage that ran no program, or of a run of which none has: else silence reads as a program that printed nothing.
fn nothing(run: &str, status: &MLPipelineRunStatus, wanted: &Wanted) -> Option<String> {
    let ran = |stage: &StageStatus| stage.attempts > 0 || stage.items.is_some();
    let Some(name) = &wanted.stage else {
        return status
            .stages
            .values()
            .all(|stage| !ran(stage))
            .then(|| format!("no stage of run {run} has run a program: kubectl millrace tree {run}"));
    };
    let stage = status.stages.get(name).filter(|stage| !ran(stage))?;
    Some(format!("no log: {}", stages::line(name, stage)))
}

/// The run of a stage with `pipeline`: that of the attempt that is asked for, else the last. Between two tries its status names none.
fn nested_run(run: &str, name: &str, stage: &StageStatus, attempt: Option<u32>) -> Option<String> {
    let made = stage.attempts > 0 && stage.job.is_none() && stage.items.is_none();
    let named = attempt.filter(|_| stage.run.is_some() || made).map(|attempt| names::job(run, name, attempt));
    let last = || stage.run.as_ref().map(|run| run.name.clone());
    named.or_else(last).or_else(|| made.then(|| names::job(run, name, stage.attempts)))
}

/// Where the log of a run is that a stage, or an item of one, began.
fn own_run(of: &str, run: &str, options: &str) -> String {
    format!("{of} is a run of its own: kubectl millrace logs {run}{options}")
}

/// The run that the stage which is asked for, or the item of it, is; and how it is called.
async fn own_run_of(
    cluster: &Cluster,
    run: &MLPipelineRun,
    command: &Logs,
    attempt: Option<u32>,
) -> Result<Option<(String, String)>, Error> {
    let Some(name) = &command.stage else { return Ok(None) };
    let Some(stage) = run.status.as_ref().and_then(|status| status.stages.get(name)) else { return Ok(None) };
    let api: Api<MLPipelineRun> = cluster.api();
    let uid = run.metadata.uid.clone().unwrap_or_default();
    let Some(item) = command.item else {
        let Some(own) = nested_run(&run.name_any(), name, stage, attempt) else { return Ok(None) };
        let found = api.get_opt(&own).await.map_err(|error| Error::request("read", &own, error))?;
        let is_its = found.as_ref().is_some_and(|found| found.labels().get(RUN_UID_LABEL) == Some(&uid));
        // Between two tries its name is a guess.
        if found.is_none() && stage.run.is_some() {
            return Err(Error::said(format!("stage {name} was the run {own}, which is deleted, and its logs with it")));
        }
        return Ok(is_its.then(|| (name.clone(), own)));
    };
    if stage.items.as_ref().is_none_or(|items| items.begun == 0) {
        return Ok(None);
    }
    let tried = attempt.map(|attempt| format!(",{ATTEMPT_LABEL}={attempt}")).unwrap_or_default();
    let labels = format!("{RUN_UID_LABEL}={uid},{STAGE_LABEL}={name},{ITEM_LABEL}={item}{tried}");
    let listed = api.list(&ListParams::default().labels(&labels)).await;
    let listed = listed.map_err(|error| Error::request("list", "the runs of its items", error))?;
    let number = |run: &MLPipelineRun| run.labels().get(ATTEMPT_LABEL).and_then(|number| number.parse::<u32>().ok());
    let last = listed.items.iter().max_by_key(|run| number(run));
    if last.is_none() && stage.items.as_ref().is_some_and(|items| item < items.begun) {
        return Err(Error::said(format!("the run of item {item} of stage {name} is deleted, and its logs with it")));
    }
    Ok(last.map(|last| (format!("{name}[{item}]"), last.name_any())))
}

/// Says where the logs are of stages whose items are runs.
async fn item_runs(cluster: &Cluster, status: &MLPipelineRunStatus, wanted: &Wanted) -> Result<(), Error> {
    let mine = |name: &String| wanted.stage.as_ref().is_none_or(|wanted| wanted == name);
    let are_runs = |stage: &StageStatus| stage.items.as_ref().is_some_and(|items| items.begun > 0);
    if !status.stages.iter().any(|(name, stage)| are_runs(stage) && mine(name)) {
        return Ok(());
    }
    let item = wanted.item.map(|item| format!(",{ITEM_LABEL}={item}")).unwrap_or_default();
    let list = ListParams::default().labels(&format!("{}{item}", wanted.selector()));
    let api: Api<MLPipelineRun> = cluster.api();
    let listed = api.list(&list).await.map_err(|error| Error::request("list", "the runs of its items", error))?;
    for line in told_of_items(&listed.items, &cluster.options) {
        output::warn(&line);
    }
    Ok(())
}

/// Of each stage the runs of its items, or the one of an item that was made last.
fn told_of_items(runs: &[MLPipelineRun], options: &str) -> Vec<String> {
    let label = |run: &MLPipelineRun, key: &str| run.labels().get(key).cloned().unwrap_or_default();
    let mut stages: BTreeMap<String, Vec<(String, u32, String)>> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.labels().contains_key(ITEM_LABEL)) {
        let attempt = label(run, ATTEMPT_LABEL).parse().unwrap_or_default();
        stages.entry(label(run, STAGE_LABEL)).or_default().push((label(run, ITEM_LABEL), attempt, run.name_any()));
    }
    let told = stages.into_iter().filter_map(|(stage, mut runs)| {
        runs.sort_by_key(|(item, attempt, _)| (*attempt, item.parse::<u32>().unwrap_or_default()));
        let (item, _, last) = runs.last()?;
        if runs.iter().all(|(other, _, _)| other == item) {
            return Some(own_run(&format!("{stage}[{item}]"), last, options));
        }
        // Of each item the last.
        let number = |item: &str| item.parse::<u32>().unwrap_or_default();
        let last: BTreeMap<u32, &String> = runs.iter().map(|(item, _, run)| (number(item), run)).collect();
        let (count, of_before) = (last.len(), runs.len() - last.len());
        let first = last.values().next()?;
        let before = if of_before > 0 { format!(", and {of_before} of earlier attempts") } else { String::new() };
        Some(format!("{stage} has {count} runs, one for each item{before}: kubectl millrace logs {first}{options}, and so on; --item N names that of one"))
    });
    told.collect()
}

/// Writes logs in their order. Those whose pods cannot be read are handed back.
async fn print(
    cluster: &Cluster,
    run: &MLPipelineRun,
    wanted: &Wanted,
    sources: Vec<Source>,
    image: Option<&str>,
) -> Result<Vec<WantedLog>, Error> {
    let kept: Vec<&WantedLog> = sources.iter().filter_map(Source::kept).collect();
    let place = if kept.is_empty() { None } else { kept::place(cluster, run).await };
    let Some(place) = place else {
        for log in kept {
            output::warn(&format!("{}: its pod is gone, and its log with it: the run has no store", told(log)));
        }
        return each(cluster, wanted, &sources, None).await;
    };
    let why = if wanted.kept { "" } else { ", as pods are gone" };
    output::warn(&format!("out of {}{why}: {}", kept::told(&place), named(&kept)));
    let (begun, sources) = (&Cell::new(false), sources.as_slice());
    let worked = match kept::pod(cluster, run, &place, &kept, wanted.item, image).await {
        Ok(pod) => {
            let work = |api, pod| async move {
                let mut kept = Kept::open(cluster, &api, pod).await?;
                begun.set(true);
                each(cluster, wanted, sources, Some(&mut kept)).await
            };
            reader::with(cluster, pod, Rights::Logs, work).await
        }
        Err(error) => Err(error),
    };
    if worked.as_ref().is_err_and(|error| !matches!(error, Error::Interrupted)) && !begun.get() {
        // What there is without the store is shown in any case, but to somebody who wants no more.
        each(cluster, wanted, sources, None).await?;
    }
    worked
}

/// A few of the logs by their names.
fn named(logs: &[&WantedLog]) -> String {
    const NAMED: usize = 5;
    let mut names: Vec<String> = logs.iter().take(NAMED).map(|log| told(log)).collect();
    if logs.len() > NAMED {
        names.push(format!("and {} more", logs.len() - NAMED));
    }
    names.join(", ")
}

async fn each(
    cluster: &Cluster,
    wanted: &Wanted,
    sources: &[Source],
    mut kept: Option<&mut Kept>,
) -> Result<Vec<WantedLog>, Error> {
    let api: Api<Pod> = cluster.api();
    let mut prefixes = Prefixes::new(wanted.prefix);
    let mut missed = Vec::new();
    for source in sources {
        match (source, &mut kept) {
            (Source::Pod(pod), _) => {
                if never_began(pod) {
                    output::warn(&no_log(pod));
                    continue;
                }
                let (stage, attempt) = (name_of(pod), stage_of(pod).1);
                let (sender, receiver) = mpsc::channel(WAITING);
                let reading = read(api.clone(), pod.name_any(), wanted.parameters(false), stage, attempt, sender);
                let (read, written) = tokio::join!(reading, write(receiver, &mut prefixes));
                written?;
                // Of items nobody can tell which of their attempts it was.
                if !read? && item_of(pod).is_none() {
                    missed.push(WantedLog { stage: stage_of(pod).0, attempt: Some(attempt) });
                }
            }
            (Source::Kept(log), Some(kept)) => {
                let mut any = false;
                while let Some((part, text)) = kept.next_of(log).await? {
                    any = true;
                    for (at, text) in wanted::lines(&text, wanted.tail).into_iter().enumerate() {
                        if at % WAITING == 0 {
                            // A long log comes as a whole, and whoever interrupts it does not want to see its end.
                            tokio::task::yield_now().await;
                        }
                        let stage =
                            part.item.map_or_else(|| part.stage.clone(), |item| format!("{}[{item}]", part.stage));
                        tell_line(&mut prefixes, &Line { stage, attempt: part.attempt, text })?;
                    }
                }
                if !any {
                    output::warn(&format!("{}: nothing that its program wrote is kept", told(log)));
                }
            }
            (Source::Kept(_), None) => {}
        }
    }
    Ok(missed)
}

fn told(log: &WantedLog) -> String {
    let attempt = log.attempt.filter(|attempt| *attempt > 1).map(|attempt| format!(", attempt {attempt}"));
    format!("stage {}{}", log.stage, attempt.unwrap_or_default())
}

async fn list(api: &Api<Pod>, wanted: &Wanted) -> Result<Vec<Pod>, Error> {
    let listed = api.list(&ListParams::default().labels(&wanted.selector())).await;
    Ok(listed.map_err(|error| Error::request("list", "the run's pods", error))?.items)
}

async fn write(mut lines: Receiver<Line>, prefixes: &mut Prefixes) -> Result<(), Error> {
    while let Some(line) = lines.recv().await {
        tell_line(prefixes, &line)?;
    }
    Ok(())
}

fn tell_line(prefixes: &mut Prefixes, line: &Line) -> Result<(), Error> {
    output::line(&format!("{}{}", prefixes.of(&line.stage, line.attempt), line.text))
}

/// Reads one pod to its end; false if it cannot be read. What is no text is shown as well as it goes.
async fn read(
    api: Api<Pod>,
    pod: String,
    parameters: LogParams,
    stage: String,
    attempt: u32,
    lines: Sender<Line>,
) -> Result<bool, Error> {
    let failed = |error: kube::Error| Error::request("read the log of", format!("pod {pod}"), error);
    let mut stream = match api.log_stream(&pod, &parameters).await {
        Ok(stream) => pin!(stream),
        // Deleted a moment ago, or its node has not got it any more, or does not answer.
        Err(error) if matches!(code(&error), Some(400 | 404 | 500..=599)) => {
            output::warn(&format!("stage {stage}: the log of pod {pod} cannot be had: {}", words(&error)));
            return Ok(false);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = stream.read_until(b'\n', &mut bytes).await;
        if read.map_err(Error::Output)? == 0 {
            return Ok(true);
        }
        let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
        if lines.send(Line { stage: stage.clone(), attempt, text }).await.is_err() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_that_are_runs_are_named() {
        let run = |item: Option<u32>, attempt: u32| -> MLPipelineRun {
            let mut labels = json!({ "millrace.dev/stage": "make", "millrace.dev/attempt": attempt.to_string() });
            if let Some(item) = item {
                labels["millrace.dev/item"] = json!(item.to_string());
            }
            let name = format!("r-make-{attempt}-{}", item.unwrap_or_default());
            serde_json::from_value(json!({ "metadata": { "name": name, "labels": labels }, "spec": {} })).unwrap()
        };
        assert!(told_of_items(&[run(None, 1)], "").is_empty(), "a stage with one run has told of it");
        let told = told_of_items(&[run(Some(7), 2), run(Some(7), 1)], " -n team");
        assert_eq!(told, ["make[7] is a run of its own: kubectl millrace logs r-make-2-7 -n team"]);
        let told = told_of_items(&[run(Some(10), 1), run(Some(2), 1)], " -n team");
        assert!(told[0].starts_with("make has 2 runs") && told[0].contains("logs r-make-1-2 -n team,"), "{told:?}");
    }

    #[test]
    fn a_stage_that_ran_no_program_says_so_in_the_place_of_silence() {
        let status: MLPipelineRunStatus = serde_json::from_value(json!({ "stages": {
            "a": { "state": "Skipped", "reason": "WhenFalse", "message": "when is false" },
            "b": { "state": "Running", "attempts": 1 },
        } }))
        .unwrap();
        let of = |stage: Option<&str>| Wanted {
            stage: stage.map(str::to_owned),
            uid: String::new(),
            item: None,
            attempt: None,
            kept: false,
            tail: None,
            prefix: false,
        };
        let said = nothing("r", &status, &of(Some("a"))).unwrap();
        assert!(
            said.starts_with("no log: ") && said.contains("Skipped") && said.ends_with("WhenFalse: when is false"),
            "{said}"
        );
        assert_eq!(nothing("r", &status, &of(Some("b"))), None);
        assert_eq!(nothing("r", &status, &of(None)), None);
        let said = nothing("r", &MLPipelineRunStatus::default(), &of(None));
        assert_eq!(said.unwrap(), "no stage of run r has run a program: kubectl millrace tree r");
    }

    #[test]
    fn a_container_that_never_started_has_no_log() {
        let pod = |ended: serde_json::Value, id: &str, restarts: u32| -> Pod {
            let main = json!({
                "name": "main", "image": "i", "imageID": "", "ready": false, "restartCount": restarts, "containerID": id,
                "state": ended,
            });
            let labels = json!({ "millrace.dev/stage": "fit", "millrace.dev/attempt": "1" });
            serde_json::from_value(json!({
                "metadata": { "name": "r-fit-1", "labels": labels }, "status": { "containerStatuses": [main] },
            }))
            .unwrap()
        };
        let ended = |id: &str| json!({ "terminated": { "exitCode": 137, "containerID": id } });
        let never = pod(ended(""), "", 0);
        assert!(never_began(&never) && has_begun(&never));
        assert_eq!(no_log(&never), "stage fit: pod r-fit-1 never started, no log");
        assert!(!never_began(&pod(ended("containerd://a"), "containerd://a", 0)));
        assert!(!never_began(&pod(ended(""), "", 1)), "its node lost it");
        assert!(!never_began(&pod(json!({ "running": {} }), "containerd://a", 0)));
    }
}
