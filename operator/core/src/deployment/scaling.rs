//! How many pods the revisions of a ModelDeployment are to have.
//!
//! The number is in the status before it is written to the Deployment, so that what somebody else writes there is known as such. One such
//! write is wanted: a router that holds a request scales from 0 to 1 by itself.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::look::{WHOLE, stable};
use super::traffic::Traffic;
use super::{DeploymentView, Observed, chosen, queries};
use crate::api::{ModelDeployment, RolloutStrategy, ScaleMetric};
use crate::autoscale::{self, Blind, Config, Decision, Follow, Mode, State, Window, mode};
use crate::duration::{self, since};
use crate::plan::Apply;
use crate::run::Words;

/// An HPA looks at the last minutes.
const AFTERWARDS: Duration = Duration::from_mins(5);

/// What the promoted revision is to have.
pub(super) struct Scaling {
    pub mode: Mode,
    /// `None` where nobody here chooses, or nothing has the traffic.
    pub decision: Option<Decision>,
    /// What somebody wrote to the Deployment instead.
    pub foreign: Option<i32>,
    /// For how long it keeps more pods than it is to have.
    pub held: Option<Duration>,
    /// Nobody knows what the number is to follow.
    pub blind: Option<Blind>,
    /// The HorizontalPodAutoscaler's words, where it chooses.
    pub words: Option<(String, Words)>,
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
        let nothing = Self { mode, decision: None, foreign: None, held: None, blind: None, words: None };
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
                let held = held(deployment, now).filter(|_| view.wanted > replicas);
                let replicas = if held.is_some() { view.wanted } else { replicas };
                let nothing = Self { held, ..nothing };
                let why = format!("replicas is {replicas}: the number stays until replicas is taken out");
                let foreign =
                    Some(view.wanted).filter(|wanted| reached && written == Some(replicas) && *wanted != replicas);
                Self { decision: Some(Decision { replicas, why }), foreign, ..nothing }
            }
            Mode::Handed(config) => {
                let load = known(load);
                let idle = config.min == 0 && load.complete && load.idle >= config.to_zero_after;
                let decided = |replicas, why| Some(Decision { replicas, why });
                let decision = match (view.wanted, config.min) {
                    (0, 0) => decided(0, "no request: 0 pods".to_owned()),
                    // At zero a HorizontalPodAutoscaler does nothing.
                    (0, min) => decided(min, format!("min is {min}: {}", autoscale::pods(min))),
                    _ if idle => {
                        let after = duration::format(config.to_zero_after);
                        decided(0, format!("no request for {after}: 0 pods"))
                    }
                    _ => None,
                };
                Self { decision, ..nothing }
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
                let blind = load.and_then(|load| load.blind.clone());
                Self { decision: Some(decision), foreign, blind, ..nothing }
            }
        }
    }

    /// What is to be written to the Deployment of the promoted revision.
    pub fn write(&self, view: &DeploymentView) -> Option<Apply> {
        scale(view, self.decision.as_ref()?.replicas)
    }

    /// Pods of a revision that comes: this percent of those that the promoted one has, because it gets as much of the traffic; one at
    /// least, because none would show that it answers.
    pub fn coming(&self, stable: Option<&DeploymentView>, share: i32) -> i32 {
        let decided = self.decision.as_ref().map(|decision| decision.replicas);
        let now = decided.or(stable.map(|view| view.wanted));
        let all = match self.mode {
            Mode::Pinned(0) => return 0,
            Mode::Left => now.unwrap_or(1),
            Mode::Pinned(replicas) => now.unwrap_or(replicas),
            Mode::Chosen(Config { min, max, .. }) | Mode::Handed(Config { min, max, .. }) => {
                now.unwrap_or(0).clamp(min.max(1), max)
            }
        };
        share_of(all, share).max(1)
    }

    /// Whether a revision that comes may have fewer pods than it has: where nothing sets the number, somebody may have added some.
    pub fn may_shrink(&self) -> bool {
        self.mode != Mode::Left
    }
}

/// This percent of so many pods, rounded up.
pub(super) fn share_of(pods: i32, share: i32) -> i32 {
    let part = (i64::from(pods) * i64::from(share) + i64::from(WHOLE) - 1) / i64::from(WHOLE);
    i32::try_from(part).unwrap_or(i32::MAX)
}

/// For how long an HPA may take nothing away: it sees the pods of the promoted revision alone, and in a rollout as little load as they have
/// left. Afterwards it needs some time to see what came back to them.
fn held(deployment: &ModelDeployment, now: Timestamp) -> Option<Duration> {
    let external = deployment.spec.scale.as_ref().is_some_and(|scale| scale.metric == Some(ScaleMetric::External));
    let steps = deployment.spec.rollout.as_ref().is_some_and(|rollout| !rollout.steps.is_empty());
    let status = deployment.status.as_ref().filter(|_| external && steps)?;
    if super::exposed(status.rollout.as_ref()).is_some() {
        return Some(AFTERWARDS);
    }
    let ended = status.history.first().and_then(|record| record.time.as_ref()).filter(|_| status.history.len() > 1)?;
    AFTERWARDS.checked_sub(since(ended.0, now)).filter(|left| !left.is_zero())
}

/// Nothing where there are so many already.
pub(super) fn scale(view: &DeploymentView, replicas: i32) -> Option<Apply> {
    let other = !view.deleting && view.wanted != replicas;
    other.then(|| Apply::Scale { deployment: view.name.clone(), from: view.wanted, replicas })
}

/// Without reports there is no load that is known: nothing goes.
fn known(load: Option<&Window>) -> Window {
    load.cloned().unwrap_or_default()
}

/// The number that was chosen last, if this revision was promoted then.
fn written(deployment: &ModelDeployment, revision: &str) -> Option<i32> {
    desired(deployment).filter(|_| stable(deployment) == Some(revision))
}

/// Whether a revision without pods may be given the traffic: one that is to have none cannot show that it answers.
pub(super) fn may_be_empty(deployment: &ModelDeployment) -> bool {
    mode(deployment.spec.scale.as_ref()) == Mode::Pinned(0)
}

/// Whether the next request starts a pod where there is none.
pub(super) fn starts_from_zero(deployment: &ModelDeployment) -> bool {
    autoscale::starts_from_zero(deployment.spec.scale.as_ref())
}

/// The pods of one revision go before those of the next come.
pub(super) fn recreates(deployment: &ModelDeployment) -> bool {
    deployment.spec.rollout.as_ref().is_some_and(|rollout| rollout.strategy == RolloutStrategy::Recreate)
}

fn desired(deployment: &ModelDeployment) -> Option<i32> {
    deployment.status.as_ref()?.desired_replicas
}

/// The revision whose pods follow the load, and what is to be kept of what routers say.
#[must_use]
pub fn followed(deployment: &ModelDeployment) -> Option<(&str, Follow)> {
    let config = match mode(deployment.spec.scale.as_ref()) {
        Mode::Chosen(config) if config.min != config.max => config,
        // Only to know for how long there has been no request.
        Mode::Handed(config) if config.min == 0 => config,
        Mode::Left | Mode::Pinned(_) | Mode::Chosen(_) | Mode::Handed(_) => return None,
    };
    let lag = || super::stream(deployment).filter(|_| config.metric == ScaleMetric::QueueLag).map(|stream| stream.id);
    let query = queries::followed(deployment).map(|query| query.id).or_else(lag);
    Some((stable(deployment)?, Follow { metric: config.metric, percentile: config.percentile, query }))
}

/// The revisions whose requests are callers': a shadow's are copies. A canary's are counted with its copies, a few too many rather than too few.
pub fn counted(deployment: &ModelDeployment) -> impl Iterator<Item = &str> {
    let revisions = deployment.status.iter().flat_map(|status| &status.revisions);
    revisions.filter(|revision| revision.sample.is_none() || revision.weight > 0).map(|revision| revision.name.as_str())
}

/// The revision whose requests' time counts, where the number of pods follows that: how fast another one is says nothing of its pods.
pub fn timed(deployment: &ModelDeployment) -> impl Iterator<Item = &str> {
    stable(deployment).into_iter()
}

/// Whether routers are to be asked every second: at zero they start a pod by themselves.
#[must_use]
pub fn is_awake(deployment: &ModelDeployment) -> bool {
    followed(deployment).is_some() && desired(deployment) != Some(0)
}

/// Whether a pass would write another number of pods than there is, or that nobody knows how many there are to be.
#[must_use]
pub fn is_due(deployment: &ModelDeployment, view: &DeploymentView, load: &Window, now: Timestamp) -> bool {
    let scaling = Scaling::new(deployment, Some(view), Some(load), false, now);
    let before = desired(deployment);
    chosen::is_news(deployment, &scaling)
        || scaling
            .decision
            .as_ref()
            .is_some_and(|decision| decision.replicas != view.wanted || Some(decision.replicas) != before)
}

impl Observed {
    /// What the promoted revision is to have.
    pub(super) fn scaling(&self, deployment: &ModelDeployment, traffic: &Traffic, now: Timestamp) -> Scaling {
        let name = traffic.stable();
        let view = name.and_then(|name| super::plan::find(self, name));
        let view = view.filter(|view| view.owner == deployment.metadata.uid);
        let reached = name.and_then(|name| self.reached.get(name)).copied();
        let reached = reached.is_some() && reached == desired(deployment);
        let words = self.autoscaler.as_ref().filter(|there| there.owner == deployment.metadata.uid);
        let words = words.and_then(|there| there.active.clone());
        let scaling = Scaling { words, ..Scaling::new(deployment, view, self.load.as_ref(), reached, now) };
        if view.is_some() || !recreates(deployment) || matches!(scaling.mode, Mode::Pinned(_)) {
            return scaling;
        }
        // The one before may be gone when this one begins: as many as it had.
        let others = self.deployments.iter().filter(|view| view.owner == deployment.metadata.uid);
        let replicas = desired(deployment).or(others.map(|view| view.wanted).max()).unwrap_or(1);
        let why = "as many as the revision before".to_owned();
        Scaling { decision: Some(Decision { replicas, why }), ..scaling }
    }
}
