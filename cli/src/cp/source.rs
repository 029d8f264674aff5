//! What is to be copied: an output of a stage, or the artifact of a ModelVersion.

use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use millrace_core::api::{MLPipelineRun, ModelVersion, OutputStatus, PodSettings, StoreAccess};
use millrace_core::store::{self, Place};
use millrace_core::{expr, names};

use crate::connect::Cluster;
use crate::error::Error;
use crate::{output, reader, tree};

/// As a person writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Output { run: String, stage: String, output: String },
    Version { name: String },
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} names no artifact: write RUN/STAGE.OUTPUT, or MODEL@VERSION such as penguins@3");
        if let Some((model, version)) = text.split_once('@') {
            let number = version.strip_prefix('v').unwrap_or(version).parse::<i64>().map_err(|_| wrong())?;
            return Ok(Self::Version { name: names::model_version(model, number) });
        }
        let (run, rest) = text.split_once('/').ok_or_else(wrong)?;
        if matches!(run, "mlv" | "modelversion" | "modelversions") {
            return Ok(Self::Version { name: rest.to_owned() });
        }
        let (stage, output) = rest.split_once('.').ok_or_else(wrong)?;
        let whole = ![run, stage, output].iter().any(|part| part.is_empty());
        let asked = || Self::Output { run: run.to_owned(), stage: stage.to_owned(), output: output.to_owned() };
        whole.then(asked).ok_or_else(wrong)
    }
}

/// Where it lies, and what it should be.
#[derive(Debug)]
pub struct Source {
    pub at: Place,
    pub digest: String,
    pub size: u64,
    /// Who says so.
    pub said_by: String,
    /// The run that made it, if it is there.
    pub run: Option<MLPipelineRun>,
    /// With it the pod goes.
    pub owner: OwnerReference,
    /// Of the stage that made it.
    pub settings: Option<PodSettings>,
}

pub async fn find(cluster: &Cluster, asked: &Asked) -> Result<Source, Error> {
    match asked {
        Asked::Output { run, stage, output } => of_run(cluster, run, stage, output).await,
        Asked::Version { name } => of_version(cluster, name).await,
    }
}

/// What a stage of a run made, as its status says.
pub fn output_of<'a>(run: &'a MLPipelineRun, stage: &str, output: &str) -> Result<&'a OutputStatus, Error> {
    let name = run.name_any();
    let stages = run.status.as_ref().map(|status| &status.stages);
    let Some(status) = stages.and_then(|stages| stages.get(stage)) else {
        let hint = expr::did_you_mean(stage, stages.into_iter().flatten().map(|(name, _)| name.as_str()));
        return Err(Error::said(format!("run {name} has no stage {stage}: {hint}")));
    };
    let Some(found) = status.outputs.get(output) else {
        let state = format!("stage {stage} of run {name} is {:?}", status.state);
        let hint = if status.outputs.is_empty() {
            format!("{state} and has no outputs")
        } else {
            expr::did_you_mean(output, status.outputs.keys().map(String::as_str))
        };
        return Err(Error::said(format!("stage {stage} of run {name} has no output {output}: {hint}")));
    };
    Ok(found)
}

async fn of_run(cluster: &Cluster, name: &str, stage: &str, output: &str) -> Result<Source, Error> {
    let run = cluster.get::<MLPipelineRun>(name).await?;
    let found = output_of(&run, stage, output)?;
    let at = place(&found.uri, found.access.as_ref())?;
    let frozen = tree::frozen(cluster, &run).await;
    Ok(Source {
        at,
        digest: found.digest.clone(),
        size: found.size,
        said_by: format!("the status of run {name}"),
        owner: reader::owner(&run),
        settings: frozen.and_then(|frozen| reader::settings(&frozen, stage)),
        run: Some(run),
    })
}

async fn of_version(cluster: &Cluster, name: &str) -> Result<Source, Error> {
    let version = cluster.get::<ModelVersion>(name).await?;
    let artifact = &version.spec.artifact;
    let at = place(&artifact.uri, artifact.access.as_ref())?;
    // The run may be gone, or another of its name may be there.
    let lineage = version.spec.lineage.as_ref();
    let run = match lineage {
        Some(lineage) => cluster.api::<MLPipelineRun>().get_opt(&lineage.run).await.ok().flatten(),
        None => None,
    };
    let of = lineage.and_then(|lineage| lineage.run_uid.as_deref());
    if lineage.is_some() && of.is_none() {
        output::warn(&format!(
            "note: the lineage of ModelVersion {name} has no runUid, as of one that a person wrote: its run is not looked for, and its store is \
             read by the default service account"
        ));
    }
    let run = run.filter(|run| of.is_some() && run.uid().as_deref() == of);
    let frozen = match &run {
        Some(run) => tree::frozen(cluster, run).await,
        None => None,
    };
    let settings = frozen.zip(lineage).and_then(|(frozen, lineage)| reader::settings(&frozen, &lineage.stage));
    Ok(Source {
        at,
        digest: artifact.digest.clone(),
        size: artifact.size,
        said_by: format!("ModelVersion {name}"),
        owner: reader::owner(&version),
        settings,
        run,
    })
}

fn place(uri: &str, access: Option<&StoreAccess>) -> Result<Place, Error> {
    let found = store::place(uri, access);
    found.ok_or_else(|| {
        let hint = if uri.starts_with("az://") { "; of az:// its access has to name the account" } else { "" };
        Error::said(format!("{uri} is no address in a store that can be read: {}{hint}", store::ADDRESSES))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_an_output_or_a_version() {
        let output = |run: &str, stage: &str, output: &str| {
            Ok(Asked::Output { run: run.into(), stage: stage.into(), output: output.into() })
        };
        let version = |name: &str| Ok(Asked::Version { name: name.into() });
        assert_eq!("r.1/train.model".parse(), output("r.1", "train", "model"));
        assert_eq!("penguins@3".parse(), version("penguins-v3"));
        assert_eq!("penguins@v3".parse(), version("penguins-v3"));
        assert_eq!("mlv/penguins-v3".parse(), version("penguins-v3"));
        for text in ["r", "r/train", "r/.model", "/a.b", "m@x", ""] {
            assert!(text.parse::<Asked>().unwrap_err().contains("write RUN/STAGE.OUTPUT"), "{text}");
        }
    }

    #[test]
    fn artifacts_of_every_store_are_found_by_their_address() {
        let access = StoreAccess { account: Some("lake".into()), ..StoreAccess::default() };
        assert!(matches!(place("pvc://c/runs/r/a", None), Ok(Place::Claim { claim, .. }) if claim == "c"));
        for uri in ["s3://b/runs/r/a", "gs://b/runs/r/a", "az://b/runs/r/a"] {
            let found = place(uri, Some(&access)).unwrap();
            assert!(matches!(found, Place::Objects(objects) if objects.source().uri() == uri), "{uri}");
        }
        let refused = |uri: &str| place(uri, None).unwrap_err().to_string();
        assert!(refused("az://b/runs/r/a").ends_with("has to name the account"));
        assert!(refused("ftp://b/a").contains("s3://<bucket>/<path>"));
    }
}
