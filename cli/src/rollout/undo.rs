//! `rollout undo`: the version that was promoted before. It is set as a pipeline's `deploy` stage sets it, under the same field manager: the next
//! `deploy` stage may set it again, and what somebody else owns, Git above all, stays theirs.

use clap::Args;
use millrace_core::api::{ModelDeployment, ModelVersion, RolloutOutcome, ServedArtifact};
use millrace_core::names::{self, DEPLOY_MANAGER};
use serde_json::json;

use super::control::end;
use crate::Answer;
use crate::connect::Cluster;
use crate::error::Error;
use crate::{output, patch};

/// Go back to the version that was promoted before
#[derive(Args)]
pub struct Undo {
    #[arg(value_name = "MODELDEPLOYMENT")]
    pub name: String,
    /// To this version
    #[arg(long, value_name = "N")]
    pub to_version: Option<i64>,
    /// Wait until it was promoted or rolled back
    #[arg(short, long)]
    pub watch: bool,
    /// Take the field over from whoever owns it; what a person set with kubectl is taken over anyway
    #[arg(long)]
    pub force_conflicts: bool,
}

pub async fn undo(cluster: &Cluster, command: &Undo) -> Result<Answer, Error> {
    let found = cluster.get::<ModelDeployment>(&command.name).await?;
    let model = registered(&found, &command.name).map_err(Error::Said)?;
    let version = target(&found, &command.name, command.to_version).map_err(Error::Said)?;
    // The operator would wait for one that is not there.
    cluster.get::<ModelVersion>(&names::model_version(model, version)).await?;
    let spec = json!({ "model": { "version": version } });
    patch::own(cluster, &found, DEPLOY_MANAGER, "spec.model.version", &spec, command.force_conflicts).await?;
    let before = found.spec.model.version.map_or_else(|| "no version".to_owned(), |asked| format!("version {asked}"));
    output::line(&format!("{}: from {before} to version {version}", command.name))?;
    end(cluster, &command.name, command.watch).await
}

/// The model of which there are versions. Where there is none, uri and digest are of who wrote them, and there is no field that could be set
/// beside them.
fn registered<'a>(deployment: &'a ModelDeployment, name: &str) -> Result<&'a str, String> {
    let model = &deployment.spec.model;
    if let Some(registered) = &model.name {
        return Ok(registered);
    }
    let history = deployment.status.iter().flat_map(|status| &status.history);
    let promoted = history.filter(|record| record.outcome == RolloutOutcome::Promoted);
    let mut others = promoted.filter_map(|record| record.artifact.as_ref());
    let before = match others.find(|artifact| Some(&artifact.digest) != model.digest.as_ref()) {
        Some(ServedArtifact { uri, digest }) => format!("uri: {uri} and digest: {digest}, which was promoted before"),
        None => "the uri and digest to go back to; none but the present one was promoted".to_owned(),
    };
    Err(format!(
        "ModelDeployment {name} has no versions, its spec.model.uri says which model it serves: write there {before}"
    ))
}

/// The version to go back to: the newest that was promoted and is not the one that is asked for now.
fn target(deployment: &ModelDeployment, name: &str, to: Option<i64>) -> Result<i64, String> {
    let asked = deployment.spec.model.version;
    if let Some(version) = to {
        if asked == Some(version) {
            return Err(format!("ModelDeployment {name} asks for version {version} already"));
        }
        return Ok(version);
    }
    let history = deployment.status.iter().flat_map(|status| &status.history);
    let promoted =
        history.filter(|record| record.outcome == RolloutOutcome::Promoted).filter_map(|record| record.version);
    let mut others = promoted.filter(|version| Some(*version) != asked);
    others.next().ok_or_else(|| {
        let asked = asked.map_or_else(String::new, |asked| format!(" but version {asked}"));
        format!("no version{asked} of ModelDeployment {name} was promoted: write --to-version")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn deployment(asked: i64, history: &[(i64, &str)]) -> ModelDeployment {
        let records: Vec<Value> = history
            .iter()
            .map(|(version, outcome)| json!({ "revision": "r", "version": version, "outcome": outcome }))
            .collect();
        serde_json::from_value(json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "m" },
            "spec": { "model": { "name": "m", "version": asked } }, "status": { "history": records },
        }))
        .unwrap()
    }

    #[test]
    fn it_is_the_newest_promoted_version_that_is_not_asked_for() {
        // Promoted: back to the one before. In the middle of a rollout, or after one was rolled back: back to what serves.
        assert_eq!(target(&deployment(2, &[(2, "Promoted"), (1, "Promoted")]), "m", None), Ok(1));
        assert_eq!(target(&deployment(3, &[(2, "Promoted"), (1, "Promoted")]), "m", None), Ok(2));
        assert_eq!(target(&deployment(3, &[(3, "RolledBack"), (2, "Promoted"), (1, "Promoted")]), "m", None), Ok(2));
        // The same version with other settings is not a way back.
        assert_eq!(target(&deployment(2, &[(2, "Promoted"), (2, "Promoted"), (1, "Promoted")]), "m", None), Ok(1));
    }

    #[test]
    fn a_model_that_is_not_registered_is_put_back_by_who_wrote_it() {
        let at =
            |hex: &str| json!({ "uri": format!("s3://lake/{hex}"), "digest": format!("sha256:{}", hex.repeat(64)) });
        let record = |hex: &str, outcome: &str| json!({ "revision": "r", "artifact": at(hex), "outcome": outcome });
        let mut found = deployment(1, &[]);
        found.spec.model = serde_json::from_value(at("c")).unwrap();
        let mut said = |history: Value| {
            found.status = serde_json::from_value(json!({ "history": history })).unwrap();
            registered(&found, "m").unwrap_err()
        };
        let told = said(json!([record("c", "Promoted"), record("b", "RolledBack"), record("a", "Promoted")]));
        let digest = format!("sha256:{}", "a".repeat(64));
        assert!(told.contains(&format!("uri: s3://lake/a and digest: {digest}, which was promoted before")), "{told}");
        assert!(said(json!([record("c", "Promoted")])).contains("none but the present one"));
        assert_eq!(registered(&deployment(1, &[]), "m"), Ok("m"));
    }

    #[test]
    fn without_a_version_to_go_back_to_it_says_what_to_write() {
        let said = target(&deployment(1, &[(1, "Promoted"), (7, "Aborted")]), "m", None).unwrap_err();
        assert_eq!(said, "no version but version 1 of ModelDeployment m was promoted: write --to-version");
        assert_eq!(target(&deployment(1, &[]), "m", Some(3)), Ok(3));
        assert!(target(&deployment(1, &[]), "m", Some(1)).unwrap_err().contains("already"));
    }
}
