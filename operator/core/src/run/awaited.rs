//! ModelDeployments that a stage will need and that are not there: said while the run begins, long before the stage waits.

use super::graph;
use super::pass::{Pass, Stages, clip};
use crate::expr;
use crate::pipeline::{FrozenKind, FrozenStage};

/// What will be waited for.
pub(super) struct Missing {
    said: String,
    /// What there is instead.
    hint: String,
}

impl Missing {
    pub fn message(&self) -> String {
        clip(&format!("{} ({})", self.said, self.hint))
    }

    /// The message says that the same is missing. What there is instead may have changed: that is no news.
    pub fn is_said_by(&self, message: &str) -> bool {
        message.starts_with(&format!("{} (", self.said)) || message == self.message()
    }
}

/// A list of hints has no bound of its own.
const LONGEST_HINT: usize = 600;
/// So many are named; the rest is counted, so that the message has room for all that makes it news.
const NAMED: usize = 5;

/// Nothing if everything is there.
pub(super) fn missing(pass: &Pass<'_>, stages: &Stages) -> Option<Missing> {
    let there = &pass.observed.model_deployments;
    let (mut said, mut hints, mut more) = (Vec::new(), Vec::new(), 0);
    for name in graph::order(&pass.frozen.stages) {
        let over = stages.get(name).is_some_and(|status| status.state.ended());
        let Some(stage) = pass.frozen.stages.get(name).filter(|_| !over) else { continue };
        for wanted in named(stage).filter(|wanted| !there.contains_key(*wanted)) {
            if said.len() == NAMED {
                more += 1;
                continue;
            }
            said.push(format!("there is no ModelDeployment {wanted} yet: stage `{name}` will wait for it"));
            let hint = expr::did_you_mean(wanted, there.keys().map(String::as_str));
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
    }
    if more > 0 {
        said.push(format!("and {more} more"));
    }
    let hint = crate::clip::clip(&hints.join("; "), LONGEST_HINT);
    (!said.is_empty()).then(|| Missing { said: said.join("; "), hint })
}

/// What a stage says while it waits for a ModelDeployment that is not there. Only what is meant is named, not what there is: that
/// changes with each that is added, and would be a write each time.
pub(super) fn absent(pass: &Pass<'_>, wanted: &str) -> String {
    let there = pass.observed.model_deployments.keys().map(String::as_str);
    let remedy = match expr::nearest(wanted, there) {
        Some(meant) => format!("did you mean {meant}? Then correct the pipeline and start a new run"),
        None => "apply one".to_owned(),
    };
    format!("there is no ModelDeployment {wanted}: {remedy}")
}

/// The ModelDeployments without which a stage cannot go on.
fn named(stage: &FrozenStage) -> impl Iterator<Item = &str> {
    let deployed = match &stage.kind {
        FrozenKind::Deploy(deploy) => Some(deploy.model_deployment.as_str()),
        FrozenKind::Report(report) => Some(report.model_deployment.as_str()),
        FrozenKind::Container(_) | FrozenKind::Pipeline(_) | FrozenKind::Approve(_) | FrozenKind::Register(_) => None,
    };
    let needed = stage.inputs().map(|(_, input)| input).filter(|input| !input.optional);
    deployed.into_iter().chain(needed.filter_map(|input| input.deployed.as_deref()))
}
