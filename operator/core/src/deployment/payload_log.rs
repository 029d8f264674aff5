//! What the status says of the payload log: whether events arrive, and how many were lost. While all of them do, nothing is written.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use millrace_routes::LogStats;

use super::{Observed, log_writer};
use crate::api::{Condition, ConditionStatus, ModelDeployment, ModelDeploymentStatus, PayloadLogStatus, set_condition};
use crate::duration::since;
use crate::plan::Event;
use crate::problem::Problem;
use crate::routing::Report;

/// The condition.
const LOGGED: &str = "PayloadLogged";
/// Reasons.
const DELIVERING: &str = "Delivering";
const DROPPED: &str = "EventsDropped";
const FAILED: &str = "SinkFailed";
const UNKNOWN: &str = "NoRouter";
/// What is said with it.
const NOT_TOLD: &str = "no router has said yet that it sends events";
/// It turns for the worse after so long at the earliest, and for the better, or other counts are written, after the second.
const SOON: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_mins(1);

/// What is to be said.
struct Judged {
    reason: &'static str,
    message: String,
    counts: PayloadLogStatus,
}

/// Whether a pass would write what these routers say. While another one runs that says nothing, it may write less.
#[must_use]
pub fn has_log_news<'a>(
    deployment: &ModelDeployment,
    reports: impl Iterator<Item = &'a Report>,
    now: Timestamp,
) -> bool {
    heard(deployment, reports).is_some_and(|said| news(deployment, said, true, now).is_some())
}

/// The sum over the routers. `None` where none says anything of it.
fn heard<'a>(deployment: &ModelDeployment, reports: impl Iterator<Item = &'a Report>) -> Option<LogStats> {
    let said = reports.filter_map(|report| says(deployment, report).cloned());
    said.reduce(|a, b| LogStats {
        delivered: a.delivered.saturating_add(b.delivered),
        dropped: a.dropped.saturating_add(b.dropped),
        failed: a.failed.saturating_add(b.failed),
        problem: a.problem.or(b.problem),
    })
}

/// Where the events of the spec go: to a sink of the user's, or to what writes the table.
pub(crate) fn address(deployment: &ModelDeployment) -> Option<String> {
    let log = deployment.spec.monitoring.as_ref()?.log.as_ref()?;
    log.sink.as_ref().map(|sink| sink.address.clone()).or_else(|| log_writer::address(deployment))
}

/// What a router says of the sink of the spec. Its problem begins with the address that it has: with another one, its routes are old.
fn says<'a>(deployment: &ModelDeployment, report: &'a Report) -> Option<&'a LogStats> {
    let asked = address(deployment)?;
    let said = report.models.get(deployment.metadata.name.as_deref()?)?.log.as_ref()?;
    let of = |problem: &String| problem.strip_prefix(&asked).is_some_and(|why| why.starts_with(": "));
    said.problem.as_ref().is_none_or(of).then_some(said)
}

/// Every router that runs is in the sum: what is missing there is gone for good.
fn is_whole(deployment: &ModelDeployment, observed: &Observed) -> bool {
    let mut routers = observed.routers.pods.iter().filter(|router| router.pod.is_running());
    routers.all(|router| router.report.as_deref().is_some_and(|report| says(deployment, report).is_some()))
}

fn news(deployment: &ModelDeployment, said: LogStats, whole: bool, now: Timestamp) -> Option<Judged> {
    let status = deployment.status.as_ref();
    let old = status.and_then(|status| status.log.as_ref());
    let known = status.and_then(|status| condition(&status.conditions));
    let known = known.filter(|known| known.observed_generation == deployment.metadata.generation);
    // A router that is away for a while comes back with what it had: that is not lost then.
    let said = match old.filter(|_| !whole) {
        Some(old) => at_least(said, old),
        None => said,
    };
    let Some(known) = known else { return Some(judge_anew(&said, now)) };
    let (Some(old), true) = (old, known.reason != UNKNOWN) else {
        // A router that has not heard of the change yet says what was so before.
        let believed = said.problem.is_none() || since(known.last_transition_time.0, now) >= SOON;
        return believed.then(|| judge(None, &said, now));
    };
    let judged = judge(Some(old), &said, now);
    let waited = old.observed_time.as_ref().map_or(Duration::MAX, |written| since(written.0, now));
    let worse = judged.reason != DELIVERING && known.reason == DELIVERING;
    let lost = (judged.counts.dropped, judged.counts.failed) != (old.dropped, old.failed);
    // It may go on with what is the matter with the writer's pod.
    let turns = judged.reason != known.reason || !known.message.starts_with(&judged.message);
    (worse && waited >= SOON || (turns || lost) && waited >= PAUSE).then_some(judged)
}

fn at_least(said: LogStats, old: &PayloadLogStatus) -> LogStats {
    let count = |said: u64, old: i64| said.max(u64::try_from(old).unwrap_or_default());
    LogStats {
        delivered: count(said.delivered, old.delivered),
        dropped: count(said.dropped, old.dropped),
        failed: count(said.failed, old.failed),
        problem: said.problem,
    }
}

/// For a spec of which nothing was said yet. A problem may be of the settings before.
fn judge_anew(said: &LogStats, now: Timestamp) -> Judged {
    let judged = judge(None, said, now);
    if said.problem.is_some() {
        return Judged { reason: UNKNOWN, message: NOT_TOLD.to_owned(), ..judged };
    }
    judged
}

/// What had no room counts since `old`, which is of the same spec; else from now on.
fn judge(old: Option<&PayloadLogStatus>, said: &LogStats, now: Timestamp) -> Judged {
    let LogStats { delivered, dropped, failed, problem } = said;
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (delivered, dropped, failed) = (count(*delivered), count(*dropped), count(*failed));
    let counts = PayloadLogStatus { observed_time: Some(Time(now)), delivered, dropped, failed };
    let before = old.map_or(dropped, |old| old.dropped);
    let (reason, message) = match problem {
        Some(problem) => (FAILED, format!("events are lost: {problem}")),
        None if dropped > before => {
            let more = dropped - before;
            let message = format!(
                "{more} events had no room, because they come faster than the sink takes them: write a smaller sampling, mode: Batched, or a smaller maxBodyBytes"
            );
            (DROPPED, message)
        }
        None => (DELIVERING, String::new()),
    };
    Judged { reason, message, counts }
}

fn condition(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == LOGGED)
}

/// Sets `status.log` and the condition. An event tells when something begins to be lost.
pub(super) fn report(
    status: &mut ModelDeploymentStatus,
    deployment: &ModelDeployment,
    observed: &Observed,
    now: Timestamp,
) -> Option<Event> {
    if deployment.spec.monitoring.as_ref().is_none_or(|monitoring| monitoring.log.is_none()) {
        status.log = None;
        status.conditions.retain(|condition| condition.type_ != LOGGED);
        return None;
    }
    let generation = deployment.metadata.generation;
    let was = condition(&status.conditions).cloned();
    let Some(said) = heard(deployment, observed.routers.pods.iter().filter_map(|router| router.report.as_deref()))
    else {
        if was.is_none_or(|was| was.observed_generation != generation) {
            set_condition(&mut status.conditions, LOGGED, ConditionStatus::Unknown, UNKNOWN, NOT_TOLD, generation, now);
        }
        return None;
    };
    let Judged { reason, mut message, counts } = news(deployment, said, is_whole(deployment, observed), now)?;
    if let Some(lack) = log_writer::lack(deployment, observed).filter(|_| reason == FAILED) {
        message = format!("{message}; {lack}");
    }
    let truth = match reason {
        DELIVERING => ConditionStatus::True,
        UNKNOWN => ConditionStatus::Unknown,
        _ => ConditionStatus::False,
    };
    set_condition(&mut status.conditions, LOGGED, truth, reason, &message, generation, now);
    if truth != ConditionStatus::Unknown {
        status.log = Some(counts);
    }
    let turns = was.is_none_or(|was| was.reason != reason);
    (truth == ConditionStatus::False && turns).then(|| Event::warning(reason, &message))
}

/// What no schema can see.
pub(super) fn check(deployment: &ModelDeployment) -> Option<Problem> {
    let log = deployment.spec.monitoring.as_ref()?.log.as_ref()?;
    let sink = log.sink.as_ref()?;
    super::queries::port_fault("spec.monitoring.log.sink.address", &sink.address)
}
