//! The status of a ModelDeployment and the events that go with its changes.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::plan::{Taken, find};
use super::revision::{Intent, Revision};
use super::scaling::Scaling;
use super::traffic::Traffic;
use super::words::{self, Reason};
use super::{
    DeploymentView, Observed, PORT_ANNOTATION, READY_PATH_ANNOTATION, Version, chosen, gateway, limits, look,
    model_cache, monitoring, objects, payload_log, plan, scaling, security, stream,
};
use crate::api::{
    Address, Condition, ConditionStatus, ModelDeployment, ModelDeploymentStatus, RevisionStatus, RolloutOutcome,
    RolloutRecord, ServerProtocol, set_condition,
};
use crate::duration;
use crate::names::MODEL_LABEL;
use crate::plan::{Event, NAME_TAKEN, Plan, Refusal, sooner};
use crate::problem;

/// Reason of `Ready`: the routers do not lead where they should.
const ASTRAY: &str = "RoutesNotInForce";

/// Reason of `Ready`: requests wait for the first pod.
const STARTING: &str = "Starting";
/// Records that a status keeps.
const HISTORY: usize = 10;

/// Everything that a status says something about.
pub(super) struct Situation<'a> {
    pub deployment: &'a ModelDeployment,
    pub intent: &'a Intent,
    /// A name that belongs to somebody else.
    pub taken: Option<Taken>,
    pub traffic: &'a Traffic,
    pub scaling: &'a Scaling,
    pub observed: &'a Observed,
    pub now: Timestamp,
}

/// The conditions in one value: kstatus reads at most one of reconciling and stalled as true.
struct Verdict {
    accepted: bool,
    ready: bool,
    progress: Progress,
    reason: &'static str,
    message: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Done,
    Reconciling,
    Stalled,
}

/// Writes status and events into the plan, if there is something new.
pub(super) fn report(plan: &mut Plan<ModelDeploymentStatus>, situation: &Situation<'_>) {
    let Situation { deployment, intent, observed, traffic, scaling, taken: _, now } = *situation;
    let old = deployment.status.clone().unwrap_or_default();
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let owned = observed.service.as_ref().filter(|service| service.owner == deployment.metadata.uid);
    let stable = traffic.stable().and_then(|name| find(observed, name));
    let verdict = verdict(situation, stable);
    if let (STARTING, Some(view)) = (verdict.reason, stable) {
        plan.requeue = sooner(plan.requeue, start_left(deployment, view, observed, now));
    }
    // Until the routers lead to another one, the address answers with what it answered with.
    let main = traffic.main().and_then(|name| find(observed, name));
    let led_to = main.filter(|view| astray(deployment, view, traffic, observed).is_none());
    let led_to = led_to.filter(|_| gateway::not_in_force(deployment, observed).is_none());
    let (served_revision, served_model) = match led_to {
        Some(view) => (Some(view.name.clone()), view.labels.get(MODEL_LABEL).cloned()),
        None => (old.served_revision.clone(), old.served_model.clone()),
    };
    let (served_version, served_digest) = match led_to.map(version) {
        Some(version) => (version.as_ref().and_then(Version::number), version.as_ref().and_then(digest)),
        None => (old.served_version, old.served_digest.clone()),
    };
    let mut status = ModelDeploymentStatus {
        observed_generation: deployment.metadata.generation,
        conditions: old.conditions.clone(),
        address: owned.map(|_| Address {
            url: format!(
                "{}://{name}.{}.svc",
                if objects::speaks_tls(deployment) { "https" } else { "http" },
                deployment.metadata.namespace.as_deref().unwrap_or_default()
            ),
            gateway_url: gateway::url(deployment, observed),
        }),
        served_model,
        served_version,
        served_digest,
        served_revision,
        replicas: stable.map_or(0, |view| view.replicas),
        desired_replicas: scaling.decision.as_ref().map(|decision| decision.replicas),
        traffic_generation: traffic.generation,
        router_port: router_port(deployment, observed),
        selector: traffic.stable().map(|revision| {
            let pairs = objects::selector(deployment, revision);
            pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
        }),
        stable_revision: traffic.stable.clone(),
        rollout: traffic.rollout.clone(),
        gateway: gateway::status(deployment, observed, now),
        drift: old.drift.clone(),
        log: old.log.clone(),
        stream: old.stream.clone(),
        live: old.live.clone(),
        history: history(&old.history, &traffic.records),
        revisions: revisions(deployment, intent, observed, traffic),
    };
    conditions(&mut status.conditions, &verdict, deployment.metadata.generation, now);
    chosen::condition(&mut status, &old, deployment, scaling, now);
    let drifted = monitoring::report(&mut status, deployment, observed.drift.as_ref(), now);
    let logged = payload_log::report(&mut status, deployment, observed, now);
    let streamed = stream::report(&mut status, deployment, observed, now);
    let secured = security::report(&mut status, deployment, observed, now);
    let refused_there = gateway::report(&mut status, deployment, observed, now);
    plan.events = events(&old, &status, &verdict, intent);
    plan.events.extend(traffic.events.iter().cloned());
    // Without steps it is told as the version that is served.
    let promoted = traffic.records.iter().filter(|record| record.outcome == RolloutOutcome::Promoted);
    plan.events.extend(promoted.filter(|_| old.rollout.is_some()).map(|record| {
        let version = Version::of(record.version, record.artifact.as_ref());
        let version = version.map_or_else(String::new, |version| format!("version {version}, "));
        Event::normal("Promoted", format!("{version}revision {}, gets all requests", record.revision))
    }));
    plan.events.extend(chosen::events(&old, deployment, scaling, stable));
    plan.events.extend(drifted);
    plan.events.extend(logged);
    plan.events.extend(streamed);
    plan.events.extend(secured);
    plan.events.extend(refused_there);
    // A write of the same status fails if the ModelDeployment has changed meanwhile: an old look deletes nothing.
    let fence = !plan.delete.is_empty();
    plan.status = (fence || deployment.status.as_ref() != Some(&status)).then_some(status);
}

/// The port that the model has on the routers, once it has one. It never changes: callers of one model must not come to another.
pub(super) fn router_port(deployment: &ModelDeployment, observed: &Observed) -> Option<i32> {
    let kept = deployment.status.as_ref().and_then(|status| status.router_port);
    kept.or(observed.routers.port.map(i32::from))
}

/// Whether nothing waits for what routers say: those of its namespace need not be asked often.
#[must_use]
pub fn is_settled(deployment: &ModelDeployment) -> bool {
    let Some(status) = &deployment.status else { return true };
    let waits = [ASTRAY, security::NOT_IN_FORCE];
    let astray = status.conditions.iter().any(|c| {
        ["Ready", security::SECURED].contains(&c.type_.as_str())
            && c.status != "True"
            && waits.contains(&c.reason.as_str())
    });
    let rollout = super::exposed(status.rollout.as_ref());
    // A step that is in force waits for time, requests or people.
    let holds = rollout.filter(|rollout| rollout.step_start_time.is_some()).map(|rollout| rollout.revision.as_str());
    let old = look::stable(deployment);
    // One whose pods do not answer has no use for routers yet.
    let comes = |revision: &RevisionStatus| {
        let name = Some(revision.name.as_str());
        revision.weight == 0
            && revision.ready_replicas >= revision.replicas
            && name != holds
            && !(holds.is_some() && name == old)
    };
    let drains = |revision: &RevisionStatus| revision.draining_since.is_some();
    let enters = rollout.is_some() && holds.is_none();
    !astray && !enters && !status.revisions.iter().any(|revision| comes(revision) || drains(revision))
}

fn astray(
    deployment: &ModelDeployment,
    view: &DeploymentView,
    traffic: &Traffic,
    observed: &Observed,
) -> Option<String> {
    let model = deployment.metadata.name.as_deref().unwrap_or_default();
    observed.routers.astray(look::leading(model, view, traffic.generation, scaling::starts_from_zero(deployment)))
}

/// `served` is the promoted revision.
fn verdict(situation: &Situation<'_>, served: Option<&DeploymentView>) -> Verdict {
    let Situation { deployment, intent, taken, traffic, observed, .. } = situation;
    let says = |progress, reason, message| Verdict { accepted: true, ready: false, progress, reason, message };
    if let Some(Taken { message, goes }) = taken {
        let progress = if *goes { Progress::Reconciling } else { Progress::Stalled };
        return says(progress, NAME_TAKEN, message.clone());
    }
    let revision = match intent {
        Intent::Invalid(problems) => {
            let reason = problems.first().map_or("Invalid", |problem| problem.reason);
            return Verdict { accepted: false, ..says(Progress::Stalled, reason, problem::summary(problems)) };
        }
        Intent::NoPodTemplate(message) => {
            return says(Progress::Reconciling, "PodTemplateNotFound", message.clone());
        }
        Intent::Unknown(message) => return says(Progress::Reconciling, "VersionNotFound", message.clone()),
        Intent::NoVersion => {
            let model = deployment.model_name();
            return match served {
                None => {
                    let message = first_version(model, observed);
                    refused(says(Progress::Reconciling, "WaitingForFirstVersion", message), observed)
                }
                // The version was taken out of the spec: what is served stays.
                Some(view) => routed(serving(view, situation, version(view)), view, situation),
            };
        }
        Intent::Serve(revision) => revision,
    };
    if let Some((reason, message)) = &traffic.says {
        let progress = if traffic.rejects(&revision.name) { Progress::Stalled } else { Progress::Reconciling };
        return refused(says(progress, reason, message.clone()), observed);
    }
    let verdict = match (served, find(observed, &revision.name)) {
        (Some(view), _) if view.name == revision.name => {
            routed(serving(view, situation, Some(revision.version.clone())), view, situation)
        }
        (_, Some(view)) => {
            let asked =
                look::knowing(deployment.metadata.name.as_deref().unwrap_or_default(), view, traffic.generation);
            coming(view, observed, &revision.version, observed.routers.unprepared(asked))
        }
        (_, None) => {
            let held = scaling::recreates(deployment) && !plan::is_alone(deployment, revision, observed);
            let when = if held { "is made when the pods of the one before have ended" } else { "is being made" };
            let message = format!("revision {} with version {} {when}", revision.name, revision.version);
            says(Progress::Reconciling, "CreatingRevision", message)
        }
    };
    refused(verdict, observed)
}

/// What is to be done for a first version.
fn first_version(model: &str, observed: &Observed) -> String {
    let mut versions: Vec<i64> =
        observed.model_versions.iter().filter(|version| version.spec.model == model).map(|v| v.spec.version).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let registered: Vec<String> = versions.iter().take(5).map(ToString::to_string).collect();
    if registered.is_empty() {
        return format!(
            "model \"{model}\" has no registered version yet: a pipeline's register stage makes one, and its deploy stage sets it here"
        );
    }
    let more = if versions.len() > registered.len() { ", …" } else { "" };
    format!(
        "none of the versions of model \"{model}\" is chosen: write spec.model.version (registered are {}{more}), or let a pipeline's deploy stage set it",
        registered.join(", ")
    )
}

/// It has the traffic: it is served if the routers lead to it.
fn routed(mut verdict: Verdict, view: &DeploymentView, situation: &Situation<'_>) -> Verdict {
    let Situation { deployment, traffic, observed, .. } = situation;
    let own = deployment.metadata.name.as_deref().unwrap_or_default();
    let changed = observed.service_changed(&[own, &view.name]).map(|words| ("ServiceChanged", words));
    let missing = || {
        let leads = observed.service.as_deref().is_some_and(objects::is_router_service);
        (!leads).then(|| ("ServiceMissing", format!("the Service {own} that leads to the routers is not there yet")))
    };
    let astray = || astray(deployment, view, traffic, observed).map(|words| (ASTRAY, words));
    let insecure = || {
        let lack = security::lack(deployment, observed).filter(security::Lack::is_grave)?;
        Some((lack.reason, lack.message))
    };
    let unrouted = || gateway::address_lack(deployment, observed).map(|lack| (lack.reason, lack.message));
    let lack = changed.or_else(missing).or_else(astray).or_else(insecure).or_else(unrouted);
    let Some((reason, words)) = lack else { return verdict };
    if verdict.ready {
        verdict.reason = reason;
    }
    verdict.ready = false;
    verdict.progress = Progress::Reconciling;
    verdict.message = format!("{}; {words}", verdict.message);
    verdict
}

/// The reason of `Ready` where no pod is asked for, and no request starts one: the version is promoted, and nobody is answered.
pub const SCALED_TO_ZERO: &str = "ScaledToZero";

/// It has the traffic already.
fn serving(view: &DeploymentView, situation: &Situation<'_>, version: Option<Version>) -> Verdict {
    let Situation { deployment, observed, now, .. } = *situation;
    let starts = scaling::starts_from_zero(deployment);
    let version = version.map_or_else(|| "a version".to_owned(), |version| format!("version {version}"));
    let says = |ready, progress, reason, message| Verdict { accepted: true, ready, progress, reason, message };
    if view.deleting {
        return says(
            false,
            Progress::Reconciling,
            "RevisionDeleted",
            format!("revision {} is being deleted", view.name),
        );
    }
    if let Some(message) = observed.deployment_changed(view) {
        return says(false, Progress::Reconciling, "RevisionChanged", message);
    }
    if !observed.seen(view) {
        let message = format!("the cluster has not looked at the newest state of the Deployment {} yet", view.name);
        return says(false, Progress::Reconciling, "Progressing", message);
    }
    if view.wanted == 0 && starts {
        let message = format!("{version} is at zero: the next request starts a pod and waits for it");
        return says(true, Progress::Done, "AtZero", message);
    }
    if view.wanted == 0 && situation.scaling.decision.as_ref().is_some_and(|decision| decision.replicas > 0) {
        return says(false, Progress::Reconciling, "Scaling", format!("{version} is served by no pod yet"));
    }
    if view.wanted == 0 {
        let wait = duration::format(limits::longest_wait(deployment));
        let message = format!(
            "{version} is served by no pod: replicas is 0, and requests wait for one for {wait} in vain; write replicas: 1 or more, or take it out and write min: 0, with which the next request starts a pod"
        );
        return says(false, Progress::Done, SCALED_TO_ZERO, message);
    }
    if look::complete(view) {
        return says(
            true,
            Progress::Done,
            "Serving",
            format!("{version} is served by {} of {} pods", view.available, view.wanted),
        );
    }
    let mut message = format!("{version} is served by {} of {} pods", view.available, view.wanted);
    let words = words::about(view, observed);
    if let Some(Reason { message: words, .. }) = &words {
        message = format!("{message}; {words}");
    }
    // The address answers, after a start, unless somebody says why it does not, or it takes longer than a request waits.
    let begins = starts && view.available == 0 && words.as_ref().is_none_or(|words| words.starting);
    if begins && start_left(deployment, view, observed, now).is_some() {
        return says(true, Progress::Reconciling, STARTING, format!("{message}; requests wait for the first"));
    }
    let failing = words.is_some_and(|words| words.failing);
    let reason = if failing { "RevisionFailing" } else { "Scaling" };
    says(view.available > 0, Progress::Reconciling, reason, message)
}

/// What is left of the time in which the first pod of a revision may start.
fn start_left(
    deployment: &ModelDeployment,
    view: &DeploymentView,
    observed: &Observed,
    now: Timestamp,
) -> Option<Duration> {
    let pods = observed.pods.iter().filter(|pod| pod.stage == view.name && !pod.deleting);
    let oldest = pods.filter_map(|pod| pod.created).min();
    let gone = oldest.map_or(Duration::ZERO, |oldest| duration::since(oldest, now));
    limits::longest_wait(deployment).checked_sub(gone).filter(|left| !left.is_zero())
}

/// It does not have the traffic yet. `unprepared` says which router does not know it.
fn coming(view: &DeploymentView, observed: &Observed, version: &Version, unprepared: Option<String>) -> Verdict {
    let words = words::about(view, observed);
    let reason = match &words {
        _ if view.deleting => "RevisionDeleted",
        _ if look::complete(view) => "Switching",
        Some(Reason { failing: true, .. }) => "RevisionFailing",
        _ => "Progressing",
    };
    let mut message = format!("version {version}: {} of {} pods are ready", view.ready, view.wanted);
    let unprepared = unprepared.filter(|_| look::complete(view));
    for words in words.map(|words| words.message).into_iter().chain(unprepared) {
        message = format!("{message}; {words}");
    }
    Verdict { accepted: true, ready: false, progress: Progress::Reconciling, reason, message }
}

/// What the apiserver did not take is said even where everything else is well.
fn refused(mut verdict: Verdict, observed: &Observed) -> Verdict {
    let refusals = observed.refusals.iter().chain(&observed.routers.refusals);
    let is_budget = |refusal: &Refusal| refusal.object.starts_with("PodDisruptionBudget ");
    let Some(refusal) = refusals.min_by_key(|refusal| is_budget(refusal)) else { return verdict };
    let message = format!("{} was refused: {} ({})", refusal.object, refusal.message, refusal.code);
    // The model is served as well without it, and goes on as it did.
    if is_budget(refusal) {
        verdict.message = format!("{}; {message}", verdict.message);
        return verdict;
    }
    // The address is not what it should be, whatever answers behind it.
    verdict.ready &= !["Service ", "HTTPRoute "].iter().any(|kind| refusal.object.starts_with(kind));
    verdict.message = if verdict.ready { format!("{}; {message}", verdict.message) } else { message };
    // A quota (403), a conflict and an apiserver that is busy may pass without a change of the spec.
    let passes = matches!(refusal.code, 403 | 409 | 429 | 500..);
    verdict.progress = if passes || verdict.ready { Progress::Reconciling } else { Progress::Stalled };
    if !verdict.ready {
        verdict.reason = if refusal.reason == NAME_TAKEN { NAME_TAKEN } else { "Refused" };
    }
    verdict
}

fn conditions(conditions: &mut Vec<Condition>, verdict: &Verdict, generation: Option<i64>, now: Timestamp) {
    let truth = |is| if is { ConditionStatus::True } else { ConditionStatus::False };
    let Verdict { accepted, ready, progress, reason, message } = verdict;
    let mut set = |kind: &str, is: bool, reason: &str, message: &str| {
        set_condition(conditions, kind, truth(is), reason, message, generation, now);
    };
    if *accepted {
        set("Accepted", true, "Accepted", "");
    } else {
        set("Accepted", false, reason, message);
    }
    set("Ready", *ready, reason, message);
    for (kind, which) in [("Reconciling", Progress::Reconciling), ("Stalled", Progress::Stalled)] {
        if *progress == which {
            set(kind, true, reason, message);
        } else {
            set(kind, false, "AsDesired", "");
        }
    }
}

fn revisions(
    deployment: &ModelDeployment,
    intent: &Intent,
    observed: &Observed,
    traffic: &Traffic,
) -> Vec<RevisionStatus> {
    let asked = deployment.spec.server.as_ref();
    let server = asked.and_then(|server| server.container.as_ref());
    let routed = traffic.routed.iter().map(|revision| {
        let view = find(observed, &revision.name);
        let intended = intent.revision().filter(|intended| intended.name == revision.name);
        let words = view.filter(|view| !look::complete(view)).and_then(|view| words::about(view, observed));
        let noted = |annotation| view.and_then(|view| view.annotations.get(annotation).cloned());
        let (port, ready_path) = match intended {
            Some(_) => (server.and_then(|server| server.port), server.and_then(|server| server.ready_path.clone())),
            None => (noted(PORT_ANNOTATION).and_then(|port| port.parse().ok()), noted(READY_PATH_ANNOTATION)),
        };
        let before = before(deployment, &revision.name);
        let (concurrency, ready_probe) = match intended {
            Some(_) => (asked.and_then(|server| server.concurrency), server.and_then(|server| server.ready_probe)),
            None => before.map_or((None, None), |known| (known.concurrency, known.ready_probe)),
        };
        let cached = intended.and_then(Revision::cached).or_else(|| model_cache::cached(&view?.annotations));
        let version = view.and_then(version).or_else(|| intended.map(|intended| intended.version.clone()));
        RevisionStatus {
            name: revision.name.clone(),
            version: version.as_ref().and_then(Version::number),
            artifact: version.as_ref().and_then(Version::artifact).cloned(),
            replicas: view.map_or(0, |view| view.replicas),
            ready_replicas: view.map_or(0, |view| view.ready),
            weight: revision.weight,
            port,
            ready_path,
            concurrency,
            protocol: protocol(deployment, intent, &revision.name),
            ready_probe,
            sample: revision.sample,
            draining_since: revision.draining_since.clone(),
            cached,
            message: words.map(|words| words.message),
        }
    });
    routed.collect()
}

/// How a revision's pods are spoken to. Such settings are those of the spec that asked for it last.
pub(super) fn protocol(deployment: &ModelDeployment, intent: &Intent, revision: &str) -> Option<ServerProtocol> {
    if intent.revision().is_some_and(|intended| intended.name == revision) {
        let server = deployment.spec.server.as_ref().and_then(|server| server.container.as_ref());
        return server.and_then(|server| server.protocol);
    }
    before(deployment, revision).and_then(|known| known.protocol)
}

/// What the status says of a revision until now.
fn before<'a>(deployment: &'a ModelDeployment, revision: &str) -> Option<&'a RevisionStatus> {
    let before = deployment.status.iter().flat_map(|status| &status.revisions);
    before.into_iter().find(|known| known.name == revision)
}

/// The newest first.
fn history(old: &[RolloutRecord], new: &[RolloutRecord]) -> Vec<RolloutRecord> {
    new.iter().rev().chain(old).take(HISTORY).cloned().collect()
}

fn version(view: &DeploymentView) -> Option<Version> {
    Version::noted(&view.annotations)
}

/// Of one that is not registered.
fn digest(version: &Version) -> Option<String> {
    version.artifact().map(|artifact| artifact.digest.clone())
}

fn events(old: &ModelDeploymentStatus, new: &ModelDeploymentStatus, verdict: &Verdict, intent: &Intent) -> Vec<Event> {
    let mut events = Vec::new();
    if let Intent::Serve(revision) = intent
        && old.revisions.iter().all(|known| known.name != revision.name)
        && new.revisions.iter().any(|known| known.name == revision.name)
    {
        let message = format!("version {} comes as revision {}", revision.version, revision.name);
        events.push(Event { warning: false, reason: "RevisionCreated", message });
    }
    if let Some(revision) = &new.served_revision
        && old.served_revision != new.served_revision
    {
        let served = new.revisions.iter().find(|known| known.name == *revision);
        let version = served.and_then(|served| Version::of(served.version, served.artifact.as_ref()));
        let version = version.map_or_else(String::new, |version| format!("version {version}, "));
        let message = format!("the address answers with {version}revision {revision}");
        events.push(Event { warning: false, reason: "VersionServed", message });
    }
    let was = old.conditions.iter().find(|condition| condition.type_ == "Ready").map(|c| c.reason.as_str());
    if ["RevisionFailing", "RevisionChanged", "ServiceChanged", "Refused", NAME_TAKEN].contains(&verdict.reason)
        && was != Some(verdict.reason)
    {
        events.push(Event { warning: true, reason: verdict.reason, message: verdict.message.clone() });
    }
    events
}
