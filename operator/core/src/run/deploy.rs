//! A stage that sets the version that a ModelDeployment serves, and waits until it is served.
//!
//! A pipeline never goes back: where a newer version is set already, by a later run or a person, the stage fails as
//! `Superseded`, because what it was to bring about will not be.

use std::time::Duration;

use super::attempt::fail;
use super::pass::{Effects, Pass, Stages, clip};
use super::{awaited, deadline, register};
use crate::api::{Condition, Deploy, ModelDeployment, StageState, StageStatus, WaitFor};
use crate::deployment::SCALED_TO_ZERO;
use crate::duration;
use crate::pipeline::FrozenKind;
use crate::plan::{Apply, FIELD_OWNED};

const DEFAULT_TIMEOUT: Duration = Duration::from_hours(1);
const PAUSE: Duration = Duration::from_secs(15);

/// One step.
pub(super) fn step(
    pass: &Pass<'_>,
    name: &str,
    deploy: &Deploy,
    old: &StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    let mut status = old.clone();
    let started = status.start_time.get_or_insert(pass.time()).clone();
    let (model, version_name, version) = match wanted(pass, deploy, stages) {
        Ok(wanted) => wanted,
        Err(message) => return fail(pass, name, status, "VersionNotFound", &message, effects),
    };
    let mut status = match look(pass, deploy, &model, &version_name, version, status, effects) {
        Ok(status) => status,
        Err((reason, message, status)) => return fail(pass, name, *status, &reason, &message, effects),
    };
    if status.state == StageState::Succeeded {
        return status;
    }
    let timeout = deploy.timeout.as_deref().and_then(duration::parse).unwrap_or(DEFAULT_TIMEOUT);
    let said = status.message.take().map(|message| deadline::without(&message, Some(&started), timeout));
    let Some(left) = pass.left(Some(&started), timeout) else {
        let why = format!("{}: {}", status.reason.as_deref().unwrap_or(""), said.unwrap_or_default());
        let message = format!("waited for {}: {why}", duration::format(timeout));
        return fail(pass, name, status, "DeployTimeout", &message, effects);
    };
    effects.again(left);
    status.message = said.map(|said| clip(&deadline::with(&said, Some(&started), timeout)));
    status
}

/// Model, name and number of the version that the `register` stage made.
fn wanted(pass: &Pass<'_>, deploy: &Deploy, stages: &Stages) -> Result<(String, String, i64), String> {
    let model = match pass.frozen.stages.get(&deploy.version).map(|stage| &stage.kind) {
        Some(FrozenKind::Register(register)) => &register.model,
        Some(
            FrozenKind::Container(_)
            | FrozenKind::Pipeline(_)
            | FrozenKind::Approve(_)
            | FrozenKind::Deploy(_)
            | FrozenKind::Report(_),
        )
        | None => {
            return Err(format!("`{}` is no stage that registers a model", deploy.version));
        }
    };
    let name = stages.get(&deploy.version).and_then(|status| status.model_version.as_ref());
    let name = name.ok_or_else(|| format!("stage `{}` registered no version", deploy.version))?;
    let version = register::number(model, name).ok_or_else(|| format!("`{name}` is no version of {model}"))?;
    Ok((model.clone(), name.clone(), version))
}

type Failed = (String, String, Box<StageStatus>);

fn look(
    pass: &Pass<'_>,
    deploy: &Deploy,
    model: &str,
    version_name: &str,
    version: i64,
    mut status: StageStatus,
    effects: &mut Effects,
) -> Result<StageStatus, Failed> {
    let target = &deploy.model_deployment;
    let failed =
        |reason: &str, message: String, status: StageStatus| Err((reason.to_owned(), message, Box::new(status)));
    let Some(found) = pass.observed.model_deployments.get(target) else {
        status.state = StageState::Pending;
        status.reason = Some("ModelDeploymentNotFound".to_owned());
        status.message = Some(awaited::absent(pass, target));
        return Ok(status);
    };
    let of = found.spec.model.name.as_deref();
    if of != Some(model) {
        let what = match of {
            Some(other) => format!("serves the model `{other}`, but version {version_name} is of `{model}`"),
            None => "serves what its spec.model.uri names, and no version can be set beside that".to_owned(),
        };
        let message = format!(
            "ModelDeployment {target} {what}: set spec.model.name of {target} to {model}, or name another ModelDeployment"
        );
        return failed("WrongModel", message, status);
    }
    let set = found.spec.model.version;
    let was_set = status.model_version.is_some();
    if set != Some(version) && (was_set || set.is_some_and(|set| set > version)) {
        let set = set.map_or_else(|| "no version".to_owned(), |set| format!("version {set}"));
        let message = format!("spec.model.version of ModelDeployment {target} is {set} now, not {version}");
        return failed("Superseded", message, status);
    }
    status.state = StageState::Running;
    if set == Some(version) {
        status.model_version = Some(version_name.to_owned());
        return match (deploy.wait, serves(found, version)) {
            (WaitFor::Accepted, _) | (WaitFor::Promoted, Serving::Yes) => {
                status.state = StageState::Succeeded;
                status.completion_time = Some(pass.time());
                status.reason = None;
                status.message = None;
                Ok(status)
            }
            (WaitFor::Promoted, Serving::NotYet(reason, message)) => {
                status.reason = Some(reason);
                status.message = Some(clip(&message));
                Ok(status)
            }
            (WaitFor::Promoted, Serving::Never(reason, message)) => failed(&reason, message, status),
        };
    }
    if let Some(refusal) = pass.refusal("ModelDeployment", target) {
        if refusal.reason == FIELD_OWNED {
            let message = format!(
                "spec.model.version of ModelDeployment {target} belongs to somebody else: {}. Leave it out of what \
                 they apply, or take it out by hand, and it is the pipeline's: kubectl patch modeldeployment {target} \
                 --type merge -p '{{\"spec\":{{\"model\":{{\"version\":null}}}}}}'",
                refusal.message
            );
            return failed("FieldOwned", message, status);
        }
        status.reason = Some(refusal.reason.clone());
        status.message = Some(clip(&refusal.message));
        effects.again(PAUSE);
        return Ok(status);
    }
    effects.apply.push(Apply::DeployVersion { model_deployment: target.clone(), version });
    Ok(status)
}

#[derive(Debug, PartialEq, Eq)]
enum Serving {
    Yes,
    NotYet(String, String),
    Never(String, String),
}

/// Whether the version is served, as the ModelDeployment says of the spec that it has now.
fn serves(found: &ModelDeployment, version: i64) -> Serving {
    let generation = found.metadata.generation;
    let condition = |kind: &str| -> Option<&Condition> {
        let conditions = found.status.as_ref().map(|status| &status.conditions);
        conditions.into_iter().flatten().find(|c| c.type_ == kind && c.observed_generation == generation)
    };
    let ready = condition("Ready");
    let served = found.status.as_ref().and_then(|status| status.served_version);
    // Where nobody wants a pod there is nothing more to wait for.
    let unwanted = ready.is_some_and(|c| c.reason == SCALED_TO_ZERO)
        && condition("Reconciling").is_some_and(|c| c.status == "False");
    if served == Some(version) && (unwanted || ready.is_some_and(|c| c.status == "True")) {
        return Serving::Yes;
    }
    if let Some(stalled) = condition("Stalled").filter(|c| c.status == "True") {
        return Serving::Never(stalled.reason.clone(), stalled.message.clone());
    }
    match ready {
        Some(ready) if ready.status != "True" => Serving::NotYet(ready.reason.clone(), ready.message.clone()),
        _ => Serving::NotYet("WaitingForPromotion".to_owned(), format!("version {version} is not served yet")),
    }
}

#[cfg(test)]
#[path = "deploy_tests.rs"]
mod tests;
