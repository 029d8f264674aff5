//! Who looks again when something changes. The rule: whatever a plan may look at wakes the object it plans for.

use millrace_core::api::{MLPipeline, MLPipelineRun, ModelDeployment, ModelVersion, StageTemplate};

use crate::key::{Id, Kind};
use crate::queue::Queue;
use crate::store::Stores;

/// One queue a kind.
#[derive(Default)]
pub struct Queues {
    pipelines: Queue,
    runs: Queue,
    templates: Queue,
    deployments: Queue,
}

impl Queues {
    pub fn of(&self, kind: Kind) -> &Queue {
        match kind {
            Kind::Pipeline => &self.pipelines,
            Kind::Run => &self.runs,
            Kind::Template => &self.templates,
            Kind::Deployment => &self.deployments,
        }
    }
}

/// The pipeline of a run, if it has one.
pub fn pipeline_of(run: &MLPipelineRun) -> Option<&str> {
    run.spec.pipeline_ref.as_ref().map(|r| r.name.as_str())
}

/// A run that has ended is woken by nothing but a change of itself.
fn ended(run: &MLPipelineRun) -> bool {
    run.status.as_ref().is_some_and(|s| s.completion_time.is_some())
}

/// A run that has frozen what it runs looks at no pipeline and no template any more.
fn frozen(run: &MLPipelineRun) -> bool {
    run.status.as_ref().is_some_and(|s| s.frozen.is_some())
}

pub fn pipeline(stores: &Stores, queues: &Queues, id: &Id, _: &str, _: &MLPipeline, _gone: bool) {
    queues.pipelines.push(id.clone());
    for (name, run) in stores.runs.group(&id.namespace) {
        if !ended(&run) && !frozen(&run) && pipeline_of(&run) == Some(&id.name) {
            queues.runs.push(Id::new(&id.namespace, name));
        }
    }
}

pub fn run(stores: &Stores, queues: &Queues, id: &Id, _: &str, run: &MLPipelineRun, gone: bool) {
    if gone {
        stores.forget_run(run);
    } else {
        stores.know_run(run, id);
    }
    queues.runs.push(id.clone());
    if let Some(pipeline) = pipeline_of(run) {
        queues.pipelines.push(Id::new(&id.namespace, pipeline));
    }
}

/// A template may be the catalog's: then every namespace looks again. Templates change rarely.
pub fn template(stores: &Stores, queues: &Queues, id: &Id, _: &str, _: &StageTemplate, _gone: bool) {
    queues.templates.push(id.clone());
    for (pipeline, _) in stores.pipelines.all() {
        queues.pipelines.push(pipeline);
    }
    for (key, run) in stores.runs.all() {
        if !ended(&run) && !frozen(&run) {
            queues.runs.push(key);
        }
    }
}

pub fn version(stores: &Stores, queues: &Queues, id: &Id, _: &str, version: &ModelVersion, _gone: bool) {
    for (name, deployment) in stores.deployments.group(&id.namespace) {
        if deployment.spec.model.name == version.spec.model {
            queues.deployments.push(Id::new(&id.namespace, name));
        }
    }
    wake_runs(stores, queues, &id.namespace);
}

pub fn deployment(stores: &Stores, queues: &Queues, id: &Id, _: &str, _: &ModelDeployment, _gone: bool) {
    queues.deployments.push(id.clone());
    wake_runs(stores, queues, &id.namespace);
}

fn wake_runs(stores: &Stores, queues: &Queues, namespace: &str) {
    for (name, run) in stores.runs.group(namespace) {
        if !ended(&run) {
            queues.runs.push(Id::new(namespace, name));
        }
    }
}

/// A Job or a pod of a run; `group` is the run's uid.
pub fn of_run<V>(stores: &Stores, queues: &Queues, _: &Id, group: &str, _: &V, _gone: bool) {
    if let Some(id) = stores.run_id(group) {
        queues.runs.push(id);
    }
}

/// Something of a ModelDeployment; `group` is its namespace and name.
pub fn of_deployment<V>(_: &Stores, queues: &Queues, _: &Id, group: &str, _: &V, _gone: bool) {
    if let Some((namespace, name)) = group.split_once('/') {
        queues.deployments.push(Id::new(namespace, name));
    }
}
