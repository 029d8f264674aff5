//! How far a rollout goes in one pass.
//!
//! ```text
//! step 0: its pods come ─► step 1 … n: [pods for the step] ─► weight ─► in force at every router ─► hold, analyses, approval ─► promoted
//!    ▲                          │ none of its pods answers any more                                  │ failed, aborted
//!    └──────────────────────────┘                                                                    └─► rejected: it goes, and stays out
//! ```
//! The step is in the status before a router hears of its weight. Everything else follows from the status, the spec and what is there.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::live::Live;
use super::look::{Look, WHOLE, complete, knowing};
use super::revision::Revision;
use super::steps::{self, Step, steps};
use super::{Version, monitoring, words};
use crate::analysis::{self, Measured};
use crate::api::{
    Analysis, AnalysisMetric, AnalysisStatus, OnRolloutFailure, RolloutAction, RolloutControl, RolloutMark,
    RolloutOutcome, RolloutRecord, RolloutStatus, RolloutStrategy, Verdict,
};
use crate::duration::{self, since};
use crate::plan::{Event, sooner};

/// Figures in the status are at most so old, while they change.
const REFRESH: Duration = Duration::from_secs(15);

/// What is to be.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// The revision that is promoted.
    pub stable: Option<String>,
    pub candidate: Option<Candidate>,
    pub rollout: Option<RolloutStatus>,
    /// What was promoted or given up now.
    pub records: Vec<RolloutRecord>,
    pub events: Vec<Event>,
    /// Reason and message, where a rollout is under way or was rejected.
    pub says: Option<(&'static str, String)>,
    pub requeue: Option<Duration>,
}

/// The revision that comes.
#[derive(Debug)]
pub(super) struct Candidate {
    pub name: String,
    pub weight: i32,
    pub sample: Option<f64>,
    /// Percent of the promoted revision's pods that it is to have.
    pub share: i32,
}

/// Decides. `revision` is what the spec asks for, `None` if that is nothing that can be run.
pub(super) fn turn(look: &Look<'_>, revision: Option<&Revision>) -> Turn {
    let stable = look.stable();
    let mut turn = Turn { stable: stable.map(str::to_owned), ..Turn::default() };
    let old = look.rollout();
    let under_way = old.filter(|old| old.rejected.is_none());
    let mut superseded = |other: &RolloutStatus, why: String| {
        let outcome = RolloutOutcome::Superseded;
        let version = Version::of(other.version, other.artifact.as_ref());
        turn.records.push(record(look, version.as_ref(), &other.revision, outcome, Some(why)));
    };
    let Some(revision) = revision else {
        if let Some(other) = under_way {
            superseded(other, "what was asked for after it cannot be run".to_owned());
        }
        turn.rollout = old.filter(|old| old.rejected.is_some()).cloned();
        return turn;
    };
    if let Some(other) = under_way.filter(|old| old.revision != revision.name) {
        superseded(other, format!("version {} was asked for", revision.version));
    }
    if stable == Some(revision.name.as_str()) {
        return turn;
    }
    let rollout = look.asked_for();
    let old = old.filter(|old| old.revision == revision.name);
    let coming = Coming { look, revision, steps: steps(rollout), turn };
    let Some(stable) = stable else { return coming.at_once() };
    if look.find(stable).is_none() && !coming.recreates() {
        // Nothing is left to fall back to.
        return if look.answers(&revision.name) { coming.promote() } else { coming.at_once() };
    }
    let rejected = old.is_some_and(|old| old.rejected.is_some());
    match coming.action() {
        Some(RolloutAction::Abort) => coming.decide(old),
        None | Some(RolloutAction::Approve) if rejected => coming.decide(old),
        _ if coming.recreates() => coming.promote(),
        _ if coming.takes_no_steps(old) => coming.at_once(),
        _ => coming.decide(old),
    }
}

fn record(
    look: &Look<'_>,
    version: Option<&Version>,
    revision: &str,
    outcome: RolloutOutcome,
    message: Option<String>,
) -> RolloutRecord {
    RolloutRecord {
        revision: revision.to_owned(),
        version: version.and_then(Version::number),
        artifact: version.and_then(Version::artifact).cloned(),
        outcome,
        time: Some(Time(look.now)),
        message,
    }
}

/// A revision that is not promoted yet.
struct Coming<'a> {
    look: &'a Look<'a>,
    revision: &'a Revision,
    steps: Vec<Step>,
    turn: Turn,
}

impl Coming<'_> {
    fn name(&self) -> &str {
        &self.revision.name
    }

    fn recreates(&self) -> bool {
        self.look.asked_for().is_some_and(|rollout| rollout.strategy == RolloutStrategy::Recreate)
    }

    /// There are none, nobody is served, or it was promoted before and still stands by.
    fn takes_no_steps(&self, old: Option<&RolloutStatus>) -> bool {
        let look = self.look;
        let warm = || look.find(self.name()).is_some() && look.was_promoted(self.name());
        self.steps.is_empty() || old.is_none() && (look.may_be_empty() || warm())
    }

    fn control(&self) -> Option<&RolloutControl> {
        let control = self.look.control()?;
        (control.revision == self.revision.name).then_some(control)
    }

    /// What a person says of this very revision.
    fn action(&self) -> Option<RolloutAction> {
        Some(self.control()?.action)
    }

    fn approves(&self, step: i32) -> bool {
        let control = self.control().filter(|control| control.action == RolloutAction::Approve);
        control.and_then(|control| control.step).is_some_and(|to| to >= step)
    }

    /// The step of this number, from 1.
    fn step(&self, at: usize) -> Option<&Step> {
        self.steps.get(at.checked_sub(1)?)
    }

    fn come(&mut self, weight: i32, sample: Option<f64>, share: i32) {
        self.turn.candidate = Some(Candidate { name: self.revision.name.clone(), weight, sample, share });
    }

    fn promote(mut self) -> Turn {
        let Self { look, revision, .. } = self;
        self.turn.stable = Some(revision.name.clone());
        self.turn.records.push(record(look, Some(&revision.version), self.name(), RolloutOutcome::Promoted, None));
        self.turn
    }

    /// Everything as soon as all its pods answer.
    fn at_once(mut self) -> Turn {
        if self.look.is_up(self.name(), WHOLE) {
            return self.promote();
        }
        self.come(0, None, WHOLE);
        self.turn
    }

    fn decide(mut self, old: Option<&RolloutStatus>) -> Turn {
        let look = self.look;
        let new = || RolloutStatus { revision: self.revision.name.clone(), ..RolloutStatus::default() };
        let mut status = old.cloned().unwrap_or_else(new);
        status.version = self.revision.version.number();
        status.artifact = self.revision.version.artifact().cloned();
        status.steps = i32::try_from(self.steps.len()).unwrap_or(i32::MAX);
        let at = usize::try_from(status.step).unwrap_or_default().min(self.steps.len());
        status.step = i32::try_from(at).unwrap_or_default();
        let answers = look.answers(self.name());
        match self.action() {
            Some(RolloutAction::Promote) if look.is_up(self.name(), WHOLE) => return self.promote(),
            Some(RolloutAction::Promote) => {
                let at = if answers && status.rejected.is_none() { at } else { 0 };
                (status.rejected, status.paused) = (None, None);
                status.step = i32::try_from(at).unwrap_or_default();
                let lacks = self.lacks(WHOLE);
                let message =
                    format!("version {} is promoted when all its pods answer; {lacks}", self.revision.version);
                return self.stay(status, at, WHOLE, ("RollingOut", message));
            }
            Some(RolloutAction::Abort) if status.rejected.is_none() => {
                return self.reject(status, ABORTED, "spec.control says so".to_owned());
            }
            Some(RolloutAction::Abort | RolloutAction::Approve) | None => {}
        }
        if let Some(mark) = &status.rejected {
            self.turn.says = Some((rejected_reason(mark), rejected(&status, mark, look)));
            self.turn.rollout = Some(status);
            return self.turn;
        }
        if look.may_be_empty() {
            let message = format!("version {} waits with its steps: replicas is 0", self.revision.version);
            return self.stay(before_the_first(&status), 0, WHOLE, ("RollingOut", message));
        }
        if at > 0 && !answers {
            return self.restart(&status);
        }
        if at > 0 {
            return self.judge(status, at);
        }
        match status.paused.clone() {
            Some(mark) if !self.approves(1) => self.pause(status, 0, &mark.reason, &mark.message),
            _ => {
                status.paused = None;
                self.enter(status, 0)
            }
        }
    }

    /// None of its pods answers any more.
    fn restart(mut self, status: &RolloutStatus) -> Turn {
        let new = before_the_first(status);
        if new.restarts >= MOST_RESTARTS {
            let message = format!("none of its pods answered any more, for the {}th time{}", new.restarts, self.said());
            return self.fails(new, 0, "PodsFailed", message);
        }
        let message = format!(
            "no pod of revision {} answers any more: it has no requests until they do, and begins with the first step again{}",
            self.name(),
            self.said()
        );
        self.turn.events.push(Event::warning("RolloutRestarted", &message));
        self.enter(new, 0)
    }

    /// In a step that has begun.
    fn judge(mut self, mut status: RolloutStatus, at: usize) -> Turn {
        let (look, step) = (self.look, self.steps[at - 1].clone());
        let head = self.head(at);
        let shown = look.known(self.name()).map_or((0, None), |known| (known.weight, known.sample));
        if shown != (step.weight, step.sample) {
            // Somebody has changed the step.
            if look.is_up(self.name(), step.share) {
                (status.step_start_time, status.analysis, status.measured) = (None, Vec::new(), None);
                return self.stay(status, at, step.share, ("RollingOut", format!("{head}; routers take it")));
            }
            let message = format!("version {} gets another share; {}", self.revision.version, self.lacks(step.share));
            let mut turn = self.stay(status, at, step.share, ("RollingOut", message));
            turn.show(shown);
            return turn;
        }
        if status.step_start_time.is_none()
            && let Some(lacks) = look.not_in_force(self.name())
        {
            return self.stay(status, at, step.share, ("RollingOut", format!("{head}; {lacks}")));
        }
        let began = status.step_start_time.get_or_insert(Time(look.now)).clone();
        let analyses = steps::analyses(look.asked_for(), status.step);
        let measured = look.observed.measured.as_ref().filter(|measured| self.is_of(measured, &status));
        let rows = monitoring::rows(look.owner, look.observed.candidate_drift.as_ref());
        let judged = analysis::verdicts(&analyses, &status.analysis, measured, Live::of(look.owner), &rows);
        refresh(&mut status, judged.clone(), look);
        let approved = self.approves(status.step);
        let waited = since(began.0, look.now);
        if let Some((reason, failed)) = bad(&judged).filter(|_| !(approved && self.may_pause())) {
            return self.fails(status, at, reason, format!("{}: {}", failed.name, failed.message));
        }
        if let Some(mark) = status.paused.clone().filter(|mark| !approved && mark.reason != APPROVAL) {
            return self.pause(status, at, &mark.reason, &mark.message);
        }
        status.paused = status.paused.filter(|_| !approved);
        if let Some(left) = step.hold.checked_sub(waited).filter(|left| !left.is_zero()) {
            self.turn.requeue = sooner(self.turn.requeue, Some(left));
            let hold = duration::format(step.hold);
            return self.stay(
                status,
                at,
                step.share,
                ("RollingOut", format!("{head}, for {hold}{}", figures(&judged))),
            );
        }
        if step.pause && !approved {
            return self.pause(status, at, APPROVAL, "the step asks for approval");
        }
        // Until an operator that has just begun has heard of the routers, nothing has been waited for.
        let counted = measured.map_or(Duration::ZERO, |measured| since(measured.since.max(began.0), look.now));
        let waiting = judged.iter().filter(|judged| judged.verdict == Verdict::Inconclusive && !approved);
        let lefts = waiting.filter_map(|judged| {
            let longest = steps::max_hold(analyses.get(&judged.name)?, step.hold);
            Some((longest.saturating_sub(counted), longest, judged))
        });
        if let Some((left, longest, judged)) = lefts.min_by_key(|(left, _, _)| *left) {
            let lacks = format!("{}: {}", judged.name, judged.message);
            if left.is_zero() {
                let message = format!("{lacks} in {}", duration::format(longest));
                return self.pause(status, at, "TooFewSamples", &message);
            }
            self.turn.requeue = sooner(self.turn.requeue, Some(left));
            return self.stay(
                status,
                at,
                step.share,
                ("RollingOut", format!("{head}; waits for {}: {lacks}", awaited(&analyses, &judged.name))),
            );
        }
        self.enter(status, at)
    }

    fn is_of(&self, measured: &Measured, status: &RolloutStatus) -> bool {
        let step = &measured.step;
        i64::try_from(step.generation) == Ok(self.look.generation)
            && step.step == status.step
            && step.candidate == self.revision.name
            && Some(step.stable.as_str()) == self.look.stable()
    }

    /// Into the step after this one, if there are pods for it.
    fn enter(mut self, status: RolloutStatus, at: usize) -> Turn {
        let next = self.steps.get(at).cloned();
        let share = next.as_ref().map_or(WHOLE, |next| next.share);
        if !self.look.is_up(self.name(), share) {
            if at == 0 {
                // What keeps its pods is said as of any revision that comes.
                self.come(0, None, share);
                self.turn.rollout = Some(status);
                return self.turn;
            }
            let share = share.max(self.steps[at - 1].share);
            let message = format!("{}; the next step waits: {}", self.head(at), self.lacks(share));
            return self.stay(status, at, share, ("RollingOut", message));
        }
        let Some(next) = next else { return self.promote() };
        let status = RolloutStatus {
            step: i32::try_from(at + 1).unwrap_or(i32::MAX),
            restarts: status.restarts,
            ..before_the_first(&status)
        };
        let head = self.head(at + 1);
        self.turn.events.push(Event::normal("RolloutStep", &head));
        self.stay(status, at + 1, next.share, ("RollingOut", format!("{head}; routers take it")))
    }

    /// Why the next step does not begin: there are not enough pods for it, or routers do not know them.
    fn lacks(&self, share: i32) -> String {
        let Some(view) = self.look.find(self.name()) else { return "its Deployment is being made".to_owned() };
        if !complete(view) {
            return format!("{} of {} pods answer{}", view.available, view.wanted, self.said());
        }
        let unprepared = self.look.observed.routers.unprepared(knowing(self.look.model, view, self.look.generation));
        unprepared.unwrap_or_else(|| format!("pods for {} come", part(share)))
    }

    /// What is said of its pods.
    fn said(&self) -> String {
        let words = self.look.find(self.name()).and_then(|view| words::about(view, self.look.observed));
        words.map_or_else(String::new, |words| format!("; {}", words.message))
    }

    /// In this step, with its weight.
    fn stay(mut self, mut status: RolloutStatus, at: usize, share: i32, says: (&'static str, String)) -> Turn {
        let step = self.step(at);
        let (weight, sample) = step.map_or((0, None), |step| (step.weight, step.sample));
        status.weight = weight;
        self.come(weight, sample, share);
        self.turn.says = Some(says);
        self.turn.rollout = Some(status);
        self.turn
    }

    fn may_pause(&self) -> bool {
        let action = self.look.asked_for().and_then(|rollout| rollout.on_failure);
        action == Some(OnRolloutFailure::Pause)
    }

    fn fails(self, status: RolloutStatus, at: usize, reason: &'static str, message: String) -> Turn {
        if self.may_pause() { self.pause(status, at, reason, &message) } else { self.reject(status, reason, message) }
    }

    fn pause(mut self, mut status: RolloutStatus, at: usize, reason: &str, message: &str) -> Turn {
        let old = status.paused.take().filter(|mark| mark.reason == reason);
        let fresh = old.is_none();
        let mark = old.unwrap_or_else(|| mark(self.look, reason, message.to_owned()));
        let other = self.look.control().filter(|control| control.revision != self.revision.name);
        let other = other.map_or_else(String::new, |other| format!(" (it is of revision {} now)", other.revision));
        let says = format!(
            "{}; it waits for a person ({reason}: {}): type kubectl millrace rollout approve, promote or abort {}, or set spec.control{other} to revision {}, and action Approve with step {}, Promote or Abort",
            self.head(at),
            mark.message,
            self.look.model,
            self.name(),
            at.max(1)
        );
        if fresh {
            self.turn.events.push(Event::warning("RolloutPaused", &says));
        }
        status.paused = Some(mark);
        let share = self.step(at).map_or(0, |step| step.share);
        self.stay(status, at, share, ("RolloutPaused", says))
    }

    fn reject(mut self, mut status: RolloutStatus, reason: &'static str, message: String) -> Turn {
        let mark = mark(self.look, reason, message);
        let outcome = if reason == ABORTED { RolloutOutcome::Aborted } else { RolloutOutcome::RolledBack };
        let said = format!("in step {} of {}: {}", status.step, status.steps, mark.message);
        self.turn.records.push(record(self.look, Some(&self.revision.version), self.name(), outcome, Some(said)));
        status.rejected = Some(mark.clone());
        (status.paused, status.step_start_time, status.weight) = (None, None, 0);
        let says = rejected(&status, &mark, self.look);
        self.turn.events.push(Event::warning(rejected_reason(&mark), &says));
        self.turn.says = Some((rejected_reason(&mark), says));
        self.turn.rollout = Some(status);
        self.turn
    }

    /// Such as `version 2 has 5 % of the requests in step 1 of 2`.
    fn head(&self, at: usize) -> String {
        let step = self.step(at);
        let (weight, sample) = step.map_or((0, None), |step| (step.weight, step.sample));
        let copied = sample.map(|sample| (sample * 1e4).round() / 1e2);
        let has = match copied {
            Some(copied) if weight == 0 => format!("copies of {copied} % of the requests"),
            Some(copied) => format!("{} and copies of {copied} % of the others", part(weight)),
            None => part(weight),
        };
        format!("version {} has {has} in step {at} of {}", self.revision.version, self.steps.len())
    }
}

impl Turn {
    /// What routers have already, instead of what comes.
    fn show(&mut self, (weight, sample): (i32, Option<f64>)) {
        if let (Some(candidate), Some(rollout)) = (&mut self.candidate, &mut self.rollout) {
            (candidate.weight, candidate.sample, rollout.weight) = (weight, sample, weight);
        }
    }
}

const APPROVAL: &str = "Approval";
const ABORTED: &str = "Aborted";
/// So often a revision may begin with its first step because none of its pods answered.
const MOST_RESTARTS: i32 = 5;

fn part(weight: i32) -> String {
    match weight {
        0 => "none of the requests".to_owned(),
        WHOLE => "all requests".to_owned(),
        weight => format!("{weight} % of the requests"),
    }
}

/// The same rollout before its first step, once more. Who has to look at it has to look still.
fn before_the_first(status: &RolloutStatus) -> RolloutStatus {
    RolloutStatus {
        revision: status.revision.clone(),
        version: status.version,
        artifact: status.artifact.clone(),
        steps: status.steps,
        restarts: status.restarts + i32::from(status.step > 0),
        paused: status.paused.clone().filter(|mark| mark.reason != APPROVAL),
        ..RolloutStatus::default()
    }
}

fn mark(look: &Look<'_>, reason: &str, message: String) -> RolloutMark {
    RolloutMark { reason: reason.to_owned(), message, time: Some(Time(look.now)) }
}

fn rejected_reason(mark: &RolloutMark) -> &'static str {
    if mark.reason == ABORTED { ABORTED } else { "RolledBack" }
}

fn rejected(status: &RolloutStatus, mark: &RolloutMark, look: &Look<'_>) -> String {
    let version = Version::of(status.version, status.artifact.as_ref());
    let version = version.map_or_else(|| "a version".to_owned(), |version| format!("version {version}"));
    let how = if mark.reason == ABORTED { "aborted" } else { "rolled back" };
    let still = look.stable().unwrap_or_default();
    let step = match status.steps {
        0 => String::new(),
        steps => format!(" in step {} of {steps}", status.step),
    };
    format!(
        "{version} was {how}{step}: {}; revision {still} has all requests. Set another version, or spec.control to revision {} and action Promote",
        mark.message, status.revision
    )
}

/// What ends the step: a limit that does not hold first, else a figure that nobody gives.
fn bad(judged: &[AnalysisStatus]) -> Option<(&'static str, &AnalysisStatus)> {
    let first = |verdict: Verdict| judged.iter().find(move |judged| judged.verdict == verdict);
    let failed = first(Verdict::Failed).map(|failed| ("AnalysisFailed", failed));
    failed.or_else(|| first(Verdict::Error).map(|error| ("AnalysisError", error)))
}

fn awaited(analyses: &BTreeMap<String, Analysis>, name: &str) -> &'static str {
    match analyses.get(name) {
        Some(Analysis { prometheus: Some(_), .. }) => "a figure",
        Some(Analysis { live: Some(_), .. }) => "a report",
        Some(Analysis { metric: Some(AnalysisMetric::Drift), .. }) => "more rows",
        _ => "more requests",
    }
}

fn figures(judged: &[AnalysisStatus]) -> String {
    if judged.is_empty() { String::new() } else { " and as long as its analyses pass".to_owned() }
}

/// Newer figures where a verdict is another one or those in the status are old: figures change all the time.
fn refresh(status: &mut RolloutStatus, judged: Vec<AnalysisStatus>, look: &Look<'_>) {
    if is_news(status, &judged, look.now) {
        status.measured = (!judged.is_empty()).then_some(Time(look.now));
        status.analysis = judged;
    }
}

/// Whether a status is to have these figures.
pub(super) fn is_news(status: &RolloutStatus, judged: &[AnalysisStatus], now: Timestamp) -> bool {
    let told = |one: &AnalysisStatus| (one.name.clone(), one.verdict, one.failures);
    let verdicts = |all: &[AnalysisStatus]| all.iter().map(told).collect::<Vec<_>>();
    let old = status.measured.as_ref().is_none_or(|measured| since(measured.0, now) >= REFRESH);
    verdicts(&status.analysis) != verdicts(judged) || old && status.analysis != judged
}
