//! What the status of a ModelVersion says: whether it can be served.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use crate::access;
use crate::api::{ConditionStatus, ModelVersion, ModelVersionStatus, set_condition};
use crate::figure;
use crate::names;
use crate::plan::{Event, Plan};
use crate::problem::{self, Problem};

/// The figures by which people compare models, the first ones first.
const TELLING: [&str; 6] = ["f1", "accuracy", "roc_auc", "rmse", "mae", "r2"];
/// So many of them fit a column.
const IN_A_COLUMN: usize = 2;

/// Decides for one ModelVersion: only its status.
#[must_use]
pub fn plan(version: &ModelVersion, now: Timestamp) -> Plan<ModelVersionStatus> {
    let mut plan = Plan::default();
    if version.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let problems = problems(version);
    let (status, reason, message) = match problems.first() {
        None => (ConditionStatus::True, "Registered", String::new()),
        Some(first) => (ConditionStatus::False, first.reason, problem::summary(&problems)),
    };
    let generation = version.metadata.generation;
    let mut new = version.status.clone().unwrap_or_default();
    new.observed_generation = generation;
    new.summary = summary(&version.spec.metrics);
    for kind in ["Accepted", "Ready"] {
        set_condition(&mut new.conditions, kind, status, reason, &message, generation, now);
    }
    if status == ConditionStatus::False {
        set_condition(&mut new.conditions, "Stalled", ConditionStatus::True, reason, &message, generation, now);
    }
    if version.status.as_ref() != Some(&new) {
        if !problems.is_empty() {
            plan.events.push(Event { warning: true, reason: "NotAccepted", message });
        }
        plan.status = Some(new);
    }
    plan
}

/// One of another name would stand beside the registered one: its status says so, and nobody takes it.
pub(crate) fn is_called_right(version: &ModelVersion) -> bool {
    let wanted = names::model_version(&version.spec.model, version.spec.version);
    version.metadata.name.as_deref() == Some(wanted.as_str())
}

fn problems(version: &ModelVersion) -> Vec<Problem> {
    let mut problems = Vec::new();
    let spec = &version.spec;
    let wanted = names::model_version(&spec.model, spec.version);
    let found = version.metadata.name.as_deref().unwrap_or_default();
    if found != wanted {
        let message =
            format!("`{found}` is not the name of version {} of {}: write {wanted}", spec.version, spec.model);
        problems.push(Problem::new("metadata.name", "InvalidName", message));
    }
    problems.extend(access::of_model(&spec.artifact.uri, spec.artifact.access.as_ref(), "spec.artifact"));
    problems
}

/// The most telling of a model's metrics in one line: `f1 0.9822, accuracy 0.9853`.
fn summary(metrics: &BTreeMap<String, f64>) -> Option<String> {
    let known = TELLING.iter().filter_map(|name| metrics.get_key_value(*name));
    let other = metrics.iter().filter(|(name, _)| !TELLING.contains(&name.as_str()));
    let chosen = known.chain(other).take(IN_A_COLUMN);
    let said = chosen.map(|(name, value)| format!("{name} {}", figure::rounded(*value, figure::FEWEST)));
    let text = said.collect::<Vec<_>>().join(", ");
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::StoreAccess;

    fn version(name: &str, uri: &str) -> ModelVersion {
        let mut version = ModelVersion::default();
        version.metadata.name = Some(name.into());
        version.spec.model = "penguins".into();
        version.spec.version = 3;
        version.spec.artifact.uri = uri.into();
        version.spec.metrics = [("f1".to_owned(), 0.982_189_840_1)].into();
        version
    }

    #[test]
    fn a_right_one_is_ready_and_written_once() {
        let mut version = version("penguins-v3", "pvc://artifacts/a/b");
        let status = plan(&version, Timestamp::UNIX_EPOCH).status.unwrap();
        assert_eq!(status.summary.as_deref(), Some("f1 0.9822"));
        assert!(status.conditions.iter().all(|c| c.status == "True" && c.reason == "Registered"));
        version.status = Some(status);
        assert_eq!(plan(&version, Timestamp::UNIX_EPOCH), Plan::default());
    }

    #[test]
    fn a_summary_has_what_people_compare_by_and_else_what_there_is() {
        let of = |metrics: &[(&str, f64)]| summary(&metrics.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect());
        assert_eq!(
            of(&[("accuracy", 0.985_29), ("aaa", 1.0), ("f1", 0.982_19)]).unwrap(),
            "f1 0.9822, accuracy 0.9853"
        );
        assert_eq!(of(&[("rmse", 3.0), ("my_score", 0.25)]).unwrap(), "rmse 3, my_score 0.25");
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn one_that_cannot_be_served_says_why() {
        for (name, uri, says) in [
            ("other", "pvc://artifacts/a", "metadata.name"),
            ("penguins-v3", "pvc://artifacts/../b", "spec.artifact.uri"),
        ] {
            let planned = plan(&version(name, uri), Timestamp::UNIX_EPOCH);
            let conditions = planned.status.unwrap().conditions;
            let ready = conditions.iter().find(|c| c.type_ == "Ready").unwrap();
            assert!(ready.status == "False" && ready.message.starts_with(says), "{ready:?}");
            assert_eq!(planned.events.len(), 1);
        }
        let mut other = version("penguins-v3", "gs://lake/a");
        other.spec.artifact.access = Some(StoreAccess { region: Some("eu".to_owned()), ..StoreAccess::default() });
        let conditions = plan(&other, Timestamp::UNIX_EPOCH).status.unwrap().conditions;
        let says = "spec.artifact.access.region: region is for an address that begins with s3://: take it out";
        assert!(conditions.iter().any(|c| c.type_ == "Accepted" && c.status == "False" && c.message == says));
    }
}
