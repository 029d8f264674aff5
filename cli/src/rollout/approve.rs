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
    /// Take the field over from whoever owns it
    #[arg(long)]
    force_conflicts: bool,
}

pub async fn approve(cluster: &Cluster, command: &Approve) -> Result<Answer, Error> {
    let found = cluster.get::<ModelDeployment>(&command.name).await?;
    let rollout = under_way(&found, &command.name).map_err(Error::Said)?;
    let step = step(rollout, command.step).map_err(Error::Said)?;
    say(cluster, &found, &spec(rollout, RolloutAction::Approve, Some(step)), command.force_conflicts).await?;
    let waited = rollout.paused.as_ref().map_or("it does not wait for anybody yet", |_| "it goes on");
    output::line(&format!("{}: step {step} of {} is approved: {waited}", command.name, what(rollout)))?;
    end(cluster, &command.name, command.watch).await
}

/// The step that is approved, or why none can be.
fn step(rollout: &RolloutStatus, asked: Option<i32>) -> Result<i32, String> {
    if let Some(rejected) = &rollout.rejected {
        return Err(format!(
            "{} was given up ({}): {}. `rollout promote` takes it nevertheless; to try it again from its first step, ask for the promoted \
             version and then for it",
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
        assert_eq!((step(&at(1), None), step(&at(1), Some(2)), step(&at(0), Some(1))), (Ok(1), Ok(2), Ok(1)));
        assert!(step(&at(1), Some(3)).unwrap_err().contains("one of 1 to 2"));
        assert!(step(&at(0), None).unwrap_err().contains("at no step yet"));
        let mark = RolloutMark { reason: "AnalysisFailed".into(), message: "too slow".into(), time: None };
        let rejected = RolloutStatus { rejected: Some(mark), ..at(1) };
        assert!(step(&rejected, None).unwrap_err().contains("given up (AnalysisFailed): too slow"));
    }
}
