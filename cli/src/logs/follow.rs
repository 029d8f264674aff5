//! The logs of pods as their programs write them, until the end of the run.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, watch_object, watcher};
use kube::runtime::{WatchStreamExt, watcher::Config};
use kube::{Api, ResourceExt};
use millrace_core::api::MLPipelineRun;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinSet;

use super::{Line, WAITING, Wanted, list, name_of, never_began, no_log, own_run, read, stage_of, tell_line};
use crate::connect::Cluster;
use crate::error::Error;
use crate::rollout::tell;
use crate::show::prefix::Prefixes;
use crate::{output, show, tree};

/// The pods that are being read.
struct Tails<'a> {
    api: Api<Pod>,
    wanted: &'a Wanted,
    seen: BTreeSet<String>,
    tasks: JoinSet<Result<bool, Error>>,
    lines: Sender<Line>,
}

impl Tails<'_> {
    /// Reads a pod whose program has begun, once.
    fn begin(&mut self, pod: &Pod) {
        if !self.wanted.has_begun(pod) || !self.seen.insert(pod.uid().unwrap_or_default()) {
            return;
        }
        if never_began(pod) {
            output::warn(&no_log(pod));
            return;
        }
        let (stage, attempt) = (name_of(pod), stage_of(pod).1);
        let parameters = self.wanted.parameters(true);
        self.tasks.spawn(read(self.api.clone(), pod.name_any(), parameters, stage, attempt, self.lines.clone()));
    }
}

/// What whoever follows was told beside the lines of programs.
#[derive(Default)]
struct Told {
    /// By stage: what it waits for.
    waits: BTreeMap<String, String>,
    /// The stages with runs of their own, and those runs.
    runs: BTreeSet<(String, String)>,
}

impl Told {
    /// What was not told yet: what stages wait for, once for each change, and where the logs of other runs are.
    fn news(&mut self, run: &MLPipelineRun, wanted: &Wanted, options: &str) -> Vec<String> {
        let mine = |stage: &str| wanted.stage.as_ref().is_none_or(|wanted| stage.is_empty() || wanted == stage);
        let waits: BTreeMap<_, _> =
            show::stages::waits(run, options).into_iter().filter(|(stage, _)| mine(stage)).collect();
        let news = waits.iter().filter(|(stage, line)| self.waits.get(*stage) != Some(*line));
        let mut news: Vec<String> = news.map(|(_, line)| line.clone()).collect();
        self.waits = waits;
        let parent = run.name_any();
        for (name, stage) in run.status.iter().flat_map(|status| &status.stages).filter(|(name, _)| mine(name)) {
            if let Some(nested) = &stage.run
                && self.runs.insert((name.clone(), nested.name.clone()))
            {
                news.push(own_run(name, &format!("{} -f", nested.name), options));
            }
            // Which runs there are changes all the time.
            let are_runs = stage.items.as_ref().is_some_and(|items| items.begun > 0);
            if are_runs && self.runs.insert((name.clone(), String::new())) {
                let item = wanted.item.map(|item| format!(" --item {item}")).unwrap_or_default();
                news.push(format!(
                    "{name} has a run for each item: kubectl millrace logs {parent} {name}{item}{options} names them"
                ));
            }
        }
        news
    }
}

/// Reads every pod as its program begins, until the run has ended and every log with it.
pub(super) async fn follow(cluster: &Cluster, name: &str, wanted: &Wanted) -> Result<(), Error> {
    let api: Api<Pod> = cluster.api();
    let mut runs = pin!(watch_object(cluster.api::<MLPipelineRun>(), name).default_backoff());
    let selected = Config::default().labels(&wanted.selector());
    let mut pods = pin!(watcher(api.clone(), selected).default_backoff().applied_objects());
    let (sender, mut lines) = mpsc::channel(WAITING);
    let mut tails = Tails { api, wanted, seen: BTreeSet::new(), tasks: JoinSet::new(), lines: sender };
    let mut prefixes = Prefixes::new(wanted.prefix);
    let (mut over, mut told) = (false, Told::default());
    while !(over && tails.tasks.is_empty()) {
        tokio::select! {
            Some(line) = lines.recv() => tell_line(&mut prefixes, &line)?,
            Some(pod) = pods.next(), if !over => match pod {
                Ok(pod) => tails.begin(&pod),
                Err(error) => tell(name, error)?,
            },
            Some(run) = runs.next(), if !over => {
                if let Ok(Some(run)) = &run {
                    told.news(run, wanted, &cluster.options).iter().for_each(|line| output::warn(line));
                }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_change_of_what_is_waited_for_is_told_once_and_so_is_each_nested_run() {
        let mut wanted = Wanted {
            uid: String::new(),
            stage: None,
            item: None,
            attempt: None,
            kept: false,
            tail: None,
            prefix: true,
        };
        let mut told = Told::default();
        let mut news = |wanted: &Wanted, stages: Value| {
            let run = json!({ "metadata": { "name": "r" }, "spec": {}, "status": { "stages": stages } });
            told.news(&serde_json::from_value(run).unwrap(), wanted, " -n team")
        };
        let waits =
            |message: &str| json!({ "a": { "state": "Pending", "reason": "Unschedulable", "message": message } });
        assert_eq!(news(&wanted, waits("no claim")).len(), 1);
        assert!(news(&wanted, waits("no claim")).is_empty());
        assert!(news(&wanted, waits("no node"))[0].ends_with("Unschedulable: no node"));
        assert!(news(&wanted, json!({ "a": { "state": "Running" } })).is_empty());
        assert_eq!(news(&wanted, waits("no node")).len(), 1, "it waits again");
        let nested = json!({ "b": { "state": "Running", "run": { "name": "r-b-1" } } });
        assert_eq!(news(&wanted, nested.clone()), ["b is a run of its own: kubectl millrace logs r-b-1 -f -n team"]);
        assert!(news(&wanted, nested).is_empty());
        let items = json!({ "c": { "state": "Running", "items": { "total": 3, "begun": 1 } } });
        assert_eq!(
            news(&wanted, items.clone()),
            ["c has a run for each item: kubectl millrace logs r c -n team names them"]
        );
        assert!(news(&wanted, items).is_empty());
        wanted.stage = Some("other".into());
        assert!(news(&wanted, waits("no quota")).is_empty(), "another stage is followed");
    }
}
