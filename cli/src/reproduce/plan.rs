//! The run that makes a version once more: the stages that its model and metrics come from, as they were frozen.
//!
//! What decides, registers or deploys is left out, and with it what only comes after it. A stage from a StageTemplate gets a copy of the
//! template as it was, for the template of its name may be another by now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::api::ObjectMeta;
use millrace_core::api::{
    Cache, CacheMode, Container, Described, Lineage, Lock, MLPipelineRun, MLPipelineRunSpec, MLPipelineSpec,
    ModelVersion, OnFailure, PipelineInput, Register, Stage, StageTemplate, StageTemplateSpec, TemplateInput,
};
use millrace_core::pipeline::{self, Bond, Frozen, FrozenContainer, FrozenKind, FrozenStage, bind_params};
use millrace_core::{duration, names, problem};
use regex::Regex;

use super::made::Sources;
use crate::lint::config;

/// What is made, and what the person should know of it.
#[derive(Debug)]
pub struct Plan {
    pub run: MLPipelineRun,
    pub templates: Vec<StageTemplate>,
    pub notes: Vec<String>,
}

/// The name of the run, and the beginning of those of its templates.
pub fn name(version: &str, suffix: &str) -> String {
    names::joined(&[version, "again", suffix])
}

/// Plans the run, or says why it cannot be made.
pub fn plan(name: &str, version: &ModelVersion, frozen: &Frozen, pinned: bool) -> Result<Plan, String> {
    let of = version.name_any();
    let lineage = version.spec.lineage.clone().unwrap_or_default();
    let register = registered(version, &lineage, frozen)
        .ok_or_else(|| format!("ModelVersion {of}: what its run ran registers no model of stage {}", lineage.stage))?;
    let roots = [Some(lineage.stage.as_str()), register.metrics.as_deref()];
    let kept = kept(frozen, roots.into_iter().flatten())?;
    let mut planned =
        Planned { name, lineage: &lineage, pinned, frozen, kept: &kept, templates: Vec::new(), notes: Vec::new() };
    let stages = kept.iter().filter_map(|stage| planned.stage(stage)).collect();
    let Planned { templates, notes, .. } = planned;
    let spec = MLPipelineSpec {
        params: frozen.params.clone(),
        inputs: given_again(frozen, &lineage),
        store: frozen.store.clone(),
        timeout: frozen.timeout_seconds.map(seconds),
        locks: locks(&frozen.locks),
        stages,
        ..MLPipelineSpec::default()
    };
    check(&of, &spec, &templates, version)?;
    let sources = Sources { version: of, model: register.from.clone(), metrics: register.metrics.clone() };
    let params = version.spec.params.iter().filter(|(name, _)| frozen.params.contains_key(*name));
    let spec = MLPipelineRunSpec {
        params: params.map(|(name, value)| (name.clone(), value.clone())).collect(),
        pipeline: Some(spec),
        inputs: lineage.inputs.clone(),
        code: lineage.code.clone(),
        ..MLPipelineRunSpec::default()
    };
    let metadata =
        ObjectMeta { name: Some(name.to_owned()), annotations: Some(sources.annotations()), ..ObjectMeta::default() };
    Ok(Plan { run: MLPipelineRun { metadata, spec, status: None }, templates, notes })
}

/// Inputs that the run was given artifacts for, and those that it need not be given. What was read at an address is in a stage.
fn given_again(frozen: &Frozen, lineage: &Lineage) -> BTreeMap<String, PipelineInput> {
    let wanted = frozen.inputs.iter().filter(|(name, input)| input.optional || lineage.inputs.contains_key(*name));
    wanted.map(|(name, input)| (name.clone(), PipelineInput { default: None, ..input.clone() })).collect()
}

/// The stage that registered the version: it is the version's label, or else the one that registers such a model.
fn registered<'a>(version: &ModelVersion, lineage: &Lineage, frozen: &'a Frozen) -> Option<&'a Register> {
    let of = |stage: &'a FrozenStage| match &stage.kind {
        FrozenKind::Register(register) => Some(register),
        FrozenKind::Container(_)
        | FrozenKind::Pipeline(_)
        | FrozenKind::Approve(_)
        | FrozenKind::Deploy(_)
        | FrozenKind::Report(_) => None,
    };
    let fits = |register: &&Register| {
        let producer = register.from.split_once('.').map(|(stage, _)| stage);
        register.model == version.spec.model && producer == Some(lineage.stage.as_str())
    };
    let labeled = version.labels().get(names::STAGE_LABEL).and_then(|name| of(frozen.stages.get(name)?));
    labeled.filter(fits).or_else(|| frozen.stages.values().filter_map(of).find(fits))
}

/// These stages and all that they come after, as far as programs run in them.
fn kept<'a>(frozen: &'a Frozen, roots: impl Iterator<Item = &'a str>) -> Result<BTreeSet<&'a str>, String> {
    let mut kept = BTreeSet::new();
    let mut next: Vec<&str> = roots.collect();
    while let Some(name) = next.pop() {
        let Some(stage) = frozen.stages.get(name) else { continue };
        match &stage.kind {
            FrozenKind::Container(_) => {
                if kept.insert(name) {
                    next.extend(stage.needs.iter().map(String::as_str));
                }
            }
            FrozenKind::Pipeline(nested) => {
                return Err(format!(
                    "stage {name} ran the pipeline {}, which is not kept with this run: what it would run now may be something else. Reproduce a \
                     version that a run of {} registered itself, or run the pipeline again",
                    nested.pipeline.name, nested.pipeline.name
                ));
            }
            FrozenKind::Approve(_) | FrozenKind::Register(_) | FrozenKind::Deploy(_) | FrozenKind::Report(_) => {}
        }
    }
    Ok(kept)
}

/// It would be refused by the operator: it is told here, and nothing is made.
fn check(of: &str, spec: &MLPipelineSpec, templates: &[StageTemplate], version: &ModelVersion) -> Result<(), String> {
    let json = serde_json::to_value((spec, templates)).map_err(|error| error.to_string())?;
    let known: BTreeMap<_, _> =
        templates.iter().map(|template| (template.name_any(), Arc::new(template.clone()))).collect();
    let mut problems = pipeline::check_in_place(spec, &known, &config(&json)).err().unwrap_or_default();
    problems.extend(bind_params(&spec.params, &version.spec.params, "spec.params").err().unwrap_or_default());
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!(
        "ModelVersion {of} cannot be made without the stages that are left out:\n{}",
        problem::every(&problems)
    ))
}

/// The stages so far.
struct Planned<'a> {
    name: &'a str,
    lineage: &'a Lineage,
    pinned: bool,
    frozen: &'a Frozen,
    kept: &'a BTreeSet<&'a str>,
    templates: Vec<StageTemplate>,
    notes: Vec<String>,
}

impl Planned<'_> {
    fn stage(&mut self, name: &str) -> Option<(String, Stage)> {
        let frozen = self.frozen.stages.get(name)?;
        let FrozenKind::Container(program) = &frozen.kind else { return None };
        for (input, source) in &program.inputs {
            if let Some(deployed) = &source.deployed {
                self.notes.push(format!(
                    "note: input {input} of stage {name} is what ModelDeployment {deployed} serves now, which may be another model than then"
                ));
            }
            if let Some(model) = source.model.as_ref().filter(|model| model.version.is_none()) {
                self.notes.push(format!(
                    "note: input {input} of stage {name} is the newest version of the model {} now, which may be another than then",
                    model.name
                ));
            }
        }
        let follows = |need: &&String| self.kept.contains(need.as_str()) && frozen.bond(need) == Bond::Follows;
        let mut stage = Stage {
            needs: frozen.needs.iter().filter(follows).cloned().collect(),
            when: frozen.when.clone(),
            on_failure: Some(frozen.on_failure).filter(|on_failure| *on_failure != OnFailure::Stop),
            with: program.with.clone(),
            code: program.code,
            inputs: program.inputs.clone(),
            for_each: program.for_each.clone(),
            cache: Some(Cache { mode: CacheMode::Off, ..Cache::default() }),
            retry: Some(program.retry.clone()),
            timeout: program.timeout_seconds.map(seconds),
            pending_timeout: Some(seconds(program.pending_timeout_seconds)),
            locks: locks(&frozen.locks),
            ..Stage::default()
        };
        let mut container = program.container.clone();
        self.pin(name, &mut container.image);
        if program.template.is_some() {
            let template = names::joined(&[self.name, name]);
            self.templates.push(StageTemplate::new(&template, self.template(name, program, container)));
            stage.uses = Some(template);
        } else {
            stage.container = Some(container);
            stage.outputs.clone_from(&program.outputs);
        }
        Some((name.to_owned(), stage))
    }

    /// The digest that ran, behind whatever tag was written.
    fn pin(&mut self, stage: &str, image: &mut String) {
        if !self.pinned || image.contains('@') {
            return;
        }
        match self.lineage.images.get(stage) {
            Some(_) if image.contains("$[[") => self.notes.push(format!(
                "note: the image of stage {stage} is an expression, which takes no digest: what it gives now is run, and compared"
            )),
            Some(digest) => *image = format!("{image}@{digest}"),
            None => {}
        }
    }

    /// The template as it was. What it declared of inputs and results is not kept, so it takes any and gives those that others name.
    fn template(&self, name: &str, program: &FrozenContainer, container: Container) -> StageTemplateSpec {
        let any = TemplateInput { optional: true, ..TemplateInput::default() };
        let results = named_results(self.frozen, self.kept, name);
        StageTemplateSpec {
            description: Some(format!(
                "Of run {}: {} as it was",
                self.name,
                program.template.as_deref().unwrap_or(name)
            )),
            params: program.template_params.clone(),
            inputs: BTreeMap::from([("*".to_owned(), any)]),
            outputs: program.outputs.clone(),
            results: results.into_iter().map(|result| (result, Described::default())).collect(),
            container,
            ..StageTemplateSpec::default()
        }
    }
}

/// The results of a stage that the expressions of others name.
fn named_results(frozen: &Frozen, kept: &BTreeSet<&str>, stage: &str) -> BTreeSet<String> {
    let Ok(named) = Regex::new(&format!(r"\bstages\.{}\.results\.([A-Za-z_][A-Za-z0-9_]*)", stage.replace('-', "_")))
    else {
        return BTreeSet::new();
    };
    let others = kept.iter().filter_map(|name| serde_json::to_string(frozen.stages.get(*name)?).ok());
    others.flat_map(|text| named.captures_iter(&text).map(|found| found[1].to_owned()).collect::<Vec<_>>()).collect()
}

fn seconds(seconds: u64) -> String {
    duration::format(Duration::from_secs(seconds))
}

fn locks(bounds: &BTreeMap<String, u32>) -> BTreeMap<String, Lock> {
    bounds.iter().map(|(name, max)| (name.clone(), Lock { max: *max })).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn program(image: &str, more: &Value) -> Value {
        let mut stage = json!({ "container": { "image": image, "command": ["c"] } });
        stage.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        stage
    }

    fn pipeline_of() -> MLPipelineSpec {
        serde_json::from_value(json!({
            "params": { "rows": { "type": "integer", "default": 3 } },
            "store": { "pvc": { "claimName": "c" } },
            "timeout": "90m",
            "stages": {
                "load": { "uses": "load", "with": { "n": "$[[ params.rows ]]" }, "locks": { "lake": { "max": 2 } } },
                "look": program("look:1", &json!({ "needs": ["load"] })),
                "train": program("train:1", &json!({
                    "needs": ["look", "sign"], "inputs": { "d": { "from": "load.data" } },
                    "outputs": { "model": { "type": "model" } }, "when": "stages.load.results.row_count > 1",
                })),
                "sign": { "needs": ["look"], "approve": { "message": "go?" } },
                "judge": program("judge@sha256:aa", &json!({
                    "inputs": { "m": { "from": "train.model" }, "champion": { "deployed": "m", "optional": true } },
                    "gate": { "pass": "metrics.f1 > 0.5" }, "timeout": "5m",
                })),
                "unrelated": program("x:1", &json!({})),
                "register": { "needs": ["judge"], "register": { "model": "m", "from": "train.model", "metrics": "judge" } },
                "deploy": { "deploy": { "modelDeployment": "m", "version": "register" } },
            },
            "finally": { "tell": program("tell:1", &json!({})) },
        }))
        .unwrap()
    }

    fn frozen() -> Frozen {
        let load = json!({
            "params": { "n": { "type": "integer" } }, "outputs": { "data": {} }, "results": { "row_count": {} },
            "container": { "image": "load:1", "command": ["load", "$[[ params.n ]]"] }
        });
        let load = StageTemplate::new("load", serde_json::from_value(load).unwrap());
        pipeline::check(&pipeline_of(), &BTreeMap::from([("load".to_owned(), Arc::new(load))]), &config(&Value::Null))
            .unwrap()
    }

    fn version() -> ModelVersion {
        let images = ["load", "look", "train", "judge"].map(|stage| (stage.to_owned(), "sha256:bb".to_owned()));
        serde_json::from_value(json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "ModelVersion", "metadata": { "name": "m-v1" },
            "spec": {
                "model": "m", "version": 1, "format": "onnx", "params": { "rows": 7 },
                "artifact": { "uri": "pvc://c/runs/r/train/attempts/1/outputs/model", "digest": "sha256:d", "size": 1 },
                "lineage": {
                    "run": "r", "runUid": "u", "stage": "train", "frozen": "f", "paramsDigest": "p",
                    "images": BTreeMap::from(images),
                },
            },
        }))
        .unwrap()
    }

    #[test]
    fn what_the_model_and_its_metrics_come_from_is_run_and_nothing_else() {
        let Plan { run, templates, notes } = plan("again", &version(), &frozen(), true).unwrap();
        let spec = run.spec.pipeline.as_ref().unwrap();
        let names: Vec<&str> = spec.stages.keys().map(String::as_str).collect();
        assert_eq!(names, ["judge", "load", "look", "train"]);
        assert!(spec.finally.is_empty() && spec.triggers.is_none());
        assert_eq!(run.spec.params, BTreeMap::from([("rows".to_owned(), json!(7))]));
        assert_eq!(spec.stages["train"].needs, ["look"], "nobody is asked again");
        assert_eq!(spec.stages["judge"].gate, None, "nothing depends on a verdict");
        assert!(
            spec.stages.values().all(|stage| stage.cache.as_ref().is_some_and(|cache| cache.mode == CacheMode::Off))
        );
        let image = |stage: &str| spec.stages[stage].container.as_ref().unwrap().image.clone();
        assert_eq!([image("train"), image("judge")], ["train:1@sha256:bb", "judge@sha256:aa"]);
        assert_eq!((spec.timeout.as_deref(), spec.stages["judge"].timeout.as_deref()), (Some("1h30m"), Some("5m")));
        assert_eq!(spec.stages["load"].locks["lake"].max, 2);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("input champion of stage judge"), "{notes:?}");

        let [template] = templates.as_slice() else { panic!("{templates:?}") };
        assert_eq!(spec.stages["load"].uses.as_deref(), Some("again-load"));
        assert_eq!(
            (template.name_any(), template.spec.container.image.as_str()),
            ("again-load".to_owned(), "load:1@sha256:bb")
        );
        assert!(template.spec.results.contains_key("row_count"), "{:?}", template.spec.results);
        let sources = Sources::of(&run, "m-v1", "").unwrap();
        assert_eq!((sources.model.as_str(), sources.metrics.as_deref()), ("train.model", Some("judge")));
        assert!(
            Sources::of(&run, "m-v2", " -n team")
                .unwrap_err()
                .ends_with("was made to reproduce m-v1, not m-v2: kubectl millrace reproduce m-v2 -n team makes one")
        );
    }

    #[test]
    fn images_that_no_registry_has_are_taken_as_they_are_named() {
        let Plan { run, templates, .. } = plan("again", &version(), &frozen(), false).unwrap();
        assert_eq!(run.spec.pipeline.unwrap().stages["train"].container.as_ref().unwrap().image, "train:1");
        assert_eq!(templates[0].spec.container.image, "load:1");
    }

    #[test]
    fn a_stage_that_ran_another_pipeline_or_names_what_is_left_out_is_told() {
        let mut nested = frozen();
        nested.stages.get_mut("look").unwrap().kind =
            serde_json::from_value(json!({ "pipeline": { "name": "other" } })).unwrap();
        assert!(plan("a", &version(), &nested, true).unwrap_err().contains("stage look ran the pipeline other"));
        let mut asks = frozen();
        asks.stages.get_mut("train").unwrap().when = Some("stages.sign.status == 'Succeeded'".to_owned());
        let told = plan("a", &version(), &asks, true).unwrap_err();
        assert!(told.contains("spec.stages.train.when"), "{told}");
        let mut other = version();
        other.spec.model = "n".to_owned();
        assert!(plan("a", &other, &frozen(), true).unwrap_err().contains("registers no model of stage train"));
    }
}
