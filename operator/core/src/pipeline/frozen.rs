//! What a run runs: a pipeline that passed every check, with its StageTemplates resolved and its edges drawn. It is kept
//! in a ControllerRevision named by its hash and its owner's, so that a later edit changes no run that has started.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::api::{
    Approve, CacheMode, Container, Deploy, ForEach, Gate, Input, NestedPipeline, OnFailure, Output, ParamSpec,
    PipelineInput, Register, Report, Retry, Store, Value, is_stop,
};
use crate::names;

/// Hex characters of the digest in a frozen pipeline's name.
const HASH: usize = 10;

/// A checked pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Frozen {
    pub params: BTreeMap<String, ParamSpec>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, PipelineInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
    /// Of the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// Of the whole run: how many may hold each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub locks: BTreeMap<String, u32>,
    pub stages: BTreeMap<String, FrozenStage>,
}

impl Frozen {
    /// One of its stages registers a model and lets older versions go.
    #[must_use]
    pub fn deletes_versions(&self) -> bool {
        self.stages
            .values()
            .any(|stage| matches!(&stage.kind, FrozenKind::Register(register) if register.keep.is_some()))
    }

    /// The name of the ControllerRevision that holds it for an owner. Whose it is belongs to the name: a run and a pipeline may
    /// be called the same and run the same, and what is the one's goes when that goes.
    pub fn revision_name(&self, owner: &str, uid: &str) -> Result<String, serde_json::Error> {
        let content = serde_json::to_value(self)?;
        let hash = &names::sha256_hex(format!("{uid}/{content}").as_bytes())[..HASH];
        Ok(names::joined(&[owner, hash]))
    }
}

/// The path of a stage.
#[must_use]
pub fn stage_path(finally: bool, stage: &str) -> String {
    format!("spec.{}.{stage}", if finally { "finally" } else { "stages" })
}

/// A checked stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrozenStage {
    /// Every stage that this one refers to, in `needs`, inputs, `register`, `deploy`, `report` or an expression. Sorted.
    pub needs: Vec<String>,
    /// How it hangs on those of `needs` whose product it does not use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bonds: BTreeMap<String, Bond>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    #[serde(default, skip_serializing_if = "is_stop")]
    pub on_failure: OnFailure,
    /// It runs when all stages that are not in `finally` have ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub finally: bool,
    /// How many may hold each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub locks: BTreeMap<String, u32>,
    pub kind: FrozenKind,
}

impl FrozenStage {
    /// How this stage hangs on one of its `needs`.
    #[must_use]
    pub fn bond(&self, need: &str) -> Bond {
        self.bonds.get(need).copied().unwrap_or_default()
    }

    /// Each of its items is a run.
    #[must_use]
    pub fn runs_pipeline_for_items(&self) -> bool {
        matches!(&self.kind, FrozenKind::Pipeline(nested) if nested.items().is_some())
    }

    /// What it reads.
    pub fn inputs(&self) -> impl Iterator<Item = (&String, &Input)> {
        let inputs = match &self.kind {
            FrozenKind::Container(container) => Some(&container.inputs),
            FrozenKind::Pipeline(nested) => Some(&nested.inputs),
            FrozenKind::Approve(_) | FrozenKind::Register(_) | FrozenKind::Deploy(_) | FrozenKind::Report(_) => None,
        };
        inputs.into_iter().flatten()
    }

    /// What it runs in pods, if it does.
    #[must_use]
    pub fn container(&self) -> Option<&FrozenContainer> {
        match &self.kind {
            FrozenKind::Container(container) => Some(container),
            FrozenKind::Pipeline(_)
            | FrozenKind::Approve(_)
            | FrozenKind::Register(_)
            | FrozenKind::Deploy(_)
            | FrozenKind::Report(_) => None,
        }
    }
}

/// How a stage hangs on an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bond {
    /// It uses what that one makes: that one must have succeeded.
    #[default]
    Uses,
    /// It comes after that one: a stage that was skipped by its own `when`, or that may fail, is passed over.
    Follows,
    /// Its input has something else to take than what that one makes.
    Takes,
    /// It runs whatever became of that one: its `when` decides. A failure elsewhere does not stop it once that one has failed.
    Asks,
}

/// What a stage does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FrozenKind {
    Container(Box<FrozenContainer>),
    Pipeline(Box<FrozenNested>),
    Approve(Approve),
    Register(Register),
    Deploy(Deploy),
    Report(Report),
}

/// A stage that runs another pipeline: once, or once for each item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrozenNested {
    #[serde(flatten)]
    pub pipeline: NestedPipeline,
    /// What it is given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Input>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// With `forEach`: what it runs over, and the pod that keeps what became of the items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collector: Option<Box<FrozenContainer>>,
}

impl FrozenNested {
    /// What it runs over, with that pod.
    #[must_use]
    pub fn items(&self) -> Option<(&ForEach, &FrozenContainer)> {
        let collector = self.collector.as_deref()?;
        Some((collector.for_each.as_ref()?, collector))
    }
}

/// A stage that runs a program: written in place, or resolved from a StageTemplate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrozenContainer {
    /// The StageTemplate's name, if it came from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The StageTemplate's declared parameters; empty for a stage written in place, whose `params` are the run's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub template_params: BTreeMap<String, ParamSpec>,
    /// Values for them, templates not yet rendered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub with: BTreeMap<String, Value>,
    /// The program with its pod settings, overrides laid over, templates not yet rendered.
    pub container: Container,
    /// Whether it runs in the run's code, as it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<bool>,
    pub inputs: BTreeMap<String, Input>,
    pub outputs: BTreeMap<String, Output>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// What is written of the cache, for the stage or for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<FrozenCache>,
    /// It runs once for each item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<ForEach>,
    /// Outputs that a `forEach` runs over.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub lists: BTreeSet<String>,
    pub retry: Retry,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    pub pending_timeout_seconds: u64,
}

impl FrozenContainer {
    /// It runs in the run's code, if that has any. A StageTemplate is somebody else's program unless a person says otherwise.
    #[must_use]
    pub fn takes_code(&self) -> bool {
        self.code.unwrap_or(self.template.is_none())
    }
}

/// A checked `cache`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrozenCache {
    pub mode: CacheMode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub serialize: bool,
}
