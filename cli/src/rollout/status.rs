//! `rollout status`.

use std::pin::pin;
use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use millrace_core::api::ModelDeployment;
use millrace_core::duration;

use super::standing;
use crate::Answer;
use crate::connect::Cluster;
use crate::error::{Error, code, watch_words};
use crate::output::{self, Format};
use crate::show;

/// Show how far it is: step, share, verdicts and figures. Ends with 1 where it was rolled back
#[derive(Args)]
pub struct Status {
    #[arg(value_name = "MODELDEPLOYMENT")]
    name: String,
    /// Wait until it was promoted or rolled back, and tell of every change
    #[arg(short, long)]
    watch: bool,
    /// Wait so long at most, as in 10m
    #[arg(long, requires = "watch", value_parser = wait)]
    timeout: Option<Duration>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// A duration as in `1h30m`.
pub fn wait(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| "write a duration such as 90s, 10m or 1h30m".to_owned())
}

pub async fn status(cluster: &Cluster, command: &Status) -> Result<Answer, Error> {
    let mut found = cluster.get(&command.name).await?;
    if command.watch {
        let quiet = command.output == Format::Json;
        found = watch(cluster, &command.name, command.timeout, quiet).await?;
    }
    match command.output {
        Format::Json => output::json(&show::document::rollout(&found))?,
        Format::Table => output::print(&show::rollout::status(&found, Timestamp::now()))?,
    }
    Ok(standing(&found).is_well().into())
}

/// Waits for the end, and tells of changes. An end from before the last change of the spec is none.
pub async fn watch(
    cluster: &Cluster,
    name: &str,
    timeout: Option<Duration>,
    quiet: bool,
) -> Result<ModelDeployment, Error> {
    let until_end = follow(cluster, name, quiet);
    match timeout {
        None => until_end.await,
        Some(limit) => tokio::time::timeout(limit, until_end).await.unwrap_or_else(|_| {
            let limit = duration::format(limit);
            Err(Error::said(format!("ModelDeployment {name} was neither promoted nor rolled back within {limit}")))
        }),
    }
}

async fn follow(cluster: &Cluster, name: &str, quiet: bool) -> Result<ModelDeployment, Error> {
    let began = Timestamp::now();
    let mut told = String::new();
    let mut changes = pin!(watch_object(cluster.api::<ModelDeployment>(), name).default_backoff());
    while let Some(change) = changes.next().await {
        let found = match change {
            Ok(Some(found)) => found,
            Ok(None) => return Err(cluster.missing::<ModelDeployment>(name).await),
            Err(error) => {
                tell(name, error)?;
                continue;
            }
        };
        let line = show::rollout::line(&found);
        if !quiet && line != told {
            let gone = duration::format(duration::since(began, Timestamp::now()));
            output::line(&format!("{gone:>7}  {line}"))?;
            told = line;
        }
        if standing(&found).is_over() {
            return Ok(found);
        }
    }
    Err(Error::said(format!("the watch of ModelDeployment {name} has ended")))
}

/// A watch is made again by itself, unless the apiserver will not have it.
pub fn tell(name: &str, error: watcher::Error) -> Result<(), Error> {
    let refused = match &error {
        watcher::Error::InitialListFailed(cause) | watcher::Error::WatchStartFailed(cause) => {
            matches!(code(cause), Some(401 | 403 | 404))
        }
        _ => false,
    };
    let text = watch_words(&error);
    match error {
        watcher::Error::InitialListFailed(cause) | watcher::Error::WatchStartFailed(cause) if refused => {
            Err(Error::request("watch", name, cause))
        }
        _ => {
            output::warn(&format!("tries again: {text}"));
            Ok(())
        }
    }
}
