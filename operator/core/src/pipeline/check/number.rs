//! `run.number`, where there is none.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::api::{MLPipelineSpec, StageTemplate};
use crate::expr;
use crate::problem::Problem;

/// Fields that are expressions by themselves: of a stage, its `retry` and its `gate`.
const BARE: [&str; 2] = ["when", "pass"];

/// Every field of a pipeline that is written in place that names the number of the run, and every stage whose StageTemplate does.
pub(super) fn named(spec: &MLPipelineSpec, templates: &BTreeMap<String, Arc<StageTemplate>>) -> Vec<Problem> {
    let mut paths = Vec::new();
    look(&json(spec), "", "spec", &mut paths);
    for (part, stages) in [("stages", &spec.stages), ("finally", &spec.finally)] {
        for (name, stage) in stages {
            let mut of_template = Vec::new();
            if let Some(template) = stage.uses.as_ref().and_then(|uses| templates.get(uses)) {
                look(&json(&template.spec), "", "spec", &mut of_template);
            }
            paths.extend((!of_template.is_empty()).then(|| format!("spec.{part}.{name}.uses")));
        }
    }
    let message = "the run has no number: the runs of an MLPipeline are counted, and this pipeline is written in place. Write run.name, which is \
                   another for each run, or make it an MLPipeline and a run with pipelineRef";
    paths.into_iter().map(|path| Problem::new(path, "NoRunNumber", message)).collect()
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn look(value: &Value, field: &str, path: &str, found: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let bare = BARE.contains(&field).then(|| expr::references(text).unwrap_or_default());
            let named: Vec<_> = expr::references_in(value).into_iter().chain(bare.into_iter().flatten()).collect();
            if named
                .iter()
                .any(|name| matches!(name.as_slice(), [run, number, ..] if run == "run" && number == "number"))
            {
                found.push(path.to_owned());
            }
        }
        Value::Array(values) => {
            for (i, value) in values.iter().enumerate() {
                look(value, field, &format!("{path}[{i}]"), found);
            }
        }
        Value::Object(map) => {
            for (name, value) in map {
                look(value, name, &format!("{path}.{name}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Config;
    use crate::pipeline::check::{check, check_in_place};

    #[test]
    fn a_pipeline_that_is_written_in_place_cannot_ask_for_the_number_of_its_run() {
        let container = json!({ "image": "i", "command": ["c"], "args": ["run.number", "$[[ run.number ]]"] });
        let spec: MLPipelineSpec = serde_json::from_value(json!({
            "stages": { "a": { "container": container }, "b": { "uses": "t", "when": "run.number > 1.0 || stages.a.status == 'Failed'" } },
        }))
        .unwrap();
        let template = json!({ "container": { "image": "i", "command": ["c"], "env": { "N": { "value": "$[[ run.number ]]" } } } });
        let template = StageTemplate::new("t", serde_json::from_value(template).unwrap());
        let templates = BTreeMap::from([("t".to_owned(), Arc::new(template))]);
        assert!(check(&spec, &templates, &Config::default()).is_ok(), "an MLPipeline can");
        let problems = check_in_place(&spec, &templates, &Config::default()).unwrap_err();
        let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["spec.stages.a.container.args[1]", "spec.stages.b.when", "spec.stages.b.uses"]);
        assert!(
            problems.iter().all(|problem| problem.reason == "NoRunNumber" && problem.message.contains("pipelineRef"))
        );
    }
}
