//! A ModelDeployment's rollout, for people.

use std::fmt::Write;

use anstyle::Style;
use k8s_openapi::jiff::Timestamp;
use millrace_core::api::{
    AnalysisStatus, ModelDeployment, ModelDeploymentStatus, RolloutOutcome, RolloutRecord, RolloutStatus,
    ServedArtifact, Verdict,
};
use millrace_core::deployment::Version;

use super::style::{BAD, DIM, GOOD, MOVES, PLAIN, WAITS, paint};
use super::table::{Cell, table};
use super::{condition, lasted};
use crate::rollout::{Standing, standing};

/// Everything about it.
pub fn status(deployment: &ModelDeployment, now: Timestamp) -> String {
    let empty = ModelDeploymentStatus::default();
    let status = deployment.status.as_ref().unwrap_or(&empty);
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{:<12}{value}", format!("{name}:"));
        }
    };
    field("Name", deployment.metadata.name.as_deref().unwrap_or_default());
    field("Status", &says(deployment));
    field("Model", &versions(deployment, status));
    if let Some(rollout) = &status.rollout {
        field("Strategy", &strategy(deployment));
        field("Step", &step(deployment, rollout, now).unwrap_or_default());
        field("Restarts", &if rollout.restarts > 0 { rollout.restarts.to_string() } else { String::new() });
    }
    field("Address", status.address.as_ref().map_or("", |address| address.url.as_str()));
    if let Some(url) = status.address.as_ref().and_then(|address| address.gateway_url.as_deref()) {
        field("Gateway", url);
    }
    if !status.revisions.is_empty() {
        text.push_str("Revisions:\n");
        let rows = status.revisions.iter().map(|revision| {
            let (role, style) = role(status, &revision.name, revision.draining_since.is_some());
            let copies = revision
                .sample
                .map(|share| format!("copies of {} %", millrace_core::figure::rounded(share * 100.0, 3)));
            let share = match (revision.weight, copies) {
                (0, Some(copies)) => copies,
                (weight, Some(copies)) => format!("{weight} % and {copies}"),
                (weight, None) => format!("{weight} %"),
            };
            let ready = format!("{}/{}", revision.ready_replicas, revision.replicas);
            let version = called(revision.version, revision.artifact.as_ref());
            let message = super::brief(revision.message.as_deref().unwrap_or_default(), 100);
            [
                revision.name.as_str().into(),
                version.into(),
                Cell::new(role, style),
                share.into(),
                ready.into(),
                message.into(),
            ]
        });
        text.push_str(&table("  ", ["NAME", "VERSION", "ROLE", "REQUESTS", "READY", ""], rows));
    }
    if let Some(rollout) = status.rollout.as_ref().filter(|rollout| !rollout.analysis.is_empty()) {
        text.push_str("Analyses:\n");
        let rows = rollout.analysis.iter().map(|one| {
            [
                one.name.as_str().into(),
                Cell::new(verdict(one.verdict).0, verdict(one.verdict).1),
                one.message.as_str().into(),
            ]
        });
        text.push_str(&table("  ", ["NAME", "VERDICT", "FIGURE"], rows));
    }
    text
}

/// Where it stands, in a line that changes only when something happened.
pub fn line(deployment: &ModelDeployment) -> String {
    let mut parts = vec![says(deployment)];
    let rollout = deployment.status.as_ref().and_then(|status| status.rollout.as_ref());
    if let Some(rollout) = rollout.filter(|_| !standing(deployment).is_over()) {
        parts.extend(rollout.analysis.iter().map(figure));
    }
    parts.join("; ")
}

/// What was promoted or given up.
pub fn history(records: &[RolloutRecord], now: Timestamp) -> String {
    if records.is_empty() {
        return "nothing was promoted yet\n".to_owned();
    }
    let rows = records.iter().map(|record| {
        let (word, style) = match record.outcome {
            RolloutOutcome::Promoted => ("Promoted", GOOD),
            RolloutOutcome::RolledBack => ("RolledBack", BAD),
            RolloutOutcome::Aborted => ("Aborted", WAITS),
            RolloutOutcome::Superseded => ("Superseded", DIM),
        };
        let version = called(record.version, record.artifact.as_ref());
        let message = super::brief(record.message.as_deref().unwrap_or_default(), 120);
        let age = lasted(record.time.as_ref(), None, now);
        [version.into(), record.revision.as_str().into(), Cell::new(word, style), age.into(), message.into()]
    });
    table("", ["VERSION", "REVISION", "OUTCOME", "AGE", "WHY"], rows)
}

/// Standing, reason and message.
fn says(deployment: &ModelDeployment) -> String {
    let standing = standing(deployment);
    let style = match standing {
        Standing::Promoted => GOOD,
        Standing::Progressing => MOVES,
        Standing::Paused => WAITS,
        Standing::RolledBack | Standing::Stalled => BAD,
    };
    let word = paint(&format!("{standing:?}"), style);
    let conditions = deployment.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let ready = condition(conditions, "Ready").filter(|c| c.observed_generation == deployment.metadata.generation);
    match ready {
        // A reason that is the word itself says nothing more.
        Some(ready) if ready.reason == format!("{standing:?}") && ready.message.is_empty() => word,
        Some(ready) if ready.reason == format!("{standing:?}") => format!("{word}: {}", ready.message),
        Some(ready) if ready.message.is_empty() => format!("{word}, {}", ready.reason),
        Some(ready) => format!("{word}, {}: {}", ready.reason, ready.message),
        None => format!("{word}: the operator has not seen the newest spec yet"),
    }
}

/// A version as people call it.
fn called(version: Option<i64>, artifact: Option<&ServedArtifact>) -> String {
    Version::of(version, artifact).map_or_else(String::new, |version| version.to_string())
}

fn versions(deployment: &ModelDeployment, status: &ModelDeploymentStatus) -> String {
    let model = &deployment.spec.model;
    let at = model.uri.as_ref().map_or_else(String::new, |uri| format!(" at {uri}"));
    let asked = match (&model.digest, model.version) {
        (Some(digest), _) => format!("version {} is asked for", named(digest)),
        (None, Some(version)) => format!("version {version} is asked for"),
        (None, None) => "no version is asked for, so the promoted one stays".to_owned(),
    };
    let served = status.served_version.map(|version| version.to_string());
    let served = served.or_else(|| status.served_digest.as_deref().map(named));
    let served = served.map_or_else(|| "none is served".to_owned(), |served| format!("{served} is served"));
    // What most of the pods serve says nothing of what was promoted: in a step with 60 % they serve the new one.
    let promoted = promoted(status).map_or(served, |promoted| format!("{promoted} is promoted"));
    format!("{}{at}, {asked}, {promoted}", deployment.model_name())
}

/// The version of the promoted revision.
fn promoted(status: &ModelDeploymentStatus) -> Option<String> {
    let stable = status.stable_revision.as_ref()?;
    let revision = status.revisions.iter().find(|revision| revision.name == *stable);
    let found = revision.map(|revision| called(revision.version, revision.artifact.as_ref()));
    let record = || {
        let mut records = status.history.iter();
        records.find(|record| record.revision == *stable && record.outcome == RolloutOutcome::Promoted)
    };
    let found = found.or_else(|| record().map(|record| called(record.version, record.artifact.as_ref())));
    found.filter(|version| !version.is_empty())
}

/// What the version of a model that is not registered is called.
fn named(digest: &str) -> String {
    Version::Unregistered(ServedArtifact { uri: String::new(), digest: digest.to_owned() }).to_string()
}

fn strategy(deployment: &ModelDeployment) -> String {
    deployment.spec.rollout.as_ref().map_or_else(|| "none".to_owned(), |rollout| format!("{:?}", rollout.strategy))
}

/// None once it was given up: no step goes on.
fn step(deployment: &ModelDeployment, rollout: &RolloutStatus, now: Timestamp) -> Option<String> {
    if rollout.rejected.is_some() {
        return None;
    }
    if rollout.step < 1 {
        return Some(format!("0 of {}: its pods do not answer yet", rollout.steps));
    }
    let mut text = format!("{} of {}, {} % of the requests", rollout.step, rollout.steps, rollout.weight);
    let steps = deployment.spec.rollout.iter().flat_map(|rollout| &rollout.steps);
    let written = usize::try_from(rollout.step - 1).ok().and_then(|index| steps.clone().nth(index));
    let since = lasted(rollout.step_start_time.as_ref(), None, now);
    match written.and_then(|step| step.hold.as_deref()) {
        Some(hold) if !since.is_empty() => {
            let _ = write!(text, ", in force for {since} of {hold}");
        }
        None if !since.is_empty() => {
            let _ = write!(text, ", in force for {since}");
        }
        _ => text.push_str(", not in force yet"),
    }
    Some(text)
}

fn role(status: &ModelDeploymentStatus, name: &str, drains: bool) -> (&'static str, Style) {
    if status.stable_revision.as_deref() == Some(name) {
        ("promoted", GOOD)
    } else if status.rollout.as_ref().is_some_and(|rollout| rollout.revision == name) {
        ("new", MOVES)
    } else if drains {
        ("drains", DIM)
    } else {
        ("", PLAIN)
    }
}

fn verdict(verdict: Verdict) -> (&'static str, Style) {
    match verdict {
        Verdict::Inconclusive => ("Inconclusive", WAITS),
        Verdict::Passed => ("Passed", GOOD),
        Verdict::Failed => ("Failed", BAD),
        Verdict::Error => ("Error", BAD),
    }
}

fn figure(one: &AnalysisStatus) -> String {
    let (word, style) = verdict(one.verdict);
    format!("{} {} ({})", one.name, paint(word, style), one.message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::style::stripped;
    use super::*;

    fn canary() -> ModelDeployment {
        serde_json::from_value(json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "m", "generation": 3 },
            "spec": {
                "model": { "name": "penguins", "version": 2 },
                "rollout": { "strategy": "Canary", "steps": [{ "weight": 5, "hold": "10m" }, { "weight": 50 }] },
            },
            "status": {
                "servedVersion": 2, "stableRevision": "m-old",
                "conditions": [{
                    "type": "Ready", "status": "False", "observedGeneration": 3, "reason": "RollingOut", "message": "step 1 of 2",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
                "rollout": {
                    "revision": "m-new", "version": 2, "step": 1, "steps": 2, "weight": 5, "stepStartTime": "2026-01-01T00:00:00Z",
                    "analysis": [{ "name": "errors", "verdict": "Passed", "value": 0.002, "samples": 340, "message": "ErrorRate 0.002 over 340 requests" }],
                },
                "revisions": [
                    { "name": "m-old", "version": 1, "replicas": 2, "readyReplicas": 2, "weight": 95 },
                    { "name": "m-new", "version": 2, "replicas": 1, "readyReplicas": 1, "weight": 5 },
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_canary_is_told_with_its_step_its_share_and_its_figures() {
        let now = "2026-01-01T00:02:00Z".parse().unwrap();
        assert_eq!(
            stripped(&status(&canary(), now)),
            "Name:       m\n\
             Status:     Progressing, RollingOut: step 1 of 2\n\
             Model:      penguins, version 2 is asked for, 1 is promoted\n\
             Strategy:   Canary\n\
             Step:       1 of 2, 5 % of the requests, in force for 2m of 10m\n\
             Revisions:\n  \
             NAME    VERSION   ROLE       REQUESTS   READY\n  \
             m-old   1         promoted   95 %       2/2\n  \
             m-new   2         new        5 %        1/1\n\
             Analyses:\n  \
             NAME     VERDICT   FIGURE\n  \
             errors   Passed    ErrorRate 0.002 over 340 requests\n"
        );
        let line = stripped(&line(&canary()));
        assert_eq!(line, "Progressing, RollingOut: step 1 of 2; errors Passed (ErrorRate 0.002 over 340 requests)");
    }

    #[test]
    fn what_was_given_up_is_at_no_step_and_says_why_once() {
        let mut found = canary();
        let seen = found.status.as_mut().unwrap();
        let mark = json!({ "reason": "Aborted", "message": "m" });
        let rollout = seen.rollout.as_mut().unwrap();
        (rollout.step, rollout.rejected) = (0, Some(serde_json::from_value(mark).unwrap()));
        let mut stalled = seen.conditions[0].clone();
        (stalled.type_, stalled.status) = ("Stalled".into(), "True".into());
        (seen.conditions[0].reason, seen.conditions[0].message) = ("RolledBack".into(), "errors: too many".into());
        seen.conditions.push(stalled);
        // The revision that came before it was promoted is told where no pod of it is listed any more.
        seen.revisions.clear();
        let record = json!({ "revision": "m-old", "version": 1, "outcome": "Promoted" });
        seen.history = vec![serde_json::from_value(record).unwrap()];
        let told = stripped(&status(&found, "2026-01-01T00:02:00Z".parse().unwrap()));
        assert!(told.contains("Status:     RolledBack: errors: too many\n"), "{told}");
        assert!(told.contains("version 2 is asked for, 1 is promoted\n") && !told.contains("Step:"), "{told}");
    }

    #[test]
    fn what_is_not_registered_is_called_by_its_digest() {
        let [old, new] =
            ["a", "b"].map(|hex| json!({ "uri": "s3://lake/m", "digest": format!("sha256:{}", hex.repeat(64)) }));
        let mut found = canary();
        let digest = Some(format!("sha256:{}", "b".repeat(64)));
        found.spec.model =
            serde_json::from_value(json!({ "uri": "s3://lake/m", "format": "onnx", "digest": digest })).unwrap();
        let seen = found.status.as_mut().unwrap();
        (seen.served_version, seen.served_digest) = (None, Some(format!("sha256:{}", "a".repeat(64))));
        for (revision, artifact) in seen.revisions.iter_mut().zip([old, new]) {
            (revision.version, revision.artifact) = (None, serde_json::from_value(artifact).unwrap());
        }
        let told = stripped(&status(&found, "2026-01-01T00:02:00Z".parse().unwrap()));
        let model = "Model:      m at s3://lake/m, version bbbbbbbbbbbb is asked for, aaaaaaaaaaaa is promoted\n";
        assert!(told.contains(model), "{told}");
        assert!(told.contains("m-old   aaaaaaaaaaaa   promoted"), "{told}");
    }

    #[test]
    fn what_an_older_spec_was_said_of_is_not_shown_as_news() {
        let mut deployment = canary();
        deployment.metadata.generation = Some(4);
        assert!(line(&deployment).contains("has not seen the newest spec yet"));
    }

    #[test]
    fn the_history_is_a_table() {
        let records: Vec<RolloutRecord> = serde_json::from_value(json!([
            { "revision": "m-b", "version": 2, "outcome": "RolledBack", "time": "2026-01-01T00:01:00Z", "message": "errors: too many\nmore" },
            { "revision": "m-a", "version": 1, "outcome": "Promoted", "time": "2026-01-01T00:00:00Z" },
        ]))
        .unwrap();
        let now = "2026-01-01T00:02:00Z".parse().unwrap();
        assert_eq!(
            stripped(&history(&records, now)),
            "VERSION   REVISION   OUTCOME      AGE   WHY\n\
             2         m-b        RolledBack   1m    errors: too many\n\
             1         m-a        Promoted     2m\n"
        );
        assert_eq!(history(&[], now), "nothing was promoted yet\n");
    }
}
