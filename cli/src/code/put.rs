//! The archive on its way into a store: by a pod of the agent's, made in the namespace and with the rights of the person who starts the run.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::AttachParams;
use kube::{Api, ResourceExt};
use millrace_contract::{CODE_ENV, Keep, TaskSource};
use millrace_core::api::{AgentImage, MLPipelineRun, RunCode, Store};
use millrace_core::reader::{self as core_reader, From, MOUNT, Reader};
use millrace_core::store::{self, Place};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::connect::Cluster;
use crate::error::Error;
use crate::reader::{self, Rights};

/// What it may take, besides a second for each MiB.
const SECONDS: u64 = 300;
/// How long the operator is waited for, to say which image the agent's is.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(200);
/// Bytes on their way.
const BUFFER: usize = 1024 * 1024;
/// So much of what the agent says in an error is read.
const SAID: u64 = 4096;
/// The archive's name in its folder.
const ARCHIVE: &str = "files.tar";

/// Puts it there, and says whether it had to.
pub async fn put(
    cluster: &Cluster,
    run: &MLPipelineRun,
    place: &Store,
    code: &RunCode,
    bytes: &[u8],
) -> Result<bool, Error> {
    let (run, agent) = noted(cluster, &run.name_any()).await?;
    let place = store::code(place, &code.digest).ok_or_else(super::no_store)?;
    let told = |source: Option<TaskSource>| {
        let path = format!("{MOUNT}/{ARCHIVE}");
        let keep = Keep { source, path, digest: code.digest.clone(), size: code.size };
        serde_json::to_string(&keep).map(|text| (CODE_ENV.to_owned(), text)).map_err(std::io::Error::from)
    };
    let from = match &place {
        Place::Claim { claim, path } => From::Into { claim, folder: path, told: told(None)? },
        Place::Objects(objects) => {
            From::Objects { secret: objects.secret(), account: None, told: told(Some(objects.source()))? }
        }
    };
    let pod = core_reader::pod(Reader {
        prefix: "millrace-code-",
        agent: &agent,
        arguments: vec!["wait".to_owned()],
        from,
        owner: reader::owner(&run),
        settings: None,
        seconds: i64::try_from(SECONDS + code.size / (1024 * 1024)).unwrap_or(i64::MAX),
    });
    reader::with(cluster, pod, Rights::Exec, |api, pod| async move { send(cluster, &api, &pod, bytes).await }).await
}

/// The run once the operator has seen it, and the image that it noted.
async fn noted(cluster: &Cluster, name: &str) -> Result<(MLPipelineRun, AgentImage), Error> {
    let since = Instant::now();
    loop {
        let run = cluster.get::<MLPipelineRun>(name).await?;
        if let Some(agent) = run.status.as_ref().and_then(|status| status.agent.clone()) {
            return Ok((run, agent));
        }
        if since.elapsed() > PATIENCE {
            return Err(Error::said(format!(
                "nobody has taken up run {name} for {} s: is the operator there?",
                PATIENCE.as_secs()
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Asks the agent whether it wants the bytes, and sends them if it does.
async fn send(cluster: &Cluster, api: &Api<Pod>, pod: &str, bytes: &[u8]) -> Result<bool, Error> {
    let parameters = AttachParams::default()
        .container(millrace_core::pod::MAIN)
        .stdin(true)
        .stdout(true)
        .stderr(true)
        .max_stdin_buf_size(BUFFER);
    let attached = api.exec(pod, ["/millrace-agent", "keep"], &parameters).await;
    let mut attached =
        attached.map_err(|error| Rights::Exec.failed(cluster, "write in", format!("pod {pod}"), error))?;
    let silent = || Error::said(format!("pod {pod} says nothing"));
    let (out, errors) = (attached.stdout().ok_or_else(silent)?, attached.stderr());
    let mut input = attached.stdin().ok_or_else(silent)?;
    let mut out = BufReader::new(out);
    let mut word = String::new();
    let heard = out.read_line(&mut word).await.is_ok();
    let word_kept = match word.trim() {
        "there" if heard => return Ok(false),
        "want" if heard => {
            // What breaks here is told by the agent.
            let sent = input.write_all(bytes).await.is_ok() && input.flush().await.is_ok();
            word.clear();
            sent && out.read_line(&mut word).await.is_ok() && word.trim() == "kept"
        }
        _ => false,
    };
    if word_kept {
        return Ok(true);
    }
    let mut said = Vec::new();
    if let Some(errors) = errors {
        let _ = errors.take(SAID).read_to_end(&mut said).await;
    }
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    Err(Error::said(format!("the code is not in the store: pod {pod} says: {said}{}", reader::if_older(&said))))
}

/// Below the folders that stand for claims on this machine.
pub fn here(claims: &Path, store: &Store, code: &RunCode, bytes: &[u8]) -> Result<(), Error> {
    let Some(Place::Claim { claim, path }) = store::code(store, &code.digest) else { return Err(super::no_store()) };
    let folder = claims.join(claim).join(path);
    let to = folder.join(ARCHIVE);
    let failed = |source| Error::Write { path: to.display().to_string(), source };
    // The same bytes, not only as many: one that was damaged is written anew.
    if fs::metadata(&to).is_ok_and(|found| found.len() == code.size) && fs::read(&to).is_ok_and(|found| found == bytes)
    {
        return Ok(());
    }
    fs::create_dir_all(&folder).map_err(failed)?;
    let half = folder.join(format!(".half-{}", std::process::id()));
    fs::write(&half, bytes).and_then(|()| fs::rename(&half, &to)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_was_damaged_is_written_anew() {
        let claims = tempfile::tempdir().unwrap();
        let store: Store = serde_json::from_value(serde_json::json!({ "pvc": { "claimName": "c" } })).unwrap();
        let code = RunCode { digest: "sha256:ab".to_owned(), size: 3, ..RunCode::default() };
        let to = claims.path().join("c/code/ab").join(ARCHIVE);
        for there in [None, Some("odd"), Some("one")] {
            if let Some(bytes) = there {
                fs::write(&to, bytes).unwrap();
            }
            here(claims.path(), &store, &code, b"one").unwrap();
            assert_eq!(fs::read(&to).unwrap(), b"one", "{there:?}");
        }
    }
}
