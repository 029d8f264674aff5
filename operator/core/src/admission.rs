//! What a person is told when they apply something: the operator's own checks, before anything is stored.
//!
//! Refused is only what is wrong in itself. What depends on other objects may come true a moment later, because a file with a pipeline and its
//! StageTemplate is applied in any order: of that there are warnings, and the condition `Accepted` has the last word.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::{
    InferenceGraph, MLPipeline, MLPipelineRunSpec, MLPipelineSpec, ModelDeployment, StageTemplate, StageTemplateSpec,
};
use crate::config::Config;
use crate::deployment;
use crate::graph;
use crate::pipeline::{self, Frozen, beside, bind, check_template, circles, foreign};
use crate::problem::Problem;
use crate::run::misplaced;

/// What the answer to somebody who applies an object is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// What is wrong in itself: it is refused.
    pub problems: Vec<Problem>,
    /// What is wrong with what is there now, or is rarely meant.
    pub warnings: Vec<Problem>,
}

/// What is there now, as far as the object refers to it.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// StageTemplates by name: the namespace's own, and the catalog's where it has none of that name.
    pub templates: BTreeMap<String, Arc<StageTemplate>>,
    /// MLPipelines of the namespace.
    pub pipelines: BTreeMap<String, Arc<MLPipeline>>,
}

/// A pipeline. Without `known` nothing is said of what it refers to.
#[must_use]
pub fn pipeline(name: &str, spec: &MLPipelineSpec, known: Option<&Known>, config: &Config) -> Verdict {
    pipeline_by(pipeline::check, name, spec, known, config)
}

type Check = fn(&MLPipelineSpec, &BTreeMap<String, Arc<StageTemplate>>, &Config) -> Result<Frozen, Vec<Problem>>;

fn pipeline_by(check: Check, name: &str, spec: &MLPipelineSpec, known: Option<&Known>, config: &Config) -> Verdict {
    let Known { templates, pipelines } = Known::default();
    let mut problems = check(spec, &templates, config).err().unwrap_or_default();
    problems.retain(|problem| problem.reason != pipeline::UNKNOWN_TEMPLATE);
    problems.extend(circles(name, spec, &pipelines));
    let mut warnings = Vec::new();
    if let Some(Known { templates, pipelines }) = known {
        warnings = check(spec, templates, config).err().unwrap_or_default();
        warnings.extend(circles(name, spec, pipelines));
        warnings.extend(beside(spec, pipelines));
        warnings.retain(|problem| !problems.contains(problem));
    }
    warnings.extend(foreign::in_pipeline(spec));
    Verdict { problems, warnings }
}

/// A run that is made.
#[must_use]
pub fn run(spec: &MLPipelineRunSpec, known: Option<&Known>, config: &Config) -> Verdict {
    let Some(inline) = &spec.pipeline else {
        return Verdict { problems: Vec::new(), warnings: of_named(spec, known, config) };
    };
    let mut verdict = pipeline_by(pipeline::check_in_place, "", inline, known, config);
    for problem in verdict.problems.iter_mut().chain(&mut verdict.warnings) {
        problem.path = problem.path.replacen("spec", "spec.pipeline", 1);
    }
    verdict.problems.extend(bind(inline, spec, "spec."));
    verdict
}

/// A run whose control fields a person changes. Its pipeline stays as it is, and what stops or decides it is never refused for that.
#[must_use]
pub fn control(spec: &MLPipelineRunSpec, known: Option<&Known>, config: &Config) -> Verdict {
    let Some(known) = known else { return Verdict::default() };
    let Some(pipeline) = of_run(spec, known) else { return Verdict::default() };
    let frozen = pipeline::check(pipeline, &known.templates, config);
    let warnings = frozen.map(|frozen| misplaced(&frozen, &spec.approvals)).unwrap_or_default();
    Verdict { problems: Vec::new(), warnings }
}

/// A StageTemplate.
#[must_use]
pub fn template(spec: &StageTemplateSpec, config: &Config) -> Verdict {
    Verdict {
        problems: check_template(spec, config).err().unwrap_or_default(),
        warnings: foreign::in_container(&spec.container, "spec.container"),
    }
}

/// A ModelDeployment.
#[must_use]
pub fn model_deployment(deployment: &ModelDeployment, config: &Config) -> Verdict {
    Verdict { problems: deployment::check(deployment, config), warnings: Vec::new() }
}

/// An InferenceGraph. Models that are not there may come in the same file.
#[must_use]
pub fn inference_graph(graph: &InferenceGraph) -> Verdict {
    Verdict { problems: graph::check(graph), warnings: Vec::new() }
}

fn of_run<'a>(spec: &'a MLPipelineRunSpec, known: &'a Known) -> Option<&'a MLPipelineSpec> {
    let named = || Some(&known.pipelines.get(&spec.pipeline_ref.as_ref()?.name)?.spec);
    spec.pipeline.as_ref().or_else(named)
}

/// What a run would be refused for if its pipeline stayed as it is. One that is not there yet is waited for.
fn of_named(spec: &MLPipelineRunSpec, known: Option<&Known>, config: &Config) -> Vec<Problem> {
    let Some(pipeline) = known.and_then(|known| of_run(spec, known)) else { return Vec::new() };
    let mut found = bind(pipeline, spec, "spec.");
    found.extend(control(spec, known, config).warnings);
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    fn known(templates: Value, pipelines: Value) -> Known {
        let templates: BTreeMap<String, StageTemplateSpec> = serde_json::from_value(templates).unwrap();
        let pipelines: BTreeMap<String, MLPipelineSpec> = serde_json::from_value(pipelines).unwrap();
        let template = |(name, spec): (String, _)| (name.clone(), Arc::new(StageTemplate::new(&name, spec)));
        let named = |(name, spec): (String, _)| (name.clone(), Arc::new(MLPipeline::new(&name, spec)));
        Known {
            templates: templates.into_iter().map(template).collect(),
            pipelines: pipelines.into_iter().map(named).collect(),
        }
    }

    fn words(problems: &[Problem]) -> Vec<&str> {
        problems.iter().map(|problem| problem.reason).collect()
    }

    fn of_pipeline(spec: &Value, known: Option<&Known>) -> Verdict {
        pipeline("p", &serde_json::from_value(spec.clone()).unwrap(), known, &Config::default())
    }

    fn stage(more: &Value) -> Value {
        let mut stage = json!({ "container": { "image": "i", "command": ["c"] } });
        stage.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        stage
    }

    #[test]
    fn what_is_wrong_in_itself_is_refused_whatever_is_there() {
        let spec =
            json!({ "stages": { "a": stage(&json!({ "needs": ["b"] })), "b": stage(&json!({ "needs": ["a"] })) } });
        let refused = of_pipeline(&spec, None);
        assert!(!refused.problems.is_empty() && refused.warnings.is_empty(), "{refused:?}");
        assert_eq!(of_pipeline(&spec, Some(&Known::default())), refused, "nothing is said twice");
        let itself =
            json!({ "stages": { "a": stage(&json!({})) }, "triggers": { "onPipeline": { "t": { "pipeline": "p" } } } });
        assert_eq!(words(&of_pipeline(&itself, None).problems), ["TriggerCircle"]);
    }

    #[test]
    fn what_may_come_later_is_a_warning() {
        let later = json!({
            "stages": {
                "a": { "uses": "later", "with": { "x": 1 } },
                "b": stage(&json!({ "inputs": { "d": { "from": "a.data" } }, "when": "stages.a.results.rows > 1" })),
            },
            "store": { "pvc": { "claimName": "c" } },
        });
        let verdict = of_pipeline(&later, None);
        assert_eq!(verdict, Verdict::default());
        let verdict = of_pipeline(&later, Some(&Known::default()));
        assert_eq!((verdict.problems.len(), words(&verdict.warnings)), (0, vec!["UnknownTemplate"]));
        // The one that is there is another than the one that comes in the same file.
        let before = known(json!({ "later": { "container": { "image": "i", "command": ["c"] } } }), json!({}));
        let verdict = of_pipeline(&later, Some(&before));
        assert!(verdict.problems.is_empty() && verdict.warnings.len() >= 2, "{verdict:?}");
    }

    #[test]
    fn what_a_template_may_bring_is_not_held_against_its_stage() {
        let spec = json!({
            "defaults": { "retry": { "limit": 1, "when": "exitCode == 2" } },
            "stages": { "a": { "uses": "later", "forEach": { "items": [1, 2] } } },
        });
        assert_eq!(of_pipeline(&spec, None), Verdict::default());
    }

    #[test]
    fn pipelines_that_would_start_each_other_are_a_warning_because_the_other_may_change_too() {
        let follows = |name: &str| json!({ "stages": { "a": stage(&json!({})) }, "triggers": { "onPipeline": { "t": { "pipeline": name } } } });
        let there = known(json!({}), json!({ "q": follows("p") }));
        let verdict = of_pipeline(&follows("q"), Some(&there));
        assert_eq!((verdict.problems.len(), words(&verdict.warnings)), (0, vec!["TriggerCircle"]));
    }

    #[test]
    fn a_run_is_refused_for_its_own_pipeline_and_warned_of_a_named_one() {
        let run_of =
            |spec: Value, known: Option<&Known>| run(&serde_json::from_value(spec).unwrap(), known, &Config::default());
        let spec =
            json!({ "params": { "n": { "type": "integer" } }, "stages": { "a": stage(&json!({ "needs": ["z"] })) } });
        let inline = run_of(json!({ "pipeline": spec, "params": { "n": "x" } }), None);
        let paths: Vec<_> = inline.problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["spec.pipeline.stages.a.needs[0]", "spec.params.n"], "{inline:?}");
        let there = known(
            json!({}),
            json!({ "p": { "params": { "n": { "type": "integer" } }, "stages": { "a": stage(&json!({})) } } }),
        );
        let named = json!({ "pipelineRef": { "name": "p" }, "params": { "m": 1 }, "approvals": { "a": { "decision": "Approve", "by": "me" } } });
        let verdict = run_of(named.clone(), Some(&there));
        assert_eq!(verdict.problems, []);
        assert_eq!(words(&verdict.warnings).into_iter().collect::<BTreeSet<_>>().len(), 3, "{verdict:?}");
        assert_eq!(run_of(named.clone(), Some(&Known::default())), Verdict::default(), "it may come");
        let control = control(&serde_json::from_value(named).unwrap(), Some(&there), &Config::default());
        assert_eq!((control.problems.len(), words(&control.warnings)), (0, vec!["UnknownApproval"]));
    }

    #[test]
    fn templates_and_deployments_have_their_own_checks() {
        let spec =
            json!({ "container": { "image": "i", "command": ["c"], "args": ["$[[ params.x ]]", "{{ params.x }}"] } });
        let verdict = template(&serde_json::from_value(spec).unwrap(), &Config::default());
        assert_eq!((verdict.problems.len(), words(&verdict.warnings)), (1, vec!["NotReplaced"]), "{verdict:?}");
        let spec = json!({ "model": { "name": "m" }, "scale": { "max": 2, "toZeroAfter": "1ms" } });
        let verdict =
            model_deployment(&ModelDeployment::new("M", serde_json::from_value(spec).unwrap()), &Config::default());
        assert_eq!(words(&verdict.problems), ["InvalidName", "InvalidDuration"], "{verdict:?}");
    }
}
