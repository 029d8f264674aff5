//! On which nodes a stage may run, as far as it says so by their labels.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::NodeSelectorRequirement;

use crate::api::PodSettings;

/// One of these has to hold.
pub(super) struct Nodes(Vec<Term>);

/// By label. All of them have to hold.
type Term = BTreeMap<String, Wanted>;

/// What is wanted of one label.
#[derive(Clone, Debug, Default)]
struct Wanted {
    one_of: Option<BTreeSet<String>>,
    none_of: BTreeSet<String>,
    there: bool,
    absent: bool,
}

impl Nodes {
    pub fn of(settings: &PodSettings) -> Self {
        let mut usual = Term::new();
        for (label, value) in &settings.node_selector {
            usual.entry(label.clone()).or_default().take("In", std::slice::from_ref(value));
        }
        let node = settings.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let terms = node.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
        let terms: Vec<Term> = terms
            .into_iter()
            .flat_map(|required| &required.node_selector_terms)
            .map(|term| {
                let mut all = usual.clone();
                for NodeSelectorRequirement { key, operator, values } in
                    term.match_expressions.iter().chain(&term.match_fields).flatten()
                {
                    all.entry(key.clone()).or_default().take(operator, values.as_deref().unwrap_or_default());
                }
                all
            })
            .collect();
        Self(if terms.is_empty() { vec![usual] } else { terms })
    }

    /// What each of the two wants that no node has together; nothing if some node may be good for both.
    pub fn apart(&self, other: &Self) -> Option<(String, String)> {
        let mut first = None;
        for a in &self.0 {
            for b in &other.0 {
                let found = a.iter().find_map(|(label, wanted)| {
                    let against = b.get(label).filter(|against| wanted.excludes(against))?;
                    Some((wanted.said(label), against.said(label)))
                });
                let found = found?;
                first.get_or_insert(found);
            }
        }
        first
    }
}

impl Wanted {
    /// Numbers (`Gt`, `Lt`) are not looked at: then some node may be good.
    fn take(&mut self, operator: &str, values: &[String]) {
        let values = values.iter().cloned();
        match operator {
            "In" => {
                let values: BTreeSet<String> = values.collect();
                self.one_of = Some(self.one_of.take().map_or(values.clone(), |old| &old & &values));
            }
            "NotIn" => self.none_of.extend(values),
            "Exists" => self.there = true,
            "DoesNotExist" => self.absent = true,
            _ => {}
        }
    }

    /// No node has what both want.
    fn excludes(&self, other: &Self) -> bool {
        let needs = |wanted: &Self| wanted.there || wanted.one_of.is_some();
        if self.absent && needs(other) || other.absent && needs(self) {
            return true;
        }
        let left: Option<BTreeSet<&String>> = match (&self.one_of, &other.one_of) {
            (Some(a), Some(b)) => Some(a.intersection(b).collect()),
            (Some(one), None) | (None, Some(one)) => Some(one.iter().collect()),
            (None, None) => None,
        };
        left.is_some_and(|left| {
            left.iter().all(|value| self.none_of.contains(*value) || other.none_of.contains(*value))
        })
    }

    fn said(&self, label: &str) -> String {
        let list = |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        match &self.one_of {
            Some(values) if values.len() == 1 => format!("{label}={}", list(values)),
            Some(values) => format!("{label} in ({})", list(values)),
            None if self.absent => format!("no label {label}"),
            None if !self.none_of.is_empty() => format!("{label} not in ({})", list(&self.none_of)),
            None => format!("the label {label}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn nodes(settings: &Value) -> Nodes {
        Nodes::of(&serde_json::from_value(settings.clone()).unwrap())
    }

    /// Settings with a required affinity of these terms, each a list of label, operator and values.
    fn required(terms: &[&[(&str, &str, &[&str])]]) -> Value {
        let terms: Vec<Value> = terms
            .iter()
            .map(|term| {
                let one = |(key, operator, values): &(&str, &str, &[&str])| json!({ "key": key, "operator": operator, "values": values });
                json!({ "matchExpressions": term.iter().map(one).collect::<Vec<_>>() })
            })
            .collect();
        let required = json!({ "nodeSelectorTerms": terms });
        json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": required } } })
    }

    #[test]
    fn settings_are_apart_only_where_no_node_is_good_for_both() {
        let selector = |label: &str, value: &str| json!({ "nodeSelector": { label: value } });
        let (cpu, gpu) = (selector("pool", "cpu"), selector("pool", "gpu"));
        for (a, b, apart) in [
            (&cpu, &gpu, true),
            (&cpu, &cpu, false),
            (&cpu, &selector("disk", "fast"), false),
            (&cpu, &json!({}), false),
            (&cpu, &required(&[&[("pool", "In", &["gpu", "cpu"])]]), false),
            (&cpu, &required(&[&[("pool", "In", &["gpu", "tpu"])]]), true),
            (&cpu, &required(&[&[("pool", "NotIn", &["cpu"])]]), true),
            (&cpu, &required(&[&[("pool", "NotIn", &["gpu"])]]), false),
            (&cpu, &required(&[&[("pool", "DoesNotExist", &[])]]), true),
            (&cpu, &required(&[&[("pool", "Exists", &[])]]), false),
            (&required(&[&[("gpu", "Exists", &[])]]), &required(&[&[("gpu", "DoesNotExist", &[])]]), true),
            // One of several terms is enough, and numbers are nobody's here.
            (&cpu, &required(&[&[("pool", "In", &["gpu"])], &[("zone", "In", &["a"])]]), false),
            (&cpu, &required(&[&[("pool", "In", &["gpu"])], &[("pool", "In", &["tpu"])]]), true),
            (&cpu, &required(&[&[("pool", "Gt", &["7"])]]), false),
        ] {
            assert_eq!(nodes(a).apart(&nodes(b)).is_some(), apart, "{a} {b}");
            assert_eq!(nodes(b).apart(&nodes(a)).is_some(), apart, "{b} {a}");
        }
    }

    #[test]
    fn a_selector_counts_in_every_term_and_what_is_wanted_is_said() {
        let mut both = required(&[&[("zone", "In", &["a", "b"])], &[("zone", "In", &["c"])]]);
        both["nodeSelector"] = json!({ "pool": "gpu" });
        let found = nodes(&json!({ "nodeSelector": { "pool": "cpu" } })).apart(&nodes(&both));
        assert_eq!(found, Some(("pool=cpu".to_owned(), "pool=gpu".to_owned())));
        let found = nodes(&required(&[&[("zone", "In", &["x", "y"])]])).apart(&nodes(&required(&[&[(
            "zone",
            "DoesNotExist",
            &[],
        )]])));
        assert_eq!(found, Some(("zone in (x, y)".to_owned(), "no label zone".to_owned())));
    }
}
