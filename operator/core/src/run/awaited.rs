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

/// Nothing if everything is there.
pub(super) fn missing(pass: &Pass<'_>, stages: &Stages) -> Option<Missing> {
    let there = &pass.observed.model_deployments;
    let (mut said, mut hints) = (Vec::new(), Vec::new());
    for name in graph::order(&pass.frozen.stages) {
        let over = stages.get(name).is_some_and(|status| status.state.ended());
        let Some(stage) = pass.frozen.stages.get(name).filter(|_| !over) else { continue };
        for wanted in named(stage).filter(|wanted| !there.contains_key(*wanted)) {
            said.push(format!("there is no ModelDeployment {wanted} yet: stage `{name}` will wait for it"));
            let hint = expr::did_you_mean(wanted, there.keys().map(String::as_str));
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
    }
    (!said.is_empty()).then(|| Missing { said: said.join("; "), hint: hints.join("; ") })
}

/// The ModelDeployments without which a stage cannot go on.
fn named(stage: &FrozenStage) -> impl Iterator<Item = &str> {
    let (deployed, inputs) = match &stage.kind {
        FrozenKind::Deploy(deploy) => (Some(deploy.model_deployment.as_str()), None),
        FrozenKind::Container(container) => (None, Some(container.inputs.values())),
        FrozenKind::Register(_) => (None, None),
    };
    let needed = inputs.into_iter().flatten().filter(|input| !input.optional);
    deployed.into_iter().chain(needed.filter_map(|input| input.deployed.as_deref()))
}
