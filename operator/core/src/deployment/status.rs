//! The status of a ModelDeployment and the events that go with its changes.

use k8s_openapi::jiff::Timestamp;

use super::plan::find;
use super::revision::Intent;
use super::words::{self, Reason};
use super::{DeploymentView, Observed, VERSION_ANNOTATION, objects, traffic};
use crate::api::{
    Address, Condition, ConditionStatus, ModelDeployment, ModelDeploymentStatus, RevisionStatus, set_condition,
};
use crate::names::MODEL_LABEL;
use crate::plan::{Event, Plan};
use crate::problem;

/// Everything that a status says something about.
pub(super) struct Situation<'a> {
    pub deployment: &'a ModelDeployment,
    pub intent: &'a Intent,
    /// A name that belongs to somebody else.
    pub taken: Option<String>,
    pub observed: &'a Observed,
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
pub(super) fn report(plan: &mut Plan<ModelDeploymentStatus>, situation: &Situation<'_>, now: Timestamp) {
    let Situation { deployment, intent, observed, taken: _ } = situation;
    let old = deployment.status.clone().unwrap_or_default();
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let owned = observed.service.as_ref().filter(|service| service.owner == deployment.metadata.uid);
    let served = traffic::served(owned.map(AsRef::as_ref));
    let served_view = served.and_then(|name| find(observed, name));
    let verdict = verdict(situation, served_view);

    let mut status = ModelDeploymentStatus {
        observed_generation: deployment.metadata.generation,
        conditions: old.conditions.clone(),
        address: owned.map(|_| Address {
            url: format!("http://{name}.{}.svc", deployment.metadata.namespace.as_deref().unwrap_or_default()),
        }),
        served_model: served_view.and_then(|view| view.labels.get(MODEL_LABEL).cloned()),
        served_version: served_view.and_then(version),
        served_revision: served.map(str::to_owned),
        replicas: served_view.map_or(0, |view| view.replicas),
        selector: served.map(|revision| {
            let pairs = objects::selector(deployment, revision);
            pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
        }),
        revisions: revisions(intent, observed, deployment.metadata.uid.as_deref(), served),
    };
    conditions(&mut status.conditions, &verdict, deployment.metadata.generation, now);
    plan.events = events(&old, &status, &verdict, intent);
    plan.status = (deployment.status.as_ref() != Some(&status)).then_some(status);
}

fn verdict(situation: &Situation<'_>, served: Option<&DeploymentView>) -> Verdict {
    let Situation { deployment, intent, taken, observed } = situation;
    let says = |progress, reason, message| Verdict { accepted: true, ready: false, progress, reason, message };
    if let Some(message) = taken {
        return says(Progress::Stalled, "NameTaken", message.clone());
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
            let model = &deployment.spec.model.name;
            return match served {
                None => says(
                    Progress::Reconciling,
                    "WaitingForFirstVersion",
                    format!(
                        "model \"{model}\" has no version to serve yet: a pipeline's deploy stage sets it, or write spec.model.version"
                    ),
                ),
                // The version was taken out of the spec: what is served stays.
                Some(view) => serving(view, observed, version(view)),
            };
        }
        Intent::Serve(revision) => revision,
    };
    let verdict = match (served, find(observed, &revision.name)) {
        (Some(view), _) if view.name == revision.name && observed.drifted(view) => says(
            Progress::Reconciling,
            "RevisionChanged",
            format!("the Deployment {} is not as it was applied: it is applied again", view.name),
        ),
        (Some(view), _) if view.name == revision.name => serving(view, observed, Some(revision.version)),
        (_, Some(view)) => coming(view, observed, revision.version),
        (_, None) => says(
            Progress::Reconciling,
            "CreatingRevision",
            format!("revision {} with version {} is being made", revision.name, revision.version),
        ),
    };
    refused(verdict, observed)
}

/// The Service selects it already.
fn serving(view: &DeploymentView, observed: &Observed, version: Option<i64>) -> Verdict {
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
    if !observed.seen(view) {
        let message = format!("the cluster has not looked at the newest state of the Deployment {} yet", view.name);
        return says(false, Progress::Reconciling, "Progressing", message);
    }
    if view.wanted == 0 {
        return says(true, Progress::Done, "ScaledToZero", format!("{version} is served by no pod: replicas is 0"));
    }
    if traffic::complete(view) {
        return says(
            true,
            Progress::Done,
            "Serving",
            format!("{version} is served by {} of {} pods", view.available, view.wanted),
        );
    }
    let mut message = format!("{version} is served by {} of {} pods", view.available, view.wanted);
    let words = words::about(view, observed);
    if let Some(Reason { message: words, failing: _ }) = &words {
        message = format!("{message}; {words}");
    }
    let failing = words.is_some_and(|words| words.failing);
    let reason = if failing { "RevisionFailing" } else { "Scaling" };
    says(view.available > 0, Progress::Reconciling, reason, message)
}

/// The Service does not select it yet.
fn coming(view: &DeploymentView, observed: &Observed, version: i64) -> Verdict {
    let words = words::about(view, observed);
    let reason = match &words {
        _ if view.deleting => "RevisionDeleted",
        _ if traffic::complete(view) => "Switching",
        Some(Reason { failing: true, .. }) => "RevisionFailing",
        _ => "Progressing",
    };
    let mut message = format!("version {version}: {} of {} pods are ready", view.ready, view.wanted);
    if let Some(words) = words {
        message = format!("{message}; {}", words.message);
    }
    Verdict { accepted: true, ready: false, progress: Progress::Reconciling, reason, message }
}

/// What the apiserver did not take is said even where everything else is well.
fn refused(mut verdict: Verdict, observed: &Observed) -> Verdict {
    let Some(refusal) = observed.refusals.first() else { return verdict };
    let message = format!("{} was refused: {} ({})", refusal.object, refusal.message, refusal.code);
    // The address is not what it should be, whatever answers behind it.
    verdict.ready &= !refusal.object.starts_with("Service ");
    verdict.message = if verdict.ready { format!("{}; {message}", verdict.message) } else { message };
    // A quota (403), a conflict and an apiserver that is busy may pass without a change of the spec.
    let passes = matches!(refusal.code, 403 | 409 | 429 | 500..);
    verdict.progress = if passes || verdict.ready { Progress::Reconciling } else { Progress::Stalled };
    if !verdict.ready {
        verdict.reason = "Refused";
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

fn revisions(intent: &Intent, observed: &Observed, uid: Option<&str>, served: Option<&str>) -> Vec<RevisionStatus> {
    let mut revisions: Vec<RevisionStatus> = observed
        .deployments
        .iter()
        .filter(|view| view.owner.as_deref() == uid)
        .map(|view| RevisionStatus {
            name: view.name.clone(),
            version: version(view),
            replicas: view.replicas,
            ready_replicas: view.ready,
            weight: if Some(view.name.as_str()) == served { 100 } else { 0 },
            message: (!traffic::complete(view)).then(|| words::about(view, observed)).flatten().map(|w| w.message),
        })
        .collect();
    if let Intent::Serve(revision) = intent
        && find(observed, &revision.name).is_none()
    {
        let name = revision.name.clone();
        revisions.push(RevisionStatus { name, version: Some(revision.version), ..RevisionStatus::default() });
    }
    revisions.sort_by(|a, b| a.name.cmp(&b.name));
    revisions
}

fn version(view: &DeploymentView) -> Option<i64> {
    view.annotations.get(VERSION_ANNOTATION)?.parse().ok()
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
        let version = new.served_version.map_or_else(String::new, |version| format!("version {version}, "));
        let message = format!("the address answers with {version}revision {revision}");
        events.push(Event { warning: false, reason: "VersionServed", message });
    }
    let was = old.conditions.iter().find(|condition| condition.type_ == "Ready").map(|c| c.reason.as_str());
    if ["RevisionFailing", "Refused", "NameTaken"].contains(&verdict.reason) && was != Some(verdict.reason) {
        events.push(Event { warning: true, reason: verdict.reason, message: verdict.message.clone() });
    }
    events
}
