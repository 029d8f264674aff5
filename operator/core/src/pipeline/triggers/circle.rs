//! Pipelines that would start each other for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::{MLPipeline, MLPipelineSpec};
use crate::problem::Problem;

/// The triggers of a pipeline that lead back to it. `others` are the pipelines of the namespace that it follows, and those that they follow.
#[must_use]
pub fn find(name: &str, spec: &MLPipelineSpec, others: &BTreeMap<String, Arc<MLPipeline>>) -> Vec<Problem> {
    let circle = |(trigger, first): (&str, &str)| {
        let way = way(first, name, others)?;
        let at = format!("spec.triggers.onPipeline.{trigger}.pipeline");
        Some(Problem::new(at, "TriggerCircle", message(name, &way)))
    };
    follows(spec).filter_map(circle).collect()
}

/// Triggers that go on, and the pipelines that they name.
fn follows(spec: &MLPipelineSpec) -> impl Iterator<Item = (&str, &str)> {
    let triggers = spec.triggers.iter().flat_map(|triggers| &triggers.on_pipeline);
    triggers.filter(|(_, of)| !of.suspend).map(|(name, of)| (name.as_str(), of.pipeline.as_str()))
}

/// From a pipeline over those that it follows to `end`: none if there is no way.
fn way<'a>(start: &'a str, end: &'a str, others: &'a BTreeMap<String, Arc<MLPipeline>>) -> Option<Vec<&'a str>> {
    let mut seen = BTreeSet::from([start]);
    let mut ways = vec![vec![start]];
    while let Some(way) = ways.pop() {
        let last = way.last().copied()?;
        if last == end {
            return Some(way);
        }
        for (_, next) in others.get(last).into_iter().flat_map(|pipeline| follows(&pipeline.spec)) {
            if seen.insert(next) {
                ways.push(way.iter().copied().chain([next]).collect());
            }
        }
    }
    None
}

fn message(name: &str, way: &[&str]) -> String {
    if way.len() == 1 {
        return format!("`{name}` would start itself for ever: name another pipeline");
    }
    let starts: Vec<String> = way.iter().rev().map(|name| format!("`{name}`")).collect();
    format!(
        "{} starts `{name}`: they would start each other for ever; take one of these triggers out",
        starts.join(" starts ")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pipeline(follows: &[&str]) -> Arc<MLPipeline> {
        let triggers: serde_json::Map<_, _> =
            follows.iter().map(|name| ((*name).to_owned(), json!({ "pipeline": name }))).collect();
        let spec = json!({ "stages": {}, "triggers": { "onPipeline": triggers } });
        Arc::new(MLPipeline::new("p", serde_json::from_value(spec).unwrap()))
    }

    #[test]
    fn a_circle_is_found_from_each_of_its_pipelines_and_from_no_other() {
        let all: BTreeMap<String, Arc<MLPipeline>> =
            [("a", vec!["c"]), ("b", vec!["a"]), ("c", vec!["b"]), ("d", vec!["a", "x"]), ("e", vec!["e"])]
                .into_iter()
                .map(|(name, follows)| (name.to_owned(), pipeline(&follows)))
                .collect();
        let found = |name: &str| find(name, &all[name].spec, &all);
        for name in ["a", "b", "c"] {
            assert_eq!(found(name).len(), 1, "{name}");
        }
        assert!(found("d").is_empty());
        assert_eq!(found("b")[0].path, "spec.triggers.onPipeline.a.pipeline");
        assert_eq!(
            found("b")[0].message,
            "`b` starts `c` starts `a` starts `b`: they would start each other for ever; take one of these triggers out"
        );
        assert_eq!(found("e")[0].message, "`e` would start itself for ever: name another pipeline");
    }

    #[test]
    fn a_trigger_that_is_suspended_closes_no_circle() {
        let mut a = pipeline(&["b"]);
        let others = BTreeMap::from([("b".to_owned(), pipeline(&["a"]))]);
        assert_eq!(find("a", &a.spec, &others).len(), 1);
        let triggers = Arc::make_mut(&mut a).spec.triggers.as_mut().unwrap();
        triggers.on_pipeline.get_mut("b").unwrap().suspend = true;
        assert!(find("a", &a.spec, &others).is_empty());
    }
}
