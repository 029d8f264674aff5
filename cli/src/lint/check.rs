//! The operator's own checks, of objects that have their kind's shape. What only a cluster knows is left to it: which service accounts are allowed,
//! which PodTemplates, models and ModelDeployments there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_core::api::{InferenceGraph, MLPipeline, MLPipelineRun, ModelDeployment, StageTemplate};
use millrace_core::config::Config;
use millrace_core::deployment;
use millrace_core::graph;
use millrace_core::pipeline::{self, bind, check_template, foreign};
use millrace_core::problem::Problem;
use millrace_core::run::misplaced;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::files::{File, Object};
use super::stock;
use crate::yaml;

/// What the objects refer to.
#[derive(Default)]
pub struct Known {
    pub templates: BTreeMap<String, Arc<StageTemplate>>,
    pipelines: BTreeMap<String, Arc<MLPipeline>>,
}

impl Known {
    /// Those of the files come before the stock ones.
    pub fn of(files: &[File], beside: &[File]) -> Self {
        let mut known = Self { templates: stock(), ..Self::default() };
        for object in beside.iter().chain(files).flat_map(|file| file.objects.iter().flatten()) {
            known.add(object);
        }
        known
    }

    /// One that cannot be read is told of where it stands.
    pub fn add(&mut self, object: &Object) {
        match object.kind.as_str() {
            "StageTemplate" => {
                if let Ok(template) = read::<StageTemplate>(object) {
                    self.templates.insert(object.name.clone(), Arc::new(template));
                }
            }
            "MLPipeline" => {
                if let Ok(pipeline) = read::<MLPipeline>(object) {
                    self.pipelines.insert(object.name.clone(), Arc::new(pipeline));
                }
            }
            _ => {}
        }
    }
}

fn stock() -> BTreeMap<String, Arc<StageTemplate>> {
    let nodes = stock::texts().into_iter().flat_map(|text| yaml::documents(text).unwrap_or_default());
    let templates = nodes.filter_map(|node| serde_json::from_value::<StageTemplate>(node.json()).ok());
    templates.filter_map(|template| Some((template.metadata.name.clone()?, Arc::new(template)))).collect()
}

/// What is wrong with an object, and what may be.
pub fn object(object: &Object, known: &Known) -> (Vec<Problem>, Vec<Problem>) {
    match checked(object, known) {
        Ok(found) => found,
        Err(error) => (vec![Problem::new("spec", "InvalidSpec", format!("this cannot be read: {error}"))], Vec::new()),
    }
}

fn checked(object: &Object, known: &Known) -> Result<(Vec<Problem>, Vec<Problem>), serde_json::Error> {
    let config = config(&object.node.json());
    Ok(match object.kind.as_str() {
        "MLPipeline" => {
            let spec = read::<MLPipeline>(object)?.spec;
            let mut found = pipeline::check(&spec, &known.templates, &config).err().unwrap_or_default();
            found.extend(pipeline::circles(&object.name, &spec, &known.pipelines));
            found.extend(pipeline::beside(&spec, &known.pipelines));
            (found, foreign::in_pipeline(&spec))
        }
        "MLPipelineRun" => of_run(&read(object)?, known, &config),
        "StageTemplate" => {
            let spec = read::<StageTemplate>(object)?.spec;
            let found = check_template(&spec, &config).err().unwrap_or_default();
            (found, foreign::in_container(&spec.container, "spec.container"))
        }
        "ModelDeployment" => (deployment::check(&read::<ModelDeployment>(object)?, &config), Vec::new()),
        "InferenceGraph" => (graph::check(&read::<InferenceGraph>(object)?), Vec::new()),
        _ => (Vec::new(), Vec::new()),
    })
}

fn of_run(run: &MLPipelineRun, known: &Known, config: &Config) -> (Vec<Problem>, Vec<Problem>) {
    let (mut found, mut unlikely) = (Vec::new(), Vec::new());
    let within = |problems: Vec<Problem>| {
        problems
            .into_iter()
            .map(|problem| Problem { path: problem.path.replacen("spec", "spec.pipeline", 1), ..problem })
    };
    if let Some(spec) = &run.spec.pipeline {
        found.extend(within(pipeline::check_in_place(spec, &known.templates, config).err().unwrap_or_default()));
        found.extend(within(pipeline::beside(spec, &known.pipelines)));
        unlikely.extend(within(foreign::in_pipeline(spec)));
    }
    // One that is in none of the files may be in the cluster.
    let named = run
        .spec
        .pipeline_ref
        .as_ref()
        .and_then(|reference| known.pipelines.get(&reference.name))
        .map(|found| &found.spec);
    if let Some(spec) = run.spec.pipeline.as_ref().or(named) {
        found.extend(bind(spec, &run.spec, "spec."));
        if let Ok(frozen) = pipeline::check(spec, &known.templates, config) {
            found.extend(misplaced(&frozen, &run.spec.approvals));
        }
    }
    (found, unlikely)
}

fn read<K: DeserializeOwned>(object: &Object) -> Result<K, serde_json::Error> {
    serde_json::from_value(object.node.json())
}

/// Every service account that is named counts as allowed.
pub fn config(object: &Value) -> Config {
    let mut service_accounts = BTreeSet::new();
    accounts(object, &mut service_accounts);
    Config { service_accounts, ..Config::default() }
}

fn accounts(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(name) = fields.get("serviceAccountName").and_then(Value::as_str) {
                found.insert(name.to_owned());
            }
            fields.values().for_each(|value| accounts(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| accounts(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
