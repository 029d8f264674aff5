//! The checks that no schema can make. Everything that is wrong is found in one pass and said at once; what passes comes
//! out frozen.

mod address;
mod addresses;
mod approve;
mod beside;
mod cache;
mod container;
mod declared;
mod edges;
mod expression;
mod for_each;
mod freeze;
mod gate;
mod given;
mod inputs;
mod locks;
mod made;
mod name;
mod nested;
mod number;
mod params;
mod resolve;
mod retry;
mod stage;
mod tables;
#[cfg(test)]
mod tests;
mod time;
mod triggers;
mod when;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Frozen, FrozenKind};
use crate::api::{
    ArtifactType, MLPipelineRunSpec, MLPipelineSpec, ParamSpec, RunInput, StageTemplate, StageTemplateSpec, Value,
};
use crate::config::Config;
use crate::expr::{Names, Type};
use crate::problem::Problem;

pub use beside::beside;
pub use given::{MISSING_INPUT, bind, bind_inputs};
pub use params::bind_params;
pub(crate) use resolve::UNKNOWN_TEMPLATE;
pub(crate) use retry::REASONS;

/// The most bytes of a pipeline with its templates: an apiserver's store takes about 1.5 MB an object.
const FROZEN_LIMIT: usize = 1024 * 1024;

/// What was found wrong so far.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, path: impl Into<String>, reason: &'static str, message: impl Into<String>) {
        self.0.push(Problem::new(path, reason, message));
    }

    /// Sorted, so that the same mistakes always make the same message.
    fn result(mut self) -> Result<(), Vec<Problem>> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by(|a, b| (&a.path, &a.message).cmp(&(&b.path, &b.message)));
        self.0.dedup();
        Err(self.0)
    }
}

/// Checks a pipeline and resolves its templates. Paths begin with `spec`.
pub fn check(
    written: &MLPipelineSpec,
    templates: &BTreeMap<String, Arc<StageTemplate>>,
    config: &Config,
) -> Result<Frozen, Vec<Problem>> {
    with_inputs(written, &BTreeMap::new(), templates, config)
}

/// The same for one run of it, with what that is given. What is wrong with that is said by `bind_inputs`.
pub fn check_run(
    written: &MLPipelineSpec,
    run: &MLPipelineRunSpec,
    templates: &BTreeMap<String, Arc<StageTemplate>>,
    config: &Config,
) -> Result<Frozen, Vec<Problem>> {
    let checked = with_inputs(written, &run.inputs, templates, config);
    if run.pipeline.is_some() { uncounted(written, templates, checked) } else { checked }
}

fn with_inputs(
    written: &MLPipelineSpec,
    given: &BTreeMap<String, RunInput>,
    templates: &BTreeMap<String, Arc<StageTemplate>>,
    config: &Config,
) -> Result<Frozen, Vec<Problem>> {
    let mut problems = Problems::default();
    let filled = given::fill(written, given, &mut problems);
    let written = filled.spec.as_ref();
    let spec = tables::expand(written, config, &mut problems);
    let models = |at: &str| filled.written.get(at).is_some_and(|(_, kind)| *kind == ArtifactType::Model);
    let spec = addresses::expand(spec.as_ref(), templates, &models, config, &mut problems);
    let spec = spec.as_ref();
    declared::params(&spec.params, "spec.params", &mut problems);
    name::labels(&spec.stages, "spec.stages", "a stage", &mut problems);
    name::distinct(spec.stages.keys(), "spec.stages", &mut problems);
    name::labels(&spec.finally, "spec.finally", "a stage", &mut problems);
    name::distinct(spec.finally.keys(), "spec.finally", &mut problems);
    name::apart(&spec.finally, &spec.stages, &mut problems);
    if spec.stages.is_empty() {
        problems.add("spec.stages", "NoStages", "there is no stage: write at least one");
    }
    time::pipeline(spec, &mut problems);
    triggers::check(spec, &mut problems);
    locks::of_run(spec, &mut problems);
    if let Some(defaults) = &spec.defaults {
        container::account(defaults.service_account_name.as_deref(), "spec.defaults", config, &mut problems);
    }
    let resolved = resolve::stages(spec, templates, config, &mut problems);
    let mut edges = edges::Edges::default();
    for (name, stage) in &resolved {
        stage::check(name, stage, spec, &resolved, config, &mut edges, &mut problems);
    }
    approve::needed(&resolved, &edges, &mut problems);
    edges.check(&mut problems);
    addresses::told_of_inputs(written, &mut problems);
    filled.told(&mut problems);
    problems.result()?;
    let mut frozen = freeze::freeze(spec, &resolved, &edges);
    without_code(written, &mut frozen);
    let bytes = serde_json::to_vec(&frozen).map_or(0, |json| json.len());
    if bytes > FROZEN_LIMIT {
        let message = format!(
            "with its StageTemplates filled in it has {bytes} bytes, and at most {FROZEN_LIMIT} can be kept: \
             use fewer stages of large templates, or put scripts into images"
        );
        return Err(vec![Problem::new("spec.stages", "TooLarge", message)]);
    }
    Ok(frozen)
}

/// Whether anything of a pipeline names the number of its run.
#[must_use]
pub fn asks_for_number(spec: &MLPipelineSpec, templates: &BTreeMap<String, Arc<StageTemplate>>) -> bool {
    !number::named(spec, templates).is_empty()
}

/// The same of a pipeline that is written in place, in a run: nobody counts its runs.
pub fn check_in_place(
    spec: &MLPipelineSpec,
    templates: &BTreeMap<String, Arc<StageTemplate>>,
    config: &Config,
) -> Result<Frozen, Vec<Problem>> {
    uncounted(spec, templates, check(spec, templates, config))
}

fn uncounted(
    spec: &MLPipelineSpec,
    templates: &BTreeMap<String, Arc<StageTemplate>>,
    checked: Result<Frozen, Vec<Problem>>,
) -> Result<Frozen, Vec<Problem>> {
    let named = number::named(spec, templates);
    if named.is_empty() {
        return checked;
    }
    Err(checked.err().unwrap_or_default().into_iter().chain(named).collect())
}

/// A stage that was made for an input runs a program of Millrace's, which is none of a person's code.
fn without_code(written: &MLPipelineSpec, frozen: &mut Frozen) {
    for (name, stage) in &mut frozen.stages {
        let is_written = written.stages.contains_key(name) || written.finally.contains_key(name);
        if let FrozenKind::Container(container) = &mut stage.kind
            && !is_written
        {
            container.code = Some(false);
        }
    }
}

/// Checks a StageTemplate. Paths begin with `spec`.
pub fn check_template(spec: &StageTemplateSpec, config: &Config) -> Result<(), Vec<Problem>> {
    let mut problems = Problems::default();
    declared::params(&spec.params, "spec.params", &mut problems);
    declared::template_names(spec, &mut problems);
    let mut names = base_names(&spec.params);
    names.remove("params");
    time::retry(spec.retry.as_ref(), "spec.retry", &names, &mut problems);
    time::duration(spec.timeout.as_deref(), "spec.timeout", &mut problems);
    container::check(&spec.container, "spec.container", config, &mut problems);
    let names = expression::template_names(spec);
    expression::container(&spec.container, "spec.container", &names, &names, &mut problems);
    problems.result()
}

/// The type of declared parameters.
fn params_type(params: &BTreeMap<String, ParamSpec>) -> Type {
    let members = params.iter().map(|(name, param)| {
        let kind = Type::from(param.kind);
        let nullable = param.optional && param.default.is_none();
        (name.clone(), if nullable { kind.or_null() } else { kind })
    });
    Type::Named(members.collect())
}

/// What every expression of a run may name: `params` and `run`.
fn base_names(params: &BTreeMap<String, ParamSpec>) -> Names {
    let text = |name: &str| (name.to_owned(), Type::Text);
    let mut run: BTreeMap<String, Type> = ["name", "namespace", "uid", "pipeline"].map(text).into();
    run.insert("number".to_owned(), Type::Number);
    for name in ["trigger", "scheduledTime", "upstream", "dataVersion"] {
        run.insert(name.to_owned(), Type::Text.or_null());
    }
    Names::from([("params".to_owned(), params_type(params)), ("run".to_owned(), Type::Record(run))])
}

/// A value as JSON in a message.
fn quoted(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 80 { text } else { text.chars().take(79).chain(['…']).collect() }
}
