//! Logs that are kept in the store, of pods that are gone.

use std::pin::Pin;

use futures::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use millrace_contract::{LogPart, WantedLog};
use millrace_core::api::MLPipelineRun;
use millrace_core::names;
use millrace_core::reader::{self as core_reader, From, MOUNT, Reader};

use super::MAIN;
use crate::connect::Cluster;
use crate::error::Error;
use crate::reader::{self, Rights};
use crate::tree;

/// The pod ends after this, if nobody deletes it: a log is small, and ten thousand items have ten thousand.
const SECONDS: i64 = 1800;
/// No log is longer: one that says so is none.
const LONGEST: u64 = 64 * 1024 * 1024;

/// The claim with a run's store; none if nothing of it is kept.
pub async fn claim(cluster: &Cluster, run: &MLPipelineRun) -> Option<String> {
    if let Some(frozen) = tree::frozen(cluster, run).await {
        return frozen.store?.pvc.map(|claim| claim.claim_name);
    }
    // What it ran may be gone: then an output tells.
    let stages = run.status.iter().flat_map(|status| status.stages.values());
    let mut outputs = stages.flat_map(|stage| stage.outputs.values());
    outputs.find_map(|output| names::claim_and_path(&output.uri)).map(|(claim, _)| claim.to_owned())
}

/// A pod that writes the wanted logs, in their order.
pub async fn pod(
    cluster: &Cluster,
    run: &MLPipelineRun,
    claim: &str,
    wanted: &[&WantedLog],
    item: Option<u32>,
    image: Option<&str>,
) -> Result<Pod, Error> {
    let agent = reader::agent(cluster, Some(run), image).await?;
    let name = run.metadata.name.clone().unwrap_or_default();
    let folder = names::run_folder(&name, run.metadata.uid.as_deref().unwrap_or_default());
    let mut arguments = vec!["logs".to_owned(), MOUNT.to_owned()];
    arguments.extend(item.iter().flat_map(|item| ["--item".to_owned(), item.to_string()]));
    arguments.extend(wanted.iter().map(ToString::to_string));
    Ok(core_reader::pod(Reader {
        prefix: "millrace-logs-",
        agent: &agent,
        arguments,
        from: From::Claim { claim, folder: Some(&folder) },
        owner: reader::owner(run),
        settings: None,
        seconds: SECONDS,
    }))
}

/// What such a pod writes.
pub struct Kept {
    pod: String,
    stream: Pin<Box<dyn AsyncBufRead>>,
    /// Whose log comes next.
    next: Option<LogPart>,
}

impl Kept {
    pub async fn open(cluster: &Cluster, api: &Api<Pod>, pod: String) -> Result<Self, Error> {
        // Followed, and from its beginning: the node may cut a log that is long.
        let parameters = LogParams { container: Some(MAIN.to_owned()), follow: true, ..LogParams::default() };
        let stream = api.log_stream(&pod, &parameters).await;
        let stream =
            stream.map_err(|error| Rights::Logs.failed(cluster, "read the log of", format!("pod {pod}"), error))?;
        Ok(Self { pod, stream: Box::pin(stream), next: None })
    }

    /// The next log, if it is one that is wanted.
    pub async fn next_of(&mut self, wanted: &WantedLog) -> Result<Option<(LogPart, Vec<u8>)>, Error> {
        if self.next.is_none() {
            self.next = self.head().await?;
        }
        let mine = |part: &mut LogPart| {
            part.stage == wanted.stage && wanted.attempt.is_none_or(|attempt| attempt == part.attempt)
        };
        let Some(part) = self.next.take_if(mine) else { return Ok(None) };
        let mut text = vec![0; usize::try_from(part.bytes).unwrap_or_default()];
        self.stream.read_exact(&mut text).await.map_err(|_| self.broke_off())?;
        Ok(Some((part, text)))
    }

    fn broke_off(&self) -> Error {
        Error::said(format!("the log of pod {} broke off", self.pod))
    }

    async fn head(&mut self) -> Result<Option<LogPart>, Error> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line).await.map_err(|_| self.broke_off())?;
        if read == 0 {
            return Ok(None);
        }
        let part = serde_json::from_slice::<LogPart>(&line).ok().filter(|part| part.bytes <= LONGEST);
        part.map(Some).ok_or_else(|| {
            let said = String::from_utf8_lossy(&line).trim_end().to_owned();
            Error::said(format!("pod {} says: {said}{}", self.pod, reader::if_older(&said)))
        })
    }
}
