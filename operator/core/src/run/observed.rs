//! What a pass looks at: slim views of Jobs and pods, and the objects that stages refer to. The controller keeps these
//! views instead of whole objects, so that memory is bytes an object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::PodTemplate;
use k8s_openapi::jiff::Timestamp;

use super::{Above, CacheSnapshot, Claim, Peer};
use crate::api::{MLPipeline, MLPipelineRun, ModelDeployment, ModelVersion, StageTemplate};
use crate::pipeline::Frozen;
use crate::plan::Refusal;
use crate::pod::Claims;

/// Everything that the plan of one run depends on, besides the run itself and the time.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// What `spec.pipelineRef` names.
    pub pipeline: Option<Arc<MLPipeline>>,
    /// Its other runs that have not ended, if it bounds how many run.
    pub peers: Vec<Peer>,
    /// What the other runs of the namespace hold and wait for of their locks, if the run has any.
    pub locks: Vec<Claim>,
    /// Of the stages that wait for a person: the newer run of the pipeline that asks the same.
    pub superseded: BTreeMap<String, String>,
    /// If there is no such pipeline: those that the namespace has.
    pub pipelines: Vec<String>,
    /// StageTemplates by name: the namespace's own, and the catalog's where it has none of that name.
    pub templates: BTreeMap<String, Arc<StageTemplate>>,
    /// PodTemplates of the catalog namespace by name, those that a stage of the run names.
    pub pod_templates: BTreeMap<String, Arc<PodTemplate>>,
    /// What `status.frozen` names, once the run has started.
    pub frozen: Option<Arc<Frozen>>,
    /// Runs that belong to this one, by name: those of the stages that run another pipeline.
    pub nested: BTreeMap<String, Arc<MLPipelineRun>>,
    /// If it is such a run itself: what it sees of those that it belongs to.
    pub above: Above,
    /// Jobs that carry the run's uid.
    pub jobs: Vec<Arc<JobView>>,
    /// Pods that carry the run's uid.
    pub pods: Vec<Arc<PodView>>,
    /// ModelVersions of the namespace.
    pub model_versions: Vec<Arc<ModelVersion>>,
    /// Those that other runs which have not ended read or made, or that pipelines read by their number, where the run may delete versions.
    pub held_versions: BTreeSet<String>,
    /// ModelDeployments of the namespace by name.
    pub model_deployments: BTreeMap<String, Arc<ModelDeployment>>,
    /// What the apiserver refused of the last pass's effects.
    pub refusals: Vec<Refusal>,
    /// Who may mount the claims that it is known to mount, of those that are there.
    pub claims: Claims,
    /// Results that kept runs of the namespace have.
    pub cache: CacheSnapshot,
    /// What the Job controller said of Jobs that have no pod (quota, Pod Security), by Job name: event reason and message.
    pub job_warnings: BTreeMap<String, Words>,
}

/// A Job as far as a run looks at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobView {
    pub name: String,
    pub uid: String,
    pub stage: String,
    pub attempt: u32,
    /// The uid of the controlling owner.
    pub owner: Option<String>,
    pub created: Option<Timestamp>,
    /// Somebody deletes it.
    pub deleting: bool,
    /// `Failed` or `FailureTarget`: reason and message.
    pub failed: Option<Words>,
    pub complete: bool,
    /// Of an Indexed Job.
    pub items: Option<JobItems>,
}

/// How far the items of an Indexed Job are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobItems {
    pub succeeded: u32,
    pub ready: u32,
    /// Those that failed for good, and the first of them.
    pub failed: u32,
    pub first_failed: Vec<u32>,
}

/// A pod as far as a run looks at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodView {
    pub name: String,
    pub uid: String,
    /// The uid of the Job that owns it.
    pub owner: Option<String>,
    pub stage: String,
    pub attempt: u32,
    pub created: Option<Timestamp>,
    pub deleting: bool,
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`.
    pub phase: String,
    /// The pod's own reason and message, such as `Evicted`.
    pub words: Option<Words>,
    pub node: Option<String>,
    /// `PodScheduled=False`: the scheduler's words.
    pub unschedulable: Option<Words>,
    /// `DisruptionTarget=True`: preempted, evicted, or deleted with its node.
    pub disrupted: Option<Words>,
    /// The init container that brings the agent, while it is not done.
    pub init: Option<ContainerView>,
    pub main: Option<ContainerView>,
    /// Which item it is for, of an Indexed Job.
    pub index: Option<u32>,
    /// Where it is reached. Of model servers only: nobody asks other pods.
    pub address: Option<String>,
}

/// A container's state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerView {
    /// Waiting: the kubelet's words, such as `ErrImagePull`.
    pub waiting: Option<Words>,
    pub running_since: Option<Timestamp>,
    pub terminated: Option<Terminated>,
    /// The image as it was resolved, with its digest.
    pub image_id: String,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Terminated {
    pub exit_code: i32,
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerStatusUnknown`, `DeadlineExceeded` …
    pub reason: String,
    /// The report, or the last lines of the log where there is none.
    pub message: String,
}

/// Somebody's reason and message, as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    pub reason: String,
    pub message: String,
}
