//! Which model the spec asks for, and what it takes to serve it: out of a ModelVersion, or out of `spec.model` itself.

use std::collections::BTreeMap;

use super::origin::{self, Origin};
use super::revision::Intent;
use super::{Observed, Version, live};
use crate::access;
use crate::api::{DeployedModel, ModelDeployment, ModelVersion, ServedArtifact};
use crate::model_version::is_called_right;
use crate::problem::{self, Problem};
use crate::store;

/// What the model server reads.
const FORMAT: &str = "onnx";

pub(super) struct AskedModel {
    pub version: Version,
    pub origin: Origin,
    pub digest: String,
    /// Bytes, where somebody has said them.
    pub size: Option<u64>,
}

/// Finds it, or says why there is none.
pub(super) fn asked_model(deployment: &ModelDeployment, observed: &Observed) -> Result<AskedModel, Intent> {
    let DeployedModel { name, version, uri, format, digest, access, cache: _ } = &deployment.spec.model;
    let Some(name) = name else {
        let artifact =
            ServedArtifact { uri: uri.clone().unwrap_or_default(), digest: digest.clone().unwrap_or_default() };
        let Some(origin) = origin::origin(&artifact.uri, format.as_deref().unwrap_or_default(), access.as_ref()) else {
            return Err(Intent::Invalid(check(deployment)));
        };
        let digest = artifact.digest.clone();
        return Ok(AskedModel { version: Version::Unregistered(artifact), origin, digest, size: None });
    };
    let Some(number) = version.or_else(|| promoted(deployment)) else { return Err(Intent::NoVersion) };
    let registered: BTreeMap<i64, &ModelVersion> = observed
        .model_versions
        .iter()
        .filter(|candidate| candidate.spec.model == *name && is_called_right(candidate))
        .map(|candidate| (candidate.spec.version, candidate.as_ref()))
        .collect();
    let Some(found) = registered.get(&number) else {
        if version.is_none() {
            return Err(Intent::NoVersion);
        }
        return Err(Intent::Unknown(unknown(name, number, &registered)));
    };
    let invalid = |reason, message| Intent::Invalid(vec![Problem::new("spec.model.version", reason, message)]);
    if is_own_server(deployment) && found.spec.format != FORMAT {
        let message = format!(
            "ModelVersion {name}-v{number} has the format \"{}\", and the model server reads \"{FORMAT}\": register a version of that format, or name another server in spec.server.container",
            found.spec.format
        );
        return Err(invalid("UnsupportedFormat", message));
    }
    let artifact = &found.spec.artifact;
    // Fields of `access` that have no effect are told by the ModelVersion: it cannot be changed, and may be served already.
    let Some(place) = store::place(&artifact.uri, artifact.access.as_ref()) else {
        let faults = access::of_model(&artifact.uri, artifact.access.as_ref(), "spec.artifact");
        let message = format!(
            "ModelVersion {name}-v{number} cannot be served: {}. Register another version",
            problem::brief(&faults)
        );
        return Err(invalid("InvalidArtifact", message));
    };
    Ok(AskedModel {
        version: Version::Registered(number),
        origin: place.into(),
        digest: artifact.digest.clone(),
        size: Some(artifact.size),
    })
}

fn is_own_server(deployment: &ModelDeployment) -> bool {
    deployment.spec.server.as_ref().is_none_or(|server| server.container.is_none())
}

/// The version of the promoted revision: without one in the spec it stays, and what else is written of it is carried out. The status says it: the
/// revision's Deployment may be gone, or not made yet.
fn promoted(deployment: &ModelDeployment) -> Option<i64> {
    let status = deployment.status.as_ref()?;
    let is_of_model = status.served_model == deployment.spec.model.name;
    live::promoted_version(status).filter(|_| is_of_model)
}

fn unknown(model: &str, version: i64, registered: &BTreeMap<i64, &ModelVersion>) -> String {
    // The newest say most; a model may have thousands.
    let known: Vec<String> = registered.keys().rev().take(10).map(ToString::to_string).collect();
    if known.is_empty() {
        format!(
            "spec.model.version is {version}, but model \"{model}\" has no version: a pipeline's register stage makes one"
        )
    } else {
        format!(
            "spec.model.version is {version}, but model \"{model}\" has no such version; registered are: {}. Set one of these",
            known.join(", ")
        )
    }
}

/// What no schema can see of a model that the spec has by its address.
pub(super) fn check(deployment: &ModelDeployment) -> Vec<Problem> {
    let DeployedModel { name: _, version: _, uri, format, digest: _, access, cache: _ } = &deployment.spec.model;
    let Some(uri) = uri else { return Vec::new() };
    let own = is_own_server(deployment);
    let format = format.as_deref().unwrap_or_default();
    let mut problems = origin::check(uri, format, access.as_ref(), own);
    if own && format != FORMAT {
        let message = format!(
            "the model server reads \"{FORMAT}\", and no \"{format}\": convert the model, or name another server in spec.server.container"
        );
        problems.push(Problem::new("spec.model.format", "UnsupportedFormat", message));
    }
    let analyses = deployment.spec.rollout.iter().flat_map(|rollout| &rollout.analysis);
    problems.extend(analyses.filter(|(_, analysis)| analysis.live.is_some()).map(|(name, _)| {
        let message = "reports are of registered versions, and spec.model.uri names none: register the model and write spec.model.name, or judge by metric or prometheus";
        Problem::new(format!("spec.rollout.analysis.{name}.live"), "NoReports", message)
    }));
    problems
}
