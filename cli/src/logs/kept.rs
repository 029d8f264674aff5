//! Logs that are kept in the store, of pods that are gone.

use std::pin::Pin;

use futures::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use millrace_contract::{LogPart, WantedLog};
use millrace_core::api::{MLPipelineRun, Store, StoreAccess};
use millrace_core::names;
use millrace_core::reader::{self as core_reader, From, MOUNT, Reader};
use millrace_core::store::{self, Objects, Place};

use super::MAIN;
use crate::connect::Cluster;
use crate::error::Error;
use crate::reader::{self, Rights};
use crate::tree;

/// The pod ends after this, if nobody deletes it: a log is small, and ten thousand items have ten thousand.
const SECONDS: i64 = 1800;
/// No log is longer: one that says so is none.
const LONGEST: u64 = 64 * 1024 * 1024;

/// The folder of a run in its store; none if nothing of it is kept.
pub async fn place(cluster: &Cluster, run: &MLPipelineRun) -> Option<Place> {
    let folder = folder(run);
    if let Some(frozen) = tree::frozen(cluster, run).await {
        return of_store(&frozen.store?, folder);
    }
    // What it ran may be gone: then an output tells.
    let stages = run.status.iter().flat_map(|status| status.stages.values());
    let mut outputs = stages.flat_map(|stage| stage.outputs.values());
    outputs.find_map(|output| of_output(&output.uri, output.access.as_ref(), &folder))
}

fn folder(run: &MLPipelineRun) -> String {
    names::run_folder(run.metadata.name.as_deref().unwrap_or_default(), run.metadata.uid.as_deref().unwrap_or_default())
}

fn of_store(of_run: &Store, folder: String) -> Option<Place> {
    match store::claim(of_run) {
        Some(claim) => Some(Place::Claim { claim: claim.to_owned(), path: folder }),
        None => store::objects(of_run, &folder).map(Place::Objects),
    }
}

/// In a bucket the run's folder is below a prefix, which only an output of its own tells.
fn of_output(uri: &str, access: Option<&StoreAccess>, folder: &str) -> Option<Place> {
    match store::place(uri, access)? {
        Place::Claim { claim, path: _ } => Some(Place::Claim { claim, path: folder.to_owned() }),
        Place::Objects(objects) => {
            let below = format!("{folder}/");
            let at = objects.key.rmatch_indices(&below).map(|(at, _)| at);
            let at = at.into_iter().find(|at| *at == 0 || objects.key[..*at].ends_with('/'))?;
            let key = objects.key[..at + folder.len()].to_owned();
            Some(Place::Objects(Objects { key, ..objects }))
        }
    }
}

/// As people name it.
pub fn told(place: &Place) -> String {
    match place {
        Place::Claim { claim, .. } => format!("claim {claim}"),
        Place::Objects(objects) => objects.source().uri(),
    }
}

/// A pod that writes the wanted logs, in their order.
pub async fn pod(
    cluster: &Cluster,
    run: &MLPipelineRun,
    place: &Place,
    wanted: &[&WantedLog],
    item: Option<u32>,
    image: Option<&str>,
) -> Result<Pod, Error> {
    let agent = reader::agent(cluster, Some(run), image).await?;
    let account = match place {
        Place::Objects(objects) if objects.secret().is_none() => account(cluster, run, wanted).await,
        _ => None,
    };
    let (from, root) = match place {
        Place::Claim { claim, path } => (From::Claim { claim, folder: Some(path) }, MOUNT),
        Place::Objects(objects) => {
            let told = reader::told(objects, None)?;
            (From::Objects { secret: objects.secret(), account: account.as_deref(), told }, reader::STORED)
        }
    };
    let mut arguments = vec!["logs".to_owned(), root.to_owned()];
    arguments.extend(item.iter().flat_map(|item| ["--item".to_owned(), item.to_string()]));
    arguments.extend(wanted.iter().map(ToString::to_string));
    Ok(core_reader::pod(Reader {
        prefix: "millrace-logs-",
        agent: &agent,
        arguments,
        from,
        owner: reader::owner(run),
        settings: None,
        seconds: SECONDS,
    }))
}

/// Who may read the store where no Secret does: a stage that wrote there.
async fn account(cluster: &Cluster, run: &MLPipelineRun, wanted: &[&WantedLog]) -> Option<String> {
    let frozen = tree::frozen(cluster, run).await?;
    let of_stage = |log: &&WantedLog| reader::settings(&frozen, &log.stage)?.service_account_name;
    wanted.iter().find_map(of_stage)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_folder_of_a_run_is_found_in_its_store_or_by_an_output_of_its_own() {
        let folder = "runs/r-01234567";
        let store = |value| of_store(&serde_json::from_value(value).unwrap(), folder.to_owned()).map(|at| told(&at));
        assert_eq!(store(json!({ "pvc": { "claimName": "c" } })).as_deref(), Some("claim c"));
        let bucket = json!({ "s3": { "bucket": "b", "prefix": "runs/a" } });
        assert_eq!(store(bucket).as_deref(), Some("s3://b/runs/a/runs/r-01234567"));

        let output = |uri: &str| of_output(uri, None, folder).map(|at| told(&at));
        assert_eq!(output("pvc://c/runs/other-1/train/attempts/1/outputs/m").as_deref(), Some("claim c"));
        for (uri, found) in [
            ("s3://b/runs/a/runs/r-01234567/train/outputs/m/ab", Some("s3://b/runs/a/runs/r-01234567")),
            ("gs://b/runs/r-01234567/train/outputs/m/ab", Some("gs://b/runs/r-01234567")),
            // Taken from the cache: another run's.
            ("s3://b/runs/r-76543210/train/outputs/m/ab", None),
            ("s3://b/xruns/r-01234567/train/outputs/m/ab", None),
        ] {
            assert_eq!(output(uri).as_deref(), found, "{uri}");
        }
    }
}
