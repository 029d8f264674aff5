//! Stages that run another pipeline, beside that pipeline as it is now. It may be another one when the stage begins: who knows both tells of what
//! would fail then.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Problems, params};
use crate::api::{MLPipeline, MLPipelineSpec, NestedPipeline, Stage};
use crate::expr;
use crate::pipeline::stage_path;
use crate::problem::Problem;

/// What the other pipelines would not take, or do not give. One that is not among `others` is not known.
#[must_use]
pub fn beside(spec: &MLPipelineSpec, others: &BTreeMap<String, Arc<MLPipeline>>) -> Vec<Problem> {
    let mut problems = Problems::default();
    for (finally, stages) in [(false, &spec.stages), (true, &spec.finally)] {
        for (name, stage) in stages {
            let Some(nested) = &stage.pipeline else { continue };
            let Some(other) = others.get(&nested.name) else { continue };
            let at = stage_path(finally, name);
            inputs(stage, nested, &other.spec, &format!("{at}.inputs"), &mut problems);
            values(nested, &other.spec, &format!("{at}.pipeline.params"), &mut problems);
            gives(nested, &other.spec, &format!("{at}.pipeline"), &mut problems);
        }
    }
    problems.result().err().unwrap_or_default()
}

fn inputs(stage: &Stage, nested: &NestedPipeline, other: &MLPipelineSpec, at: &str, problems: &mut Problems) {
    let called = &nested.name;
    for name in stage.inputs.keys().filter(|name| !other.inputs.contains_key(*name)) {
        let hint = expr::did_you_mean(name, other.inputs.keys().map(String::as_str));
        let message = format!("the pipeline `{called}` has no input `{name}`: {hint}");
        problems.add(format!("{at}.{name}"), "UnknownInput", message);
    }
    for (name, input) in &other.inputs {
        if !(input.optional || input.default.is_some() || stage.inputs.contains_key(name)) {
            let message =
                format!("the pipeline `{called}` needs the input `{name}`: write {name}: {{ from: <stage>.<output> }}");
            problems.add(format!("{at}.{name}"), super::MISSING_INPUT, message);
        }
    }
}

fn values(nested: &NestedPipeline, other: &MLPipelineSpec, at: &str, problems: &mut Problems) {
    params::known(&other.params, &nested.params, at, problems);
    for (name, value) in &nested.params {
        // What an expression gives is known when the stage begins.
        if let Some(param) = other.params.get(name).filter(|_| expr::references_in(value).is_empty()) {
            let text = value.as_str().is_some_and(expr::has_template);
            if !(text || value.is_null() && param.optional) {
                params::fits(value, param, &format!("{at}.{name}"), problems);
            }
        }
    }
}

/// Outputs and results that stages of the other one have.
fn gives(nested: &NestedPipeline, other: &MLPipelineSpec, at: &str, problems: &mut Problems) {
    let called = &nested.name;
    let stage = |name: &str| other.stages.get(name).or_else(|| other.finally.get(name));
    let absent = |name: &str| {
        let hint = expr::did_you_mean(name, other.stages.keys().map(String::as_str));
        format!("the pipeline `{called}` has no stage `{name}`: {hint}")
    };
    if let Some(results) = nested.results.as_ref().filter(|results| stage(results).is_none()) {
        problems.add(format!("{at}.results"), "UnknownStage", absent(results));
    }
    for (output, wanted) in &nested.outputs {
        let Some((from, name)) = wanted.from.split_once('.') else { continue };
        let path = format!("{at}.outputs.{output}.from");
        match stage(from) {
            None => problems.add(path, "UnknownStage", absent(from)),
            // What a template or another pipeline gives is looked at there.
            Some(found)
                if found.container.is_some() && found.for_each.is_none() && !found.outputs.contains_key(name) =>
            {
                let hint = expr::did_you_mean(name, found.outputs.keys().map(String::as_str));
                let message = format!("the stage `{from}` of the pipeline `{called}` has no output `{name}`: {hint}");
                problems.add(path, "UnknownOutput", message);
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_other_pipeline_does_not_take_or_give_is_told_with_its_field() {
        let inner = json!({
            "params": { "word": { "type": "string" }, "times": { "type": "integer", "default": 1 } },
            "inputs": { "text": {}, "rules": { "optional": true } },
            "stages": { "count": { "container": { "image": "i", "command": ["c"] }, "outputs": { "n": {} } } },
        });
        let others = BTreeMap::from([(
            "inner".to_owned(),
            Arc::new(MLPipeline::new("inner", serde_json::from_value(inner).unwrap())),
        )]);
        let found = |stage: serde_json::Value| -> Vec<String> {
            let spec = serde_json::from_value(json!({ "stages": { "a": stage } })).unwrap();
            beside(&spec, &others).into_iter().map(|problem| problem.to_string()).collect()
        };
        let right = json!({
            "inputs": { "text": { "from": "x.y" } },
            "pipeline": { "name": "inner", "params": { "word": "$[[ item ]]", "times": "$[[ 2 ]]" }, "results": "count", "outputs": { "n": { "from": "count.n" } } },
        });
        assert_eq!(found(right), Vec::<String>::new());
        assert_eq!(found(json!({ "pipeline": { "name": "elsewhere", "results": "nobody" } })), Vec::<String>::new());
        let wrong = json!({
            "inputs": { "txt": { "from": "x.y" } },
            "pipeline": { "name": "inner", "params": { "wrd": "x", "times": "two" }, "results": "cnt", "outputs": { "n": { "from": "count.m" } } },
        });
        let said = found(wrong);
        for words in [
            "spec.stages.a.inputs.txt: the pipeline `inner` has no input `txt`: did you mean `text`?",
            "spec.stages.a.inputs.text: the pipeline `inner` needs the input `text`",
            "spec.stages.a.pipeline.params.wrd: no parameter `wrd` is declared: did you mean `word`?",
            "spec.stages.a.pipeline.params.word: the parameter `word` is required",
            "spec.stages.a.pipeline.params.times: \"two\" is no integer",
            "spec.stages.a.pipeline.results: the pipeline `inner` has no stage `cnt`: there is count",
            "spec.stages.a.pipeline.outputs.n.from: the stage `count` of the pipeline `inner` has no output `m`",
        ] {
            assert!(said.iter().any(|said| said.starts_with(words)), "{words}\n{said:#?}");
        }
        assert_eq!(said.len(), 7, "{said:#?}");
    }
}
