//! From whole Kubernetes objects to the slim views that are kept.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, ContainerState, ContainerStatus, Pod, Service, ServiceAccount, ServicePort, ServiceSpec,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use millrace_core::api::{
    GROUP, InferenceGraph, MLPipeline, MLPipelineRun, ModelDeployment, ModelVersion, StageState, StageTemplate,
};
use millrace_core::deployment::{AutoscalerView, BudgetView, DeploymentView, ServiceView, digest};
use millrace_core::names::{
    ATTEMPT_LABEL, ITEM_INDEX_ANNOTATION, REVISION_LABEL, ROUTER_LABEL, STAGE_LABEL, TRIGGER_LABEL,
};
use millrace_core::pod::{AGENT_INIT, MAIN};
use millrace_core::routing::{PartView, RouterPod, RoutesView, is_ours};
use millrace_core::run::{ContainerView, JobItems, JobView, PodView, Terminated, Words, parent, retry_asked};

use super::Stores;
use crate::wake::{self, Queues};

/// So many items that failed are looked at.
const FIRST_FAILED: usize = 10;

pub fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

/// The uid of the controlling owner.
pub fn controller_uid(meta: &ObjectMeta) -> Option<String> {
    let owners = meta.owner_references.iter().flatten();
    owners.filter(|o| o.controller == Some(true)).map(|o| o.uid.clone()).next()
}

fn words(reason: Option<&String>, message: Option<&String>) -> Words {
    Words { reason: reason.cloned().unwrap_or_default(), message: message.cloned().unwrap_or_default() }
}

fn attempt(meta: &ObjectMeta) -> u32 {
    label(meta, ATTEMPT_LABEL).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// What is kept of an object of Millrace's own kinds: all of it, unless something is never looked at again.
pub trait Kept: Sized {
    fn kept(self) -> Self {
        self
    }

    /// What is to be known of the whole object before the rest is dropped.
    fn note(&self, _: &Stores, _: &Queues) {}

    /// It is gone: what was noted of it goes too.
    fn forget(&self, _: &Stores, _: &Queues) {}
}

impl Kept for MLPipeline {}
impl Kept for StageTemplate {}
impl Kept for ModelVersion {}
impl Kept for ModelDeployment {}
impl Kept for InferenceGraph {}

impl Kept for MLPipelineRun {
    fn note(&self, stores: &Stores, queues: &Queues) {
        wake::cached(stores, queues, self);
    }

    fn forget(&self, stores: &Stores, queues: &Queues) {
        wake::not_cached(stores, queues, self);
    }

    /// Nothing is ever written to a run that has ended. What is left is to delete it in time, and the Jobs of stages that
    /// failed while a pod of theirs waited or ran.
    fn kept(mut self) -> Self {
        // One that is asked to begin again needs all of it, and a nested one is read by the run that it belongs to.
        if retry_asked(&self).is_some() || parent(&self).is_some() {
            return self;
        }
        if let Some(status) = self.status.as_mut().filter(|status| status.completion_time.is_some()) {
            status.stages.retain(|_, stage| stage.state == StageState::Failed || stage.locks.is_some());
            self.spec.pipeline = None;
            self.spec.params.clear();
            self.spec.inputs.clear();
            self.metadata.annotations = None;
        }
        self
    }
}

pub fn job_view(job: &Job) -> JobView {
    let meta = &job.metadata;
    let conditions = job.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let holds = |kind: &str| conditions.clone().find(|c| c.type_ == kind && c.status == "True");
    JobView {
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        stage: label(meta, STAGE_LABEL).unwrap_or_default().to_owned(),
        attempt: attempt(meta),
        owner: controller_uid(meta),
        created: meta.creation_timestamp.as_ref().map(|t| t.0),
        deleting: meta.deletion_timestamp.is_some(),
        failed: holds("Failed")
            .or_else(|| holds("FailureTarget"))
            .map(|c| words(c.reason.as_ref(), c.message.as_ref())),
        complete: holds("Complete").or_else(|| holds("SuccessCriteriaMet")).is_some(),
        items: job_items(job),
    }
}

/// The counts of an Indexed Job. Of any other they would only wake its run.
fn job_items(job: &Job) -> Option<JobItems> {
    job.spec.as_ref().filter(|spec| spec.completion_mode.as_deref() == Some("Indexed"))?;
    let status = job.status.clone().unwrap_or_default();
    let count = |number: Option<i32>| number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default();
    let failed = indexes(status.failed_indexes.as_deref().unwrap_or_default());
    Some(JobItems {
        succeeded: count(status.succeeded),
        ready: count(status.ready),
        failed: failed.iter().map(|range| range.end() - range.start() + 1).sum(),
        first_failed: failed.into_iter().flatten().take(FIRST_FAILED).collect(),
    })
}

/// `1,3-5`: indexes as the Job controller writes them.
fn indexes(text: &str) -> Vec<RangeInclusive<u32>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then_some(first..=last)
    };
    text.split(',').filter_map(range).collect()
}

/// A Job that looks for data: `stage` is the trigger.
pub fn look_job_view(job: &Job) -> JobView {
    JobView { stage: label(&job.metadata, TRIGGER_LABEL).unwrap_or_default().to_owned(), ..job_view(job) }
}

/// Its pod.
pub fn look_pod_view(pod: &Pod) -> PodView {
    pod_view(pod, TRIGGER_LABEL, false)
}

/// A stage's pod: `stage` is the stage, and a container that waits to be started again is not taken for one that ended.
pub fn stage_pod_view(pod: &Pod) -> PodView {
    let mut view = pod_view(pod, STAGE_LABEL, false);
    // There may be ten thousand, and what an item reports is read from the store.
    if view.index.is_some()
        && let Some(end) = view.main.as_mut().and_then(|main| main.terminated.as_mut()).filter(|end| end.exit_code == 0)
    {
        end.message = String::new();
    }
    view
}

/// A server's pod: `stage` is the revision, and the last end of a container that crashes over and over is shown.
pub fn server_pod_view(pod: &Pod) -> PodView {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    PodView { address, ..pod_view(pod, REVISION_LABEL, true) }
}

/// A router's pod.
pub fn router_view(pod: &Pod) -> RouterPod {
    let status = pod.status.as_ref();
    let mut conditions = status.into_iter().flat_map(|s| s.conditions.iter().flatten());
    RouterPod {
        pod: pod_view(pod, ROUTER_LABEL, true),
        address: status.and_then(|s| s.pod_ip.clone()),
        ready: conditions.any(|c| c.type_ == "Ready" && c.status == "True"),
    }
}

pub fn routes_view(map: &ConfigMap) -> RoutesView {
    let meta = &map.metadata;
    let owners = meta.owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect();
    RoutesView::new(
        meta.uid.clone().unwrap_or_default(),
        meta.resource_version.clone().unwrap_or_default(),
        owners,
        map.data.as_ref(),
    )
}

fn pod_view(pod: &Pod, stage_label: &str, last_state: bool) -> PodView {
    let meta = &pod.metadata;
    let status = pod.status.as_ref();
    let conditions = status.into_iter().flat_map(|s| s.conditions.iter().flatten());
    let condition = |kind: &str, wanted: &str| {
        let found = conditions.clone().find(|c| c.type_ == kind && c.status == wanted);
        found.map(|c| words(c.reason.as_ref(), c.message.as_ref()))
    };
    let init = status.and_then(|s| s.init_container_statuses.as_ref());
    let main = status.and_then(|s| s.container_statuses.as_ref());
    let named = |list: Option<&Vec<ContainerStatus>>, name: &str| {
        list.into_iter().flatten().find(|c| c.name == name).map(|c| container_view(c, last_state))
    };
    PodView {
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        owner: controller_uid(meta),
        stage: label(meta, stage_label).unwrap_or_default().to_owned(),
        attempt: attempt(meta),
        created: meta.creation_timestamp.as_ref().map(|t| t.0),
        deleting: meta.deletion_timestamp.is_some(),
        phase: status.and_then(|s| s.phase.clone()).unwrap_or_default(),
        words: status
            .filter(|s| s.reason.is_some() || s.message.is_some())
            .map(|s| words(s.reason.as_ref(), s.message.as_ref())),
        node: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
        unschedulable: condition("PodScheduled", "False"),
        disrupted: condition("DisruptionTarget", "True"),
        init: named(init, AGENT_INIT).filter(|c| c.terminated.as_ref().is_none_or(|t| t.exit_code != 0)),
        main: named(main, MAIN),
        index: meta.annotations.as_ref().and_then(|all| all.get(ITEM_INDEX_ANNOTATION)?.parse().ok()),
        address: None,
    }
}

fn container_view(container: &ContainerStatus, last_state: bool) -> ContainerView {
    let state = container.state.as_ref();
    let last = container.last_state.as_ref().filter(|_| last_state);
    ContainerView {
        waiting: state.and_then(|s| s.waiting.as_ref()).map(|w| words(w.reason.as_ref(), w.message.as_ref())),
        running_since: state.and_then(|s| s.running.as_ref()).and_then(|r| r.started_at.as_ref()).map(|t| t.0),
        terminated: state.and_then(terminated).or_else(|| last.and_then(terminated)),
        image_id: container.image_id.clone(),
    }
}

fn terminated(state: &ContainerState) -> Option<Terminated> {
    let end = state.terminated.as_ref()?;
    Some(Terminated {
        exit_code: end.exit_code,
        signal: end.signal,
        reason: end.reason.clone().unwrap_or_default(),
        message: end.message.clone().unwrap_or_default(),
    })
}

pub fn deployment_view(deployment: &Deployment) -> DeploymentView {
    let meta = &deployment.metadata;
    let status = deployment.status.as_ref();
    let count = |field: fn(&k8s_openapi::api::apps::v1::DeploymentStatus) -> Option<i32>| {
        status.and_then(field).unwrap_or_default()
    };
    DeploymentView {
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        owner: controller_uid(meta),
        created: meta.creation_timestamp.as_ref().map(|t| t.0),
        deleting: meta.deletion_timestamp.is_some(),
        generation: meta.generation.unwrap_or_default(),
        observed_generation: status.and_then(|s| s.observed_generation).unwrap_or_default(),
        shape: digest(&(
            deployment.spec.as_ref().map(without_others),
            millraces(meta.labels.as_ref()),
            millraces(meta.annotations.as_ref()),
        )),
        wanted: deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1),
        replicas: count(|s| s.replicas),
        ready: count(|s| s.ready_replicas),
        available: count(|s| s.available_replicas),
        failure: status
            .and_then(|s| s.conditions.as_ref()?.iter().find(|c| c.type_ == "ReplicaFailure" && c.status == "True"))
            .map(|c| words(c.reason.as_ref(), c.message.as_ref())),
        labels: meta.labels.clone().unwrap_or_default(),
        annotations: meta.annotations.clone().unwrap_or_default(),
    }
}

/// A spec but for what others may set: how many pods there are, and annotations of pods (a restart is one).
fn without_others(spec: &DeploymentSpec) -> DeploymentSpec {
    let mut spec = DeploymentSpec { replicas: None, ..spec.clone() };
    if let Some(annotations) = spec.template.metadata.as_mut().and_then(|metadata| metadata.annotations.as_mut()) {
        annotations.retain(|key, _| key.starts_with(GROUP));
    }
    if let Some(metadata) =
        spec.template.metadata.as_mut().filter(|m| m.annotations.as_ref().is_some_and(BTreeMap::is_empty))
    {
        metadata.annotations = None;
    }
    spec
}

/// An object of a namespace's routers.
pub trait Part: Resource<DynamicType = ()> {
    /// Digest of what Millrace says of it.
    fn shape(&self) -> u64;
}

pub fn part_view<K: Part>(part: &K) -> PartView {
    let meta = part.meta();
    PartView { uid: meta.uid.clone().unwrap_or_default(), is_ours: is_ours(meta), shape: part.shape() }
}

/// Whose it is, as far as we say so.
fn heading(meta: &ObjectMeta) -> (Vec<(&String, &String)>, Option<&Vec<OwnerReference>>) {
    (millraces(meta.labels.as_ref()), meta.owner_references.as_ref())
}

impl Part for ServiceAccount {
    fn shape(&self) -> u64 {
        digest(&(heading(&self.metadata), self.automount_service_account_token))
    }
}

impl Part for RoleBinding {
    fn shape(&self) -> u64 {
        digest(&(heading(&self.metadata), &self.role_ref, &self.subjects))
    }
}

impl Part for PodDisruptionBudget {
    fn shape(&self) -> u64 {
        digest(&(heading(&self.metadata), &self.spec))
    }
}

impl Part for NetworkPolicy {
    fn shape(&self) -> u64 {
        digest(&(heading(&self.metadata), &self.spec))
    }
}

impl Part for ConfigMap {
    fn shape(&self) -> u64 {
        routes_view(self).shape()
    }
}

impl Part for Deployment {
    fn shape(&self) -> u64 {
        routers_shape(&deployment_view(self))
    }
}

/// How many routers there are is Millrace's to say, unlike the pods of a revision.
pub fn routers_shape(view: &DeploymentView) -> u64 {
    digest(&(view.shape, view.wanted))
}

/// Labels or annotations of Millrace's: the served version is among them.
fn millraces(all: Option<&BTreeMap<String, String>>) -> Vec<(&String, &String)> {
    all.into_iter().flatten().filter(|(key, _)| key.starts_with(GROUP)).collect()
}

pub fn autoscaler_view(autoscaler: &HorizontalPodAutoscaler) -> AutoscalerView {
    let meta = &autoscaler.metadata;
    let conditions = autoscaler.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let active = conditions.into_iter().find(|condition| condition.type_ == "ScalingActive");
    AutoscalerView {
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        owner: controller_uid(meta),
        shape: autoscaler.spec.as_ref().map_or(0, digest),
        active: active.map(|c| (c.status.clone(), words(c.reason.as_ref(), c.message.as_ref()))),
    }
}

pub fn budget_view(budget: &PodDisruptionBudget) -> BudgetView {
    BudgetView { uid: budget.metadata.uid.clone().unwrap_or_default(), shape: budget.spec.as_ref().map_or(0, digest) }
}

pub fn service_view(service: &Service) -> ServiceView {
    let meta = &service.metadata;
    let spec = service.spec.as_ref();
    ServiceView {
        uid: meta.uid.clone().unwrap_or_default(),
        owner: controller_uid(meta),
        selector: spec.and_then(|s| s.selector.clone()).unwrap_or_default(),
        shape: spec.map_or(0, |spec| digest(&without_allotted(spec))),
    }
}

fn without_allotted(spec: &ServiceSpec) -> ServiceSpec {
    let ports = spec.ports.iter().flatten().map(|port| ServicePort { node_port: None, ..port.clone() });
    ServiceSpec {
        cluster_ip: None,
        cluster_ips: None,
        ip_families: None,
        ip_family_policy: None,
        health_check_node_port: None,
        ports: Some(ports.collect()),
        ..spec.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use millrace_core::api::RetryFrom;

    #[test]
    fn the_failed_items_of_a_job_are_counted_and_the_first_ones_kept() {
        let job = |mode: &str, failed: &str| {
            let spec = json!({ "completionMode": mode, "template": {} });
            let status = json!({ "succeeded": 3, "ready": 2, "failedIndexes": failed });
            job_view(&serde_json::from_value(json!({ "metadata": {}, "spec": spec, "status": status })).unwrap()).items
        };
        assert_eq!(job("NonIndexed", ""), None);
        let items = |failed, first_failed: &[u32]| JobItems {
            succeeded: 3,
            ready: 2,
            failed,
            first_failed: first_failed.into(),
        };
        assert_eq!(job("Indexed", ""), Some(items(0, &[])));
        assert_eq!(job("Indexed", "1,3-5"), Some(items(4, &[1, 3, 4, 5])));
        assert_eq!(job("Indexed", "0-9999").unwrap().first_failed.len(), FIRST_FAILED);
        assert_eq!(job("Indexed", "5-3,x"), Some(items(0, &[])));
    }

    #[test]
    fn of_a_run_that_has_ended_only_what_is_left_to_do_is_kept() {
        let stage = json!({ "container": { "image": "i", "command": ["c"] } });
        let mut written = json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun",
            "metadata": { "name": "r", "uid": "u", "annotations": { "a": "b" } },
            "spec": { "ttl": "1h", "params": { "p": 1 }, "inputs": { "x": { "uri": "https://h/x" } }, "pipeline": { "stages": { "good": stage, "bad": stage } } },
            "status": { "stages": { "good": { "state": "Succeeded" }, "bad": { "state": "Failed", "reason": "PendingTimeout" } } },
        });
        let running: MLPipelineRun = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(json!(running.clone().kept()), json!(running));
        written["status"]["completionTime"] = json!("2026-01-01T00:00:00Z");
        let ended: MLPipelineRun = serde_json::from_value(written).unwrap();
        let mut asked = ended.clone();
        asked.spec.retry_from = Some(RetryFrom { failed: true, ..RetryFrom::default() });
        assert_eq!(json!(asked.clone().kept()), json!(asked), "it begins again");
        let kept = ended.kept();
        assert_eq!(json!(kept.spec), json!({ "ttl": "1h" }));
        assert_eq!(kept.metadata.uid.as_deref(), Some("u"));
        assert_eq!(kept.status.unwrap().stages.into_keys().collect::<Vec<_>>(), ["bad"]);
    }
}
