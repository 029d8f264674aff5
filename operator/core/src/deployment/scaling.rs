//! How many pods the revisions of a ModelDeployment are to have.
//!
//! The number is in the status before it is written to the Deployment, so that what somebody else writes there is known as such. One such
//! write is wanted: a router that holds a request scales from 0 to 1 by itself.

use k8s_openapi::jiff::Timestamp;

use super::traffic::Traffic;
use super::{DeploymentView, Observed};
use crate::api::{ModelDeployment, ScaleMetric};
use crate::autoscale::{self, Config, Decision, Mode, State, Window, mode};
use crate::plan::Apply;

/// What the revision that has the traffic is to have.
pub(super) struct Scaling {
    pub mode: Mode,
    /// `None` where nobody here chooses, or nothing has the traffic.
    pub decision: Option<Decision>,
    /// What somebody wrote to the Deployment instead.
    pub foreign: Option<i32>,
}

impl Scaling {
    /// `reached`: the Deployment had the number that was chosen last. Until then it is not somebody else's that it has.
    pub fn new(
        deployment: &ModelDeployment,
        view: Option<&DeploymentView>,
        load: Option<&Window>,
        reached: bool,
        now: Timestamp,
    ) -> Self {
        let mode = mode(deployment.spec.scale.as_ref());
        let nothing = Self { mode, decision: None, foreign: None };
        let Some(view) = view.filter(|view| !view.deleting) else { return nothing };
        let written = written(deployment, &view.name);
        match mode {
            Mode::Left => {
                // Millrace took its last pod away, and no router brings one back any more.
                let stranded = view.wanted == 0 && written.is_some_and(|written| written <= 1);
                let why =
                    || Decision { replicas: 1, why: "nothing in scale sets the number any more: 1 pod".to_owned() };
                let decision = (stranded && !starts_from_zero(deployment)).then(why);
                Self { decision, ..nothing }
            }
            Mode::Pinned(replicas) => {
                let why = format!("replicas is {replicas}: the number stays until replicas is taken out");
                let foreign =
                    Some(view.wanted).filter(|wanted| reached && written == Some(replicas) && *wanted != replicas);
                Self { decision: Some(Decision { replicas, why }), foreign, ..nothing }
            }
            Mode::Chosen(config) => {
                let woken = written == Some(0) && view.wanted > 0;
                let current = if woken { 1 } else { written.unwrap_or(view.wanted) };
                let mut decision = autoscale::decide(
                    &config,
                    &known(load),
                    State { replicas: current, available: view.available },
                    now,
                );
                if woken && decision.replicas == 1 {
                    "a request came at zero: 1 pod".clone_into(&mut decision.why);
                }
                let foreign = Some(view.wanted).filter(|wanted| reached && *wanted != current && written.is_some());
                Self { decision: Some(decision), foreign, ..nothing }
            }
        }
    }

    /// What is to be written to the Deployment that has the traffic.
    pub fn write(&self, view: &DeploymentView) -> Option<Apply> {
        let replicas = self.decision.as_ref()?.replicas;
        (!view.deleting && view.wanted != replicas).then(|| Apply::Scale {
            deployment: view.name.clone(),
            from: view.wanted,
            replicas,
        })
    }

    /// Pods of a revision that is to get the traffic: as many as there are of the one that has it, because it gets all of it; one at
    /// least, because none would show that it answers. `None` where the number is left as it is.
    pub fn coming(&self, served: Option<&DeploymentView>) -> Option<i32> {
        let now = served.map_or(0, |view| self.decision.as_ref().map_or(view.wanted, |decision| decision.replicas));
        match self.mode {
            Mode::Left => None,
            Mode::Pinned(replicas) => Some(replicas),
            Mode::Chosen(Config { min, max, .. }) => Some(now.clamp(min.max(1), max)),
        }
    }
}

/// Without reports there is no load that is known: nothing goes.
fn known(load: Option<&Window>) -> Window {
    load.cloned().unwrap_or_default()
}

/// The number that was chosen last, if this revision had the traffic then.
fn written(deployment: &ModelDeployment, revision: &str) -> Option<i32> {
    let status = deployment.status.as_ref()?;
    let had = status.revisions.iter().any(|known| known.name == revision && known.weight > 0);
    status.desired_replicas.filter(|_| had)
}

/// Whether a revision without pods may be given the traffic: one that is to have none cannot show that it answers.
pub(super) fn may_be_empty(deployment: &ModelDeployment) -> bool {
    mode(deployment.spec.scale.as_ref()) == Mode::Pinned(0)
}

/// Whether the next request starts a pod where there is none.
pub(super) fn starts_from_zero(deployment: &ModelDeployment) -> bool {
    autoscale::starts_from_zero(deployment.spec.scale.as_ref())
}

fn desired(deployment: &ModelDeployment) -> Option<i32> {
    deployment.status.as_ref()?.desired_replicas
}

/// The revision whose pods follow the load, and the metric: what is to be kept of what routers say.
#[must_use]
pub fn followed(deployment: &ModelDeployment) -> Option<(&str, ScaleMetric)> {
    let Mode::Chosen(config) = mode(deployment.spec.scale.as_ref()) else { return None };
    if config.min == config.max {
        return None;
    }
    let status = deployment.status.as_ref()?;
    let served = status.revisions.iter().find(|revision| revision.weight > 0)?;
    Some((&served.name, config.metric))
}

/// Whether routers are to be asked every second: at zero they start a pod by themselves.
#[must_use]
pub fn is_awake(deployment: &ModelDeployment) -> bool {
    followed(deployment).is_some() && desired(deployment) != Some(0)
}

/// Whether a pass would write another number of pods than there is.
#[must_use]
pub fn is_due(deployment: &ModelDeployment, view: &DeploymentView, load: &Window, now: Timestamp) -> bool {
    let scaling = Scaling::new(deployment, Some(view), Some(load), false, now);
    let before = desired(deployment);
    scaling.decision.is_some_and(|decision| decision.replicas != view.wanted || Some(decision.replicas) != before)
}

impl Observed {
    /// What the revision that has the traffic is to have.
    pub(super) fn scaling(&self, deployment: &ModelDeployment, traffic: &Traffic, now: Timestamp) -> Scaling {
        let name = traffic.target();
        let view = name.and_then(|name| super::plan::find(self, name));
        let view = view.filter(|view| view.owner == deployment.metadata.uid);
        let reached = name.and_then(|name| self.reached.get(name)).copied();
        let reached = reached.is_some() && reached == desired(deployment);
        Scaling::new(deployment, view, name.and_then(|name| self.loads.get(name)), reached, now)
    }
}
