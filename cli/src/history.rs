//! `history`: the finished runs of a pipeline that are recorded in its store, those that are deleted too.

use clap::Args;
use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::LogParams;
use millrace_contract::{SWEEP_ENV, SWEEP_RECORDS, SweepTask, TaskSource};
use millrace_core::api::{AgentImage, MLPipeline};
use millrace_core::pipeline::RunRecord;
use millrace_core::reader::{self as core_reader, From, MOUNT, Reader};
use millrace_core::{names, pod, store};
use serde_json::Value;

use crate::Answer;
use crate::connect::Cluster;
use crate::error::Error;
use crate::output::{self, Format};
use crate::reader::{self, Rights};
use crate::show;

/// More than the agent writes.
const BYTES: u64 = 16 * 1024 * 1024;
/// The pod ends after this, if nobody deletes it.
const SECONDS: i64 = 900;

/// List the finished runs of a pipeline that are in its archive, the newest first
#[derive(Args)]
pub struct History {
    #[arg(value_name = "PIPELINE")]
    name: String,
    /// So many at most
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=2000))]
    limit: u32,
    /// The agent's image for the pod that reads the store; default: the one that the pipeline noted, or runs of the namespace
    #[arg(long)]
    image: Option<String>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub async fn history(cluster: &Cluster, command: &History) -> Result<Answer, Error> {
    let pipeline = cluster.get::<MLPipeline>(&command.name).await?;
    let archive = pipeline.spec.history.as_ref().and_then(|history| history.archive.as_ref());
    if archive.is_none() && pipeline.status.as_ref().is_none_or(|status| status.archive.is_none()) {
        return Err(Error::said(format!(
            "the finished runs of pipeline {} are not recorded: write spec.history.archive, archive: {{}} is enough",
            command.name
        )));
    }
    let pod = reading(cluster, &pipeline, command).await?;
    let text =
        reader::with(cluster, pod, Rights::Logs, |api, pod| async move { said(cluster, &api, &pod).await }).await?;
    let lines = text.lines().filter(|line| !line.is_empty());
    match command.output {
        Format::Json => {
            let all: Result<Vec<Value>, _> =
                lines.map(|line| serde_json::from_str(line).map_err(|_| odd(line))).collect();
            output::json(&all?)?;
        }
        Format::Table => {
            let all: Result<Vec<RunRecord>, _> =
                lines.map(|line| serde_json::from_str(line).map_err(|_| odd(line))).collect();
            output::print(&show::history::runs(&all?, Timestamp::now()))?;
        }
    }
    Ok(Answer::Yes)
}

/// What the agent said instead of a record.
fn odd(line: &str) -> Error {
    Error::said(format!("the pod that reads the store says: {line}{}", reader::if_older(line)))
}

/// A pod that writes the records.
async fn reading(cluster: &Cluster, pipeline: &MLPipeline, command: &History) -> Result<Pod, Error> {
    // No run may be left.
    let noted = pipeline.status.as_ref().and_then(|status| status.archive.as_ref()?.agent.clone());
    let agent = match (noted, &command.image) {
        (Some(noted), None) => noted,
        (Some(noted), Some(image)) => AgentImage { image: image.clone(), ..noted },
        (None, asked) => reader::agent(cluster, None, asked.as_deref()).await?,
    };
    let uid = pipeline.metadata.uid.clone().unwrap_or_default();
    let folder = names::history_folder(&command.name, &uid);
    let place = pipeline.spec.store.as_ref();
    let place = place.ok_or_else(|| Error::said(format!("pipeline {} has no store", command.name)))?;
    let most = command.limit.to_string();
    let objects = store::objects(place, "");
    let below = format!("{folder}/{SWEEP_RECORDS}");
    let (arguments, from) = match &objects {
        None => {
            let from = From::Claim { claim: store::claim(place).unwrap_or_default(), folder: Some(&below) };
            (vec!["history".to_owned(), MOUNT.to_owned(), most], from)
        }
        Some(objects) => {
            let TaskSource { store, key } = objects.source();
            let source = TaskSource { store, key: key.trim_end_matches('/').to_owned() };
            let task = SweepTask { folder: folder.clone(), store: Some(source), ..SweepTask::default() };
            let told = serde_json::to_string(&task).map_err(std::io::Error::from)?;
            let account = pipeline.spec.defaults.as_ref().and_then(|usual| usual.service_account_name.as_deref());
            let from = From::Objects { secret: objects.secret(), account, told: (format!("{SWEEP_ENV}0"), told) };
            (vec!["history".to_owned(), most], from)
        }
    };
    Ok(core_reader::pod(Reader {
        prefix: "millrace-history-",
        agent: &agent,
        arguments,
        from,
        owner: reader::owner(pipeline),
        settings: None,
        seconds: SECONDS,
    }))
}

/// All that the pod writes. What it writes as it fails is no record.
async fn said(cluster: &Cluster, api: &Api<Pod>, pod: &str) -> Result<String, Error> {
    let parameters = LogParams { container: Some(pod::MAIN.to_owned()), follow: true, ..LogParams::default() };
    let failed = |error| Rights::Logs.failed(cluster, "read the log of", format!("pod {pod}"), error);
    let stream = Box::pin(api.log_stream(pod, &parameters).await.map_err(failed)?);
    let mut bytes = Vec::new();
    let read = stream.take(BYTES).read_to_end(&mut bytes).await;
    let broke_off = || Error::said(format!("the log of pod {pod} broke off"));
    if read.map_err(|_| broke_off())? as u64 >= BYTES {
        return Err(Error::said(format!("pod {pod} writes too much: write a smaller --limit")));
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let ended = reader::ended(api, pod).await;
    match ended.map_err(|error| Rights::Logs.failed(cluster, "read", format!("pod {pod}"), error))? {
        Some(0) => Ok(text),
        Some(code) => Err(unread(pod, code, &text)),
        None => Err(broke_off()),
    }
}

/// The store could not be read: what the agent said last.
fn unread(pod: &str, code: i32, text: &str) -> Error {
    let said = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing was said");
    Error::said(format!("pod {pod} could not read the store and ended with {code}: {said}{}", reader::if_older(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_pod_said_last_is_why_the_store_was_not_read() {
        let error = unread("h-1", 1, "first\nno rights in the bucket\n\n").to_string();
        assert!(error.contains("h-1") && error.ends_with("ended with 1: no rights in the bucket"), "{error}");
        assert!(unread("h-1", 1, "").to_string().ends_with("nothing was said"));
        assert!(unread("h-1", 1, "usage: millrace-agent").to_string().contains("older version"));
    }
}
