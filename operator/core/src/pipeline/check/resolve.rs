//! Every stage with its StageTemplate: what it takes and what it gives, wherever that is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_contract::ITEMS_OUTPUT;

use super::{Problems, check_template};
use crate::api::{ArtifactType, MLPipelineSpec, Output, Stage, StageTemplate, StageTemplateSpec};
use crate::config::Config;
use crate::expr;
use crate::pipeline::stage_path;
use crate::problem;

/// Reason of the one problem that another object may take away.
pub(crate) const UNKNOWN_TEMPLATE: &str = "UnknownTemplate";

/// What kind of stage it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Runs a program: `uses` or `container`.
    Program,
    /// Runs another pipeline.
    Pipeline,
    /// Waits for a person.
    Approve,
    Register,
    Deploy,
    Report,
    /// Says too little or too much; that was already found wrong.
    Unclear,
}

/// A stage and its template.
pub(super) struct Resolved<'a> {
    pub stage: &'a Stage,
    pub kind: Kind,
    pub template: Option<&'a StageTemplateSpec>,
    pub finally: bool,
    /// What it makes is kept.
    pub stored: bool,
    /// `uses` names a template that does not exist: nothing is known of inputs and outputs.
    pub unknown: bool,
}

impl Resolved<'_> {
    /// The path of the stage of this name.
    pub fn at(&self, name: &str) -> String {
        stage_path(self.finally, name)
    }

    /// It may refer to the other: what is in `finally` sees every stage, and nobody else sees what is there.
    pub fn sees(&self, other: &Resolved<'_>) -> bool {
        self.finally || !other.finally
    }

    pub fn outputs(&self) -> &BTreeMap<String, Output> {
        self.template.map_or(&self.stage.outputs, |template| &template.outputs)
    }

    /// What later stages find. Of one with `forEach` these are folders, and the list of its items.
    pub fn made(&self) -> BTreeMap<&str, ArtifactType> {
        if let Some(nested) = &self.stage.pipeline {
            let outputs = nested.outputs.iter().map(|(name, output)| (name.as_str(), output.kind));
            return self.of_items(outputs.collect(), nested.keeps());
        }
        self.of_items(self.outputs().iter().map(|(name, output)| (name.as_str(), output.kind)).collect(), true)
    }

    /// With `forEach` each is a folder. `listed`: what became of the items is kept.
    fn of_items<'o>(&self, mut made: BTreeMap<&'o str, ArtifactType>, listed: bool) -> BTreeMap<&'o str, ArtifactType> {
        if self.stage.for_each.is_some() {
            for kind in made.values_mut() {
                *kind = ArtifactType::Artifact;
            }
            if listed && self.stored {
                made.insert(ITEMS_OUTPUT, ArtifactType::Artifact);
            }
        }
        made
    }
}

/// Resolves all stages.
pub(super) fn stages<'a>(
    spec: &'a MLPipelineSpec,
    templates: &'a BTreeMap<String, Arc<StageTemplate>>,
    config: &Config,
    problems: &mut Problems,
) -> BTreeMap<&'a str, Resolved<'a>> {
    let mut all = BTreeMap::new();
    for (finally, stages) in [(true, &spec.finally), (false, &spec.stages)] {
        for (name, stage) in stages {
            all.insert(name.as_str(), resolve(name, stage, finally, spec.store.is_some(), templates, config, problems));
        }
    }
    all
}

fn resolve<'a>(
    name: &str,
    stage: &'a Stage,
    finally: bool,
    stored: bool,
    templates: &'a BTreeMap<String, Arc<StageTemplate>>,
    config: &Config,
    problems: &mut Problems,
) -> Resolved<'a> {
    let at = stage_path(finally, name);
    let given = [
        (stage.uses.is_some(), Kind::Program),
        (stage.container.is_some(), Kind::Program),
        (stage.pipeline.is_some(), Kind::Pipeline),
        (stage.approve.is_some(), Kind::Approve),
        (stage.register.is_some(), Kind::Register),
        (stage.deploy.is_some(), Kind::Deploy),
        (stage.report.is_some(), Kind::Report),
    ];
    let given: Vec<Kind> = given.into_iter().filter(|(given, _)| *given).map(|(_, kind)| kind).collect();
    let kind = match given.as_slice() {
        [kind] => *kind,
        _ => {
            let message = "a stage is exactly one of uses, container, pipeline, approve, register, deploy and report: write one of them";
            problems.add(&at, "InvalidStage", message);
            Kind::Unclear
        }
    };
    let template = stage.uses.as_deref().and_then(|uses| templates.get(uses)).map(|template| &template.spec);
    if let (Some(uses), None) = (&stage.uses, template) {
        let hint = expr::did_you_mean(uses, templates.keys().map(String::as_str));
        let message = format!("no StageTemplate `{uses}` in this namespace or the catalog: {hint}");
        problems.add(format!("{at}.uses"), UNKNOWN_TEMPLATE, message);
    }
    if let (Some(uses), Some(Err(found))) = (&stage.uses, template.map(|template| check_template(template, config))) {
        let message =
            format!("the StageTemplate `{uses}` is not right: {}. Correct it there", problem::summary(&found));
        problems.add(format!("{at}.uses"), "InvalidTemplate", message);
    }
    Resolved { stage, kind, template, finally, stored, unknown: stage.uses.is_some() && template.is_none() }
}
