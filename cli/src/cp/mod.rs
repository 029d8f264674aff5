//! `cp`: an artifact out of a run's store to this machine.

mod place;
mod receive;
mod source;

use std::path::PathBuf;

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use millrace_core::reader::{self as core_reader, From, MOUNT, Reader};
use millrace_core::store::Place as At;
use millrace_files::digest;
use tokio::io::AsyncReadExt;

use crate::connect::Cluster;
use crate::error::Error;
use crate::reader::{self, Rights};
use crate::{Answer, output};
use place::Place;
use source::Source;
pub use source::{Asked, output_of};

/// What a copy may take, besides a second for each MiB.
const SECONDS: u64 = 600;
/// Bytes on their way.
const BUFFER: usize = 1024 * 1024;
/// So much of what the agent says in an error is read.
const SAID: u64 = 4096;

/// Copy an artifact to this machine, and check its digest
#[derive(Args)]
pub struct Cp {
    /// RUN/STAGE.OUTPUT, or MODEL@VERSION
    from: String,
    /// The file or folder that is made
    to: PathBuf,
    /// In the place of what is there
    #[arg(long)]
    force: bool,
    /// The agent's image for the pod that reads the store; default: the one that the run noted
    #[arg(long)]
    image: Option<String>,
}

pub async fn cp(cluster: &Cluster, command: &Cp) -> Result<Answer, Error> {
    let asked = command.from.parse::<Asked>().map_err(Error::Said)?;
    let source = source::find(cluster, &asked).await?;
    let place = Place::claim(&command.to, command.force)?;
    let agent = reader::agent(cluster, source.run.as_ref(), command.image.as_deref()).await?;
    let (from, path) = reached(&source)?;
    let pod = core_reader::pod(Reader {
        prefix: "millrace-cp-",
        agent: &agent,
        arguments: vec!["wait".to_owned()],
        from,
        owner: source.owner.clone(),
        settings: source.settings.as_ref(),
        seconds: i64::try_from(SECONDS + source.size / (1024 * 1024)).unwrap_or(i64::MAX),
    });
    let (from, to) = (&source, &place);
    reader::with(
        cluster,
        pod,
        Rights::Exec,
        |api, pod| async move { copy(cluster, &api, &pod, &path, from, to).await },
    )
    .await?;
    place.put()?;
    output::line(&format!("{} is copied to {}", command.from, command.to.display()))?;
    Ok(Answer::Yes)
}

/// How the pod gets at the artifact, and what the agent in it is told to send: a path, or what it is told of in a store of objects.
fn reached(source: &Source) -> Result<(From<'_>, String), Error> {
    match &source.at {
        At::Claim { claim, path } => {
            let (folder, below) = mounted(path);
            let path = if below.is_empty() { MOUNT.to_owned() } else { format!("{MOUNT}/{below}") };
            Ok((From::Claim { claim, folder }, path))
        }
        At::Objects(objects) => {
            let account = source.settings.as_ref().and_then(|settings| settings.service_account_name.as_deref());
            let told = reader::told(objects, Some(source.size))?;
            Ok((From::Objects { secret: objects.secret(), account, told }, reader::STORED.to_owned()))
        }
    }
}

/// Streams the files into the temporary place, and checks there that they are what they should be.
async fn copy(
    cluster: &Cluster,
    api: &Api<Pod>,
    pod: &str,
    path: &str,
    source: &Source,
    place: &Place,
) -> Result<(), Error> {
    let parameters = AttachParams::default()
        .container(millrace_core::pod::MAIN)
        .stdin(false)
        .stdout(true)
        .stderr(true)
        .max_stdout_buf_size(BUFFER);
    let command = ["/millrace-agent", "send", path];
    let attached = api.exec(pod, command, &parameters).await;
    let mut attached =
        attached.map_err(|error| Rights::Exec.failed(cluster, "read in", format!("pod {pod}"), error))?;
    let errors = attached.stderr();
    let said = async {
        let mut text = Vec::new();
        if let Some(errors) = errors {
            let _ = errors.take(SAID).read_to_end(&mut text).await;
        }
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    let bytes = attached.stdout().ok_or_else(|| Error::said(format!("pod {pod} writes nothing")))?;
    let copy = place.copy();
    let (received, said) = tokio::join!(receive::files(bytes, &copy, source.size), said);
    if !said.is_empty() {
        return Err(Error::said(format!("pod {pod} says: {said}{}", reader::if_older(&said))));
    }
    received?;
    checked(place, source)
}

/// What is on this disk is what the status says.
fn checked(place: &Place, source: &Source) -> Result<(), Error> {
    let found = digest::artifact(&place.copy(), &|| false).map_err(|error| Error::said(error.to_string()))?;
    if found.digest != source.digest {
        return Err(Error::said(format!(
            "what came is not what {} says: its digest is {}, and not {} (it has {} bytes, and should have {}); nothing is copied",
            source.said_by, found.digest, source.digest, found.size, source.size
        )));
    }
    Ok(())
}

/// The folder that the pod sees, and the path below it. A folder that is not there would be made by mounting it: so it is the run's, or the one
/// above the artifact.
fn mounted(path: &str) -> (Option<&str>, &str) {
    let depth =
        if path.starts_with("runs/") { path.match_indices('/').nth(1) } else { path.rmatch_indices('/').next() };
    depth.map_or((None, path), |(at, _)| (Some(&path[..at]), &path[at + 1..]))
}

/// Bytes as people read them.
pub fn binary(bytes: u64) -> String {
    let unit = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")].into_iter().find(|(unit, _)| bytes >= *unit);
    unit.map_or_else(|| format!("{bytes} bytes"), |(unit, name)| format!("{:.1} {name}B", bytes as f64 / unit as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_sees_the_folder_of_the_run() {
        let path = "runs/r-12345678/train/attempts/1/outputs/model";
        assert_eq!(mounted(path), (Some("runs/r-12345678"), "train/attempts/1/outputs/model"));
        assert_eq!(mounted("models/mine/v1"), (Some("models/mine"), "v1"));
        assert_eq!(mounted("model"), (None, "model"));
    }

    #[test]
    fn sizes_are_told_as_people_read_them() {
        assert_eq!([binary(5), binary(2048), binary(3 << 29)], ["5 bytes", "2.0 KiB", "1.5 GiB"]);
    }
}
