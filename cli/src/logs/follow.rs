//! The logs of pods as their programs write them, until the end of the run.

use std::collections::BTreeSet;
use std::pin::pin;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, watch_object, watcher};
use kube::runtime::{WatchStreamExt, watcher::Config};
use kube::{Api, ResourceExt};
use millrace_core::api::MLPipelineRun;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinSet;

use super::{Line, WAITING, Wanted, list, name_of, read, stage_of, tell_line};
use crate::connect::Cluster;
use crate::error::Error;
use crate::rollout::tell;
use crate::show::prefix::Prefixes;
use crate::{output, tree};

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
        let (stage, attempt) = (name_of(pod), stage_of(pod).1);
        let parameters = self.wanted.parameters(true);
        self.tasks.spawn(read(self.api.clone(), pod.name_any(), parameters, stage, attempt, self.lines.clone()));
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
