//! One pipeline of a file beside the one that the cluster has.

use std::fmt::Write;

use k8s_openapi::jiff::Timestamp;
use millrace_core::api::{MLPipeline, MLPipelineSpec};
use millrace_core::pipeline;
use serde_json::{Map, Value, json};

use super::cached::{self, Outlook, There};
use super::order;
use crate::lint::files::Object;
use crate::lint::{Finding, Known, config};
use crate::show::changes::{Change, between, lines};
use crate::show::problems;
use crate::show::style::{BAD, GOOD, STRONG, WAITS, paint};

/// Fields whose entries are told one by one, and what an entry is called.
const PARTS: [(&str, &str); 3] = [("params", "param"), ("stages", "stage"), ("finally", "finally stage")];

/// What applying a pipeline would do.
pub struct Proposal {
    name: String,
    findings: Vec<Finding>,
    is_new: bool,
    /// By entry: `stage train`, or a field of the spec.
    changes: Vec<(String, Vec<Change>)>,
    /// The stages of a run and those at its end, step after step.
    order: Option<(String, String)>,
    starts: Option<bool>,
    on_change: bool,
    /// Other triggers that it has.
    others: Vec<&'static str>,
    /// What a run would take from the cache.
    cached: Vec<Outlook>,
}

impl Proposal {
    pub fn new(object: &Object, findings: Vec<Finding>, there: Option<&MLPipeline>, known: &Known) -> Self {
        let json = object.node.json();
        let spec = serde_json::from_value::<MLPipeline>(json.clone()).ok().map(|pipeline| pipeline.spec);
        let frozen = spec.as_ref().and_then(|spec| pipeline::check(spec, &known.templates, &config(&json)).ok());
        let status = there.and_then(|there| there.status.as_ref());
        let order = frozen
            .map(|frozen| (order::text(&order::steps(&frozen, false)), order::text(&order::steps(&frozen, true))));
        Self {
            name: object.name.clone(),
            is_new: there.is_none(),
            changes: spec.as_ref().map(|spec| changes(there.map(|there| &there.spec), spec)).unwrap_or_default(),
            starts: spec.as_ref().filter(|_| order.is_some()).map(|spec| pipeline::starts(status, spec)),
            on_change: spec.as_ref().and_then(|spec| spec.triggers.as_ref()).is_some_and(|triggers| triggers.on_change),
            others: spec.as_ref().map(others).unwrap_or_default(),
            findings,
            order,
            cached: Vec::new(),
        }
    }

    /// With what the cluster's runs have made.
    pub fn beside(mut self, object: &Object, known: &Known, made: &There) -> Self {
        let json = object.node.json();
        if let (true, Ok(pipeline)) = (self.is_right(), serde_json::from_value::<MLPipeline>(json.clone())) {
            self.cached = cached::outlook(&pipeline, &known.templates, made, &config(&json), Timestamp::now());
        }
        self
    }

    /// It would be accepted.
    pub fn is_right(&self) -> bool {
        !self.findings.iter().any(|finding| finding.is_error)
    }

    pub fn text(&self) -> String {
        let word = match (self.is_new, self.changes.is_empty()) {
            (true, _) => "is new",
            (false, true) => "stays as it is",
            (false, false) => "changes",
        };
        let mut text = format!("{} {word}\n", paint(&format!("MLPipeline {}", self.name), STRONG));
        for finding in &self.findings {
            let _ = writeln!(text, "  {}", problems::line(finding));
        }
        for (entry, changes) in &self.changes {
            match changes.as_slice() {
                [Change { field, before: None, after: Some(_) }] if field.is_empty() => {
                    let _ = writeln!(text, "  {}", paint(&format!("+ {entry}"), GOOD));
                }
                [Change { field, before: Some(_), after: None }] if field.is_empty() => {
                    let _ = writeln!(text, "  {}", paint(&format!("- {entry}"), BAD));
                }
                changes => {
                    let _ = writeln!(text, "  {} {entry}", paint("~", WAITS));
                    text.push_str(&lines("      ", changes));
                }
            }
        }
        if let Some((stages, finally)) = &self.order {
            let _ = writeln!(
                text,
                "A run does: {stages}{}",
                if finally.is_empty() { String::new() } else { format!(", finally {finally}") }
            );
        }
        for Outlook { stage, from, why } in &self.cached {
            let _ = match from {
                Some(run) => writeln!(text, "  {} {stage} is taken from run {run}: {why}", paint("=", GOOD)),
                None => writeln!(text, "  {} {stage} is run: {why}", paint("*", WAITS)),
            };
        }
        let starts = match (self.is_right(), self.starts, self.on_change) {
            (false, _, _) | (_, None, _) => "No run starts: it has mistakes",
            (_, Some(true), _) => {
                "A run starts when it is applied: onChange is true, and what runs is not what the last change ran"
            }
            (_, Some(false), true) => "No run starts for the change: it is nothing that onChange looks at",
            (_, Some(false), false) => "No run starts for the change: triggers.onChange is not set",
        };
        let _ = writeln!(text, "{starts}");
        if !self.others.is_empty() {
            let _ = writeln!(text, "Runs start by its triggers too: {}", self.others.join(", "));
        }
        text
    }

    pub fn document(&self) -> Value {
        json!({
            "pipeline": self.name,
            "isNew": self.is_new,
            "problems": self.findings.iter().map(problems::document).collect::<Vec<_>>(),
            "changes": self.changes.iter().map(|(entry, changes)| json!({ "of": entry, "fields": changes })).collect::<Vec<_>>(),
            "otherTriggers": self.others,
            "cache": self.cached,
            "startsRun": self.is_right() && self.starts == Some(true),
        })
    }
}

/// The triggers, besides `onChange`, that start runs.
fn others(spec: &MLPipelineSpec) -> Vec<&'static str> {
    let Some(triggers) = &spec.triggers else { return Vec::new() };
    let kinds = [
        ("schedules", !triggers.schedules.is_empty()),
        ("backfills", !triggers.backfills.is_empty()),
        ("onModel", !triggers.on_model.is_empty()),
    ];
    kinds.into_iter().filter(|(_, any)| *any).map(|(kind, _)| kind).collect()
}

/// What changes, entry by entry. Without a pipeline in the cluster everything is new.
fn changes(before: Option<&MLPipelineSpec>, after: &MLPipelineSpec) -> Vec<(String, Vec<Change>)> {
    let fields = |spec: Option<&MLPipelineSpec>| match spec.map(serde_json::to_value) {
        Some(Ok(Value::Object(fields))) => fields,
        _ => Map::new(),
    };
    let (before, after) = (fields(before), fields(Some(after)));
    let mut found = Vec::new();
    for (part, noun) in PARTS {
        let entries =
            |fields: &Map<String, Value>| fields.get(part).and_then(Value::as_object).cloned().unwrap_or_default();
        let (before, after) = (entries(&before), entries(&after));
        let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            found.push((format!("{noun} {name}"), between(before.get(name), after.get(name))));
        }
    }
    let mut others: Vec<&String> =
        before.keys().chain(after.keys()).filter(|key| PARTS.iter().all(|(part, _)| part != key)).collect();
    others.sort();
    others.dedup();
    for key in others {
        found.push((key.clone(), between(before.get(key), after.get(key))));
    }
    found.retain(|(_, changes)| !changes.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::style::stripped;
    use crate::yaml::documents;

    const BEFORE: &str = "\
apiVersion: millrace.dev/v1alpha1
kind: MLPipeline
metadata: { name: p, uid: u }
spec:
  params: { rows: { type: integer, default: 1 } }
  triggers: { onChange: true }
  stages:
    a: { container: { image: i:1, command: [c] } }
    b: { container: { image: i:1, command: [c] } }
";

    fn object(text: &str) -> Object {
        Object { kind: "MLPipeline".into(), name: "p".into(), node: documents(text).unwrap().remove(0) }
    }

    fn text(before: Option<&str>, after: &str) -> String {
        let there: Option<MLPipeline> = before.map(|text| serde_json::from_value(object(text).node.json()).unwrap());
        stripped(&Proposal::new(&object(after), Vec::new(), there.as_ref(), &Known::default()).text())
    }

    #[test]
    fn what_comes_goes_and_changes_is_told() {
        let after = BEFORE
            .replace("i:1, command: [c] } }\n    b:", "i:2, command: [c] } }\n    n:")
            .replace("default: 1", "default: 2");
        assert_eq!(
            text(Some(BEFORE), &after),
            "MLPipeline p changes\n  ~ param rows\n      ~ default: 1 → 2\n  ~ stage a\n      ~ container.image: i:1 → i:2\n  - stage b\n  + stage n\n\
             A run does: a, n\nA run starts when it is applied: onChange is true, and what runs is not what the last change ran\n"
        );
    }

    #[test]
    fn a_new_one_is_all_new_and_the_same_changes_nothing() {
        assert!(
            text(None, BEFORE).starts_with("MLPipeline p is new\n  + param rows\n  + stage a\n  + stage b\n"),
            "{}",
            text(None, BEFORE)
        );
        let quiet = BEFORE.replace("  triggers: { onChange: true }\n", "");
        assert_eq!(
            text(Some(&quiet), &quiet),
            "MLPipeline p stays as it is\nA run does: a, b\nNo run starts for the change: triggers.onChange is not set\n"
        );
    }
}
