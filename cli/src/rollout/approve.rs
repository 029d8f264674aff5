//! `rollout approve`.

use clap::Args;
use millrace_core::api::{ModelDeployment, RolloutAction, RolloutStatus};

use super::control::{end, say, spec, under_way, what};
use crate::Answer;
use crate::connect::Cluster;
use crate::error::Error;
use crate::output;

/// Let a step that waits for a person go on
#[derive(Args)]
pub struct Approve {
    #[arg(value_name = "MODELDEPLOYMENT")]
    name: String,
    /// This step and those before it; default: the step that it is at
    #[arg(long)]
    step: Option<i32>,
    /// Wait until it was promoted or rolled back
    #[arg(short, long)]
    watch: bool,
    /// Take the field over from whoever owns it; what a person set with kubectl is taken over anyway
    #[arg(long)]
    force_conflicts: bool,
}

pub async fn approve(cluster: &Cluster, command: &Approve) -> Result<Answer, Error> {
    let found = cluster.get::<ModelDeployment>(&command.name).await?;
    let rollout = under_way(&found, &command.name).map_err(Error::Said)?;
    let again = again(&found, rollout, &cluster.options);
    let step = step(rollout, command.step, &again).map_err(Error::Said)?;
    say(cluster, &found, &spec(rollout, RolloutAction::Approve, Some(step)), command.force_conflicts).await?;
    let waited = rollout.paused.as_ref().map_or("it does not wait for anybody yet", |_| "it goes on");
    output::line(&format!("{}: step {step} of {} is approved: {waited}", command.name, what(rollout)))?;
    end(cluster, &command.name, command.watch).await
}

/// How a revision that was given up is tried again. What is said of it in `spec.control` would hold again: an abort would end it at once.
fn again(deployment: &ModelDeployment, rollout: &RolloutStatus, options: &str) -> String {
    let ask = "ask for the promoted version and then for it";
    if deployment.spec.control.as_ref().is_none_or(|control| control.revision != rollout.revision) {
        return ask.to_owned();
    }
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let patch = r#"'{"spec":{"control":null}}'"#;
    format!("first take out spec.control (kubectl patch mld {name}{options} --type=merge -p {patch}), then {ask}")
}

/// The step that is approved, or why none can be.
fn step(rollout: &RolloutStatus, asked: Option<i32>, again: &str) -> Result<i32, String> {
    if let Some(rejected) = &rollout.rejected {
        return Err(format!(
            "{} was given up ({}): {}. `rollout promote` takes it nevertheless; to try it again from its first step, {again}",
            what(rollout),
            rejected.reason,
            rejected.message
        ));
    }
    match asked {
        Some(step) if (1..=rollout.steps).contains(&step) => Ok(step),
        Some(step) => Err(format!("there is no step {step}: write one of 1 to {}", rollout.steps)),
        None if rollout.step >= 1 => Ok(rollout.step),
        None => Err(format!(
            "{} is at no step yet: its pods do not answer. Write --step to approve one before it begins",
            what(rollout)
        )),
    }
}

#[cfg(test)]
mod tests {
    use millrace_core::api::RolloutMark;

    use super::*;

    #[test]
    fn the_step_that_it_is_at_is_approved_unless_another_is_named() {
        let at = |step: i32| RolloutStatus { revision: "r".into(), step, steps: 2, ..RolloutStatus::default() };
        assert_eq!(
            (step(&at(1), None, ""), step(&at(1), Some(2), ""), step(&at(0), Some(1), "")),
            (Ok(1), Ok(2), Ok(1))
        );
        assert!(step(&at(1), Some(3), "").unwrap_err().contains("one of 1 to 2"));
        assert!(step(&at(0), None, "").unwrap_err().contains("at no step yet"));
        let mark = RolloutMark { reason: "AnalysisFailed".into(), message: "too slow".into(), time: None };
        let rejected = RolloutStatus { rejected: Some(mark), ..at(1) };
        let said = step(&rejected, None, "wait").unwrap_err();
        assert!(said.contains("given up (AnalysisFailed): too slow") && said.ends_with("first step, wait"), "{said}");
    }

    #[test]
    fn what_was_said_of_it_is_taken_out_before_it_is_tried_again() {
        let rollout = RolloutStatus { revision: "m-2".into(), ..RolloutStatus::default() };
        let of = |revision: &str| {
            let control = serde_json::json!({ "revision": revision, "action": "Abort" });
            let spec = serde_json::json!({ "model": { "name": "m" }, "control": control });
            again(&ModelDeployment::new("m", serde_json::from_value(spec).unwrap()), &rollout, " -n team")
        };
        assert_eq!(
            of("m-2"),
            "first take out spec.control (kubectl patch mld m -n team --type=merge -p '{\"spec\":{\"control\":null}}'), \
             then ask for the promoted version and then for it"
        );
        assert_eq!(of("m-1"), "ask for the promoted version and then for it", "said of another");
    }
}
