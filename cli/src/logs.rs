//! `logs`: what the programs of a run wrote, of the pods that are still there.

use std::collections::BTreeSet;
use std::pin::pin;

use clap::Args;
use futures::{AsyncBufReadExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::runtime::watcher::{self, watch_object, watcher};
use kube::runtime::{WatchStreamExt, watcher::Config};
use kube::{Api, ResourceExt};
use millrace_core::api::{MLPipelineRun, MLPipelineRunStatus};
use millrace_core::expr;
use millrace_core::names::{ATTEMPT_LABEL, ITEM_INDEX_ANNOTATION, RUN_UID_LABEL, STAGE_LABEL};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;

use crate::Answer;
use crate::connect::Cluster;
use crate::error::{Error, code};
use crate::output::{self, Format};
use crate::rollout::tell;
use crate::show::prefix::Prefixes;
use crate::tree;

/// The container that runs a stage's program.
const MAIN: &str = "main";
/// Lines that wait to be written, of all pods.
const WAITING: usize = 256;

/// Show what the programs of a run wrote
#[derive(Args)]
pub struct Logs {
    run: String,
    /// Of this stage only
    stage: Option<String>,
    /// Of this item only, of a stage with `forEach`: its index, from 0
    #[arg(long, requires = "stage")]
    item: Option<u32>,
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
        let there = items
            .map_or_else(|| "has no items".to_owned(), |items| format!("has {} items, counted from 0", items.total));
        return Err(Error::said(format!(
            "stage {stage} of run {} {there}: --item {item} is none of them",
            command.run
        )));
    }
    let wanted = Wanted {
        uid: run.metadata.uid.clone().unwrap_or_default(),
        stage: command.stage.clone(),
        item: command.item,
        tail: command.tail,
        // Lines of one program need no names.
        prefix: !command.no_prefix && (command.stage.is_none() || items.is_some() && command.item.is_none()),
    };
    if command.follow {
        follow(cluster, &command.run, &wanted).await?;
    } else {
        all(cluster, &wanted, &status).await?;
    }
    Ok(Answer::Yes)
}

/// Follows the logs of a run to its end, and shows how it went.
pub async fn until_end(cluster: &Cluster, name: &str) -> Result<Answer, Error> {
    let run = cluster.get::<MLPipelineRun>(name).await?;
    let uid = run.metadata.uid.unwrap_or_default();
    follow(cluster, name, &Wanted { uid, stage: None, item: None, tail: None, prefix: true }).await?;
    let run = cluster.get::<MLPipelineRun>(name).await?;
    tree::show(cluster, &run, Format::Table).await?;
    Ok((tree::end(&run) == Some(true)).into())
}

/// What of a run is wanted.
struct Wanted {
    uid: String,
    stage: Option<String>,
    item: Option<u32>,
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
        has_begun(pod) && self.item.is_none_or(|item| item_of(pod) == Some(item))
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

/// Everything that there is, stage after stage in the order in which they began.
async fn all(cluster: &Cluster, wanted: &Wanted, status: &MLPipelineRunStatus) -> Result<(), Error> {
    let api: Api<Pod> = cluster.api();
    let pods = list(&api, wanted).await?;
    let mut pods: Vec<Pod> = pods.into_iter().filter(|pod| wanted.has_begun(pod)).collect();
    pods.sort_by_key(|pod| {
        let (stage, attempt) = stage_of(pod);
        let began = status.stages.get(&stage).and_then(|found| found.start_time.as_ref().map(|time| time.0));
        (began, stage, attempt, item_of(pod))
    });
    let mut prefixes = Prefixes::new(wanted.prefix);
    for pod in &pods {
        let (stage, attempt) = (name_of(pod), stage_of(pod).1);
        let (sender, receiver) = mpsc::channel(WAITING);
        let reading = read(api.clone(), pod.name_any(), wanted.parameters(false), stage, attempt, sender);
        let (read, written) = tokio::join!(reading, write(receiver, &mut prefixes));
        written?;
        read?;
    }
    let seen: BTreeSet<String> = pods.iter().map(|pod| stage_of(pod).0).collect();
    let mine = |name: &&String| wanted.stage.as_ref().is_none_or(|wanted| wanted == *name);
    for (name, stage) in status.stages.iter().filter(|(name, _)| mine(name)) {
        if stage.job.is_some() && stage.state.ended() && !seen.contains(name) {
            output::warn(&format!("stage {name}: its pod is gone, and its log with it"));
        }
    }
    Ok(())
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

/// Reads one pod to its end. What is no text is shown as well as it goes.
async fn read(
    api: Api<Pod>,
    pod: String,
    parameters: LogParams,
    stage: String,
    attempt: u32,
    lines: Sender<Line>,
) -> Result<(), Error> {
    let failed = |error: kube::Error| Error::request("read the log of", format!("pod {pod}"), error);
    let mut stream = match api.log_stream(&pod, &parameters).await {
        Ok(stream) => pin!(stream),
        // Deleted a moment ago, or its node has not got it any more.
        Err(error) if matches!(code(&error), Some(400 | 404)) => {
            output::warn(&format!("stage {stage}: the log of pod {pod} cannot be had: {error}"));
            return Ok(());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = stream.read_until(b'\n', &mut bytes).await;
        if read.map_err(Error::Output)? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
        if lines.send(Line { stage: stage.clone(), attempt, text }).await.is_err() {
            return Ok(());
        }
    }
}

/// The pods that are being read.
struct Tails<'a> {
    api: Api<Pod>,
    wanted: &'a Wanted,
    seen: BTreeSet<String>,
    tasks: JoinSet<Result<(), Error>>,
    lines: Sender<Line>,
}

impl Tails<'_> {
    /// Reads a pod whose program has begun, once.
    fn begin(&mut self, pod: &Pod) {
        if !self.wanted.has_begun(pod) || !self.seen.insert(pod.uid().unwrap_or_default()) {
            return;
        }
        let (stage, attempt) = (name_of(pod), stage_of(pod).1);
        let parameters = self.wanted.parameters(true);
        self.tasks.spawn(read(self.api.clone(), pod.name_any(), parameters, stage, attempt, self.lines.clone()));
    }
}

/// Reads every pod as its program begins, until the run has ended and every log with it.
async fn follow(cluster: &Cluster, name: &str, wanted: &Wanted) -> Result<(), Error> {
    let api: Api<Pod> = cluster.api();
    let mut runs = pin!(watch_object(cluster.api::<MLPipelineRun>(), name).default_backoff());
    let selected = Config::default().labels(&wanted.selector());
    let mut pods = pin!(watcher(api.clone(), selected).default_backoff().applied_objects());
    let (sender, mut lines) = mpsc::channel(WAITING);
    let mut tails = Tails { api, wanted, seen: BTreeSet::new(), tasks: JoinSet::new(), lines: sender };
    let mut prefixes = Prefixes::new(wanted.prefix);
    let mut over = false;
    while !(over && tails.tasks.is_empty()) {
        tokio::select! {
            Some(line) = lines.recv() => tell_line(&mut prefixes, &line)?,
            Some(pod) = pods.next(), if !over => match pod {
                Ok(pod) => tails.begin(&pod),
                Err(error) => tell(name, error)?,
            },
            Some(run) = runs.next(), if !over => {
                over = ended(run, cluster, name, wanted).await?;
                if over {
                    // The watch may not have told of the last ones yet.
                    for pod in list(&tails.api, wanted).await? {
                        tails.begin(&pod);
                    }
                }
            }
            Some(done) = tails.tasks.join_next(), if !tails.tasks.is_empty() => {
                if let Ok(Err(error)) = done {
                    output::warn(&crate::error::chain(&error));
                }
            }
        }
    }
    while let Ok(line) = lines.try_recv() {
        tell_line(&mut prefixes, &line)?;
    }
    Ok(())
}

/// Whether what is followed has ended.
async fn ended(
    change: Result<Option<MLPipelineRun>, watcher::Error>,
    cluster: &Cluster,
    name: &str,
    wanted: &Wanted,
) -> Result<bool, Error> {
    let run = match change {
        Ok(Some(run)) => run,
        Ok(None) => return Err(cluster.missing::<MLPipelineRun>(name).await),
        Err(error) => return tell(name, error).map(|()| false),
    };
    let stage = wanted.stage.as_ref().and_then(|stage| run.status.as_ref()?.stages.get(stage));
    Ok(tree::end(&run).is_some() || stage.is_some_and(|stage| stage.state.ended()))
}
