//! The Jobs of a stage with `forEach`: one Indexed Job for all items, and after it one that collects what they made.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, EnvVar, EnvVarSource, ObjectFieldSelector, PodSpec, PodTemplateSpec, Volume,
    VolumeMount,
};
use millrace_contract::{
    ArtifactKind, ITEM_GIVEN_UP, ITEM_INDEX_ENV, ITEM_RETRIES_ENV, ITEMS_OUTPUT, ITEMS_PATH, STAGE_DIR, Task,
    TaskItems, TaskOutput, Told, item_folder,
};
use serde_json::json;

use super::inputs::{self, Hindrance, Mounted};
use super::items::{self, Items, LIST, List};
use super::job;
use super::pass::{Pass, Stages};
use super::{code, memory, mounts, nested_items, render, scope};
use crate::api::{AgentPath, Container, ForEach, PodSettings, Resources, StageStatus};
use crate::expr;
use crate::item::{Order, RetryOrder};
use crate::pipeline::{FrozenContainer, FrozenKind};
use crate::store::{self, Place};
use crate::{names, pod};

/// Where the Job controller writes how often an item was tried before. The count of ignored failures is not always there.
const RETRIES: [&str; 2] =
    ["batch.kubernetes.io/job-index-failure-count", "batch.kubernetes.io/job-index-ignored-failure-count"];

/// 128 + SIGKILL.
const KILLED: i32 = 137;

/// The volume of a list that was written down.
const VOLUME: &str = "millrace-items";

/// A Job, and the list that its pods read.
pub(super) struct Made {
    pub job: Job,
    pub list: Option<Box<ConfigMap>>,
    pub total: u32,
}

/// The Job of all items.
pub(super) fn items(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    each: &ForEach,
    status: &StageStatus,
    stages: &Stages,
) -> Result<Made, Hindrance> {
    let inputs = inputs::mounted(&stage.inputs, &status.inputs, stages, pass.frozen.store.as_ref())?;
    let Items { total, source, list } = items::of(pass, name, each, stages)?;
    let handed = inputs::handed(pass, name, stage, status, stages)?;
    let is_there = |input: &str| inputs.contains_key(input) || handed.contains_key(input);
    let (container, order) = ordered(pass, name, stage, stages, is_there)?;
    let mut task = job::task(pass, name, stage, status, &container, &inputs, &handed);
    let given_up = order.retry.as_ref().map(|retry| given_up(retry, status.attempts));
    task.items = Some(TaskItems { total: total.into(), source, order: Some(json!(order)), told: None });
    let text = written(name, &task)?;
    if !render::fits(&text) {
        let message = format!(
            "{}: the stage's script, with the parameters and results that its texts name, has {} bytes, and no more than {} fit: let its \
             texts name less, or hand it over as a file",
            pass.at(name),
            text.len(),
            render::LONGEST_STRING
        );
        return Err(Hindrance::fail("StageTooLarge", message));
    }
    let mut spec = job::pod_spec(pass, name, status.retries, &container, &inputs, &text, task.grace_seconds);
    if let Some(code) = code::of(pass, stage) {
        code.mount(&mut spec);
    }
    // It only ends what nobody else did.
    // Inputs are brought before the command begins, and its timeout with it.
    let pending = i64::try_from(stage.pending_timeout_seconds).unwrap_or(i64::MAX);
    spec.active_deadline_seconds =
        job::deadline(stage, task.grace_seconds).map(|deadline| deadline.saturating_add(pending));
    let list = read(list, &mut spec);
    of_one_item(pass, name, status.retries, &mut spec);
    let mut template = job::template(pass, name, status.attempts, spec);
    let labels = &mut template.metadata.get_or_insert_default().labels;
    labels.get_or_insert_default().insert(names::ITEM_LABEL.to_owned(), "true".to_owned());
    let template = job::over_pod_template(pass, name, &container, template)?;
    let completions = i32::try_from(total).unwrap_or(i32::MAX);
    let disrupted =
        PodFailurePolicyOnPodConditionsPattern { type_: "DisruptionTarget".to_owned(), status: "True".to_owned() };
    // What the infrastructure ends is not the item's failure.
    let ignored = PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_pod_conditions: Some(vec![disrupted]),
        ..PodFailurePolicyRule::default()
    };
    let spec = JobSpec {
        completion_mode: Some("Indexed".to_owned()),
        completions: Some(completions),
        parallelism: Some(completions.min(i32::try_from(each.parallelism).unwrap_or(i32::MAX))),
        backoff_limit_per_index: i32::try_from(stage.retry.limit).ok(),
        max_failed_indexes: each.fail_fast.then_some(0),
        pod_failure_policy: Some(PodFailurePolicy { rules: [ignored].into_iter().chain(given_up).collect() }),
        pod_replacement_policy: Some("Failed".to_owned()),
        ttl_seconds_after_finished: Some(pass.config.job_ttl_seconds),
        template,
        ..JobSpec::default()
    };
    Ok(Made { job: job::of_attempt(pass, name, status.attempts, spec), list, total })
}

/// How the pod of an item ends that `retry.when` lets not be tried again: the agent asks it, and says so. Where memory runs out the agent is killed too, so
/// that is asked here, as of the first attempt of this Job.
pub(super) fn final_codes(retry: &RetryOrder, attempt: u32) -> Vec<i32> {
    let killed = retry.refused(Some(KILLED), memory::OUT_OF_MEMORY, attempt).map(|_| KILLED);
    [ITEM_GIVEN_UP.into()].into_iter().chain(killed).collect()
}

fn given_up(retry: &RetryOrder, attempt: u32) -> PodFailurePolicyRule {
    PodFailurePolicyRule {
        action: "FailIndex".to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(pod::MAIN.to_owned()),
            operator: "In".to_owned(),
            values: final_codes(retry, attempt),
        }),
        ..PodFailurePolicyRule::default()
    }
}

/// What is run for every item, and what the agent fills in for each.
pub(super) fn ordered(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    stages: &Stages,
    is_there: impl Fn(&str) -> bool,
) -> Result<(Container, Order), Hindrance> {
    let mut container = stage.container.clone();
    // A StageTemplate's image has no expression here.
    container.image =
        expr::render(&container.image, &scope::of_run(pass, stages)).map_err(|error| render::no_value(name, &error))?;
    let env = filled_in_later(&mut container.settings);
    let order = Order::new(stage, scope::names(pass, stages), env, is_there);
    Ok((container, order))
}

/// The Job that puts together what the items made, with the agent alone.
pub(super) fn collect(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    each: &ForEach,
    status: &StageStatus,
    stages: &Stages,
) -> Result<Made, Hindrance> {
    let told = match pass.frozen.stages.get(name).map(|stage| &stage.kind) {
        Some(FrozenKind::Pipeline(nested)) => {
            Some(nested_items::told(pass, name, &nested.pipeline, each, status, stages)?)
        }
        _ => None,
    };
    let are_runs = told.is_some();
    let Items { total, source, list } = told.map_or_else(|| items::of(pass, name, each, stages), Ok)?;
    let own = &stage.container.settings;
    let container = Container {
        image: pass.config.agent_image.clone(),
        agent: Some(AgentPath { path: "/millrace-agent".to_owned() }),
        // The user whose files they are, on nodes where the stage may run.
        settings: PodSettings {
            run_as_user: own.run_as_user,
            run_as_group: own.run_as_group,
            node_selector: own.node_selector.clone(),
            tolerations: own.tolerations.clone(),
            affinity: own.affinity.clone(),
            priority_class_name: own.priority_class_name.clone(),
            // Its identity may be what reaches the store.
            service_account_name: mounts::folder(pass, name, status.retries)
                .filter(|folder| folder.secret().is_none())
                .and_then(|_| own.service_account_name.clone()),
            resources: Some(Resources {
                requests: [("cpu".to_owned(), json!("10m")), ("memory".to_owned(), json!("64Mi"))].into(),
                limits: [("memory".to_owned(), json!("1Gi"))].into(),
            }),
            ..PodSettings::default()
        },
        ..Container::default()
    };
    let mut task = job::task(pass, name, stage, status, &container, &BTreeMap::new(), &BTreeMap::new());
    // A folder for each output, and the list of items.
    let folder = |items: bool| TaskOutput { kind: ArtifactKind::Artifact, optional: false, items, format: None };
    task.outputs = stage.outputs.keys().map(|name| (name.clone(), folder(false))).collect();
    task.outputs.insert(ITEMS_OUTPUT.to_owned(), folder(true));
    task.timeout_seconds = None;
    task.code = None;
    let folder = mounts::stage_folder(pass, name, status.retries);
    let address = pass.frozen.store.as_ref().filter(|_| are_runs).and_then(|store| store::address(store, &folder));
    let told = address.map(|(store, folder)| Told { store, folder });
    task.items = Some(TaskItems { total: total.into(), source, order: None, told });
    let text = written(name, &task)?;
    let mut spec = job::pod_spec(pass, name, status.retries, &container, &BTreeMap::new(), &text, task.grace_seconds);
    let list = read(list, &mut spec);
    spec.containers[0].args = Some(vec!["collect".to_owned()]);
    if are_runs && !stage.outputs.is_empty() {
        mounts::all_runs(pass, &mut spec);
    }
    let template = below(pass, name, &stage.container, job::template(pass, name, status.attempts, spec))?;
    let spec = job::once(pass, template, None);
    Ok(Made { job: job::of_attempt(pass, name, status.attempts, spec), list, total })
}

/// The pod with the settings of the stage's PodTemplate, but without its containers and volumes: nobody's program runs here.
fn below(
    pass: &Pass<'_>,
    stage: &str,
    container: &Container,
    ours: PodTemplateSpec,
) -> Result<PodTemplateSpec, Hindrance> {
    let Some(mut bare) = job::pod_template(pass, stage, container)?.cloned() else { return Ok(ours) };
    if let Some(spec) = &mut bare.spec {
        spec.containers = Vec::new();
        spec.init_containers = None;
        spec.volumes = None;
        spec.resource_claims = None;
    }
    Ok(pod::over_template(&bare, ours))
}

/// Takes out the variables that hold templates: the agent fills them in.
fn filled_in_later(settings: &mut PodSettings) -> BTreeMap<String, String> {
    let templates: BTreeMap<String, String> = settings
        .env
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.value.clone().filter(|text| expr::has_template(text))?)))
        .collect();
    settings.env.retain(|name, _| !templates.contains_key(name));
    templates
}

fn written(stage: &str, task: &Task) -> Result<String, Hindrance> {
    serde_json::to_string(task)
        .map_err(|error| Hindrance::fail("BadTask", format!("stage `{stage}`: the task is no JSON: {error}")))
}

/// Mounts the list where the agent looks for it.
fn read(list: List, spec: &mut PodSpec) -> Option<Box<ConfigMap>> {
    let mount = |volume: &str, path: &str| VolumeMount {
        name: volume.to_owned(),
        mount_path: ITEMS_PATH.to_owned(),
        sub_path: Some(path.to_owned()),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let (mount, map) = match list {
        List::Computed => return None,
        List::Made(Mounted { place: Place::Claim { claim, path }, .. }) => {
            let volume = mounts::of_claim(spec, &claim);
            (mount(&volume, &path), None)
        }
        // An output of the same run, so of the store whose credentials the agent has.
        List::Made(Mounted { place: Place::Objects(_), .. }) => {
            let mut main = spec.containers.remove(0);
            let folder = ITEMS_PATH.rsplit_once('/').map_or(ITEMS_PATH, |(folder, _)| folder);
            mounts::fetched(folder, spec, &mut main);
            spec.containers.insert(0, main);
            return None;
        }
        List::Written(map) => {
            let source =
                ConfigMapVolumeSource { name: map.metadata.name.clone().unwrap_or_default(), ..Default::default() };
            let volume = Volume { name: VOLUME.to_owned(), config_map: Some(source), ..Volume::default() };
            spec.volumes.get_or_insert_default().push(volume);
            (mount(VOLUME, LIST), Some(map))
        }
    };
    spec.containers[0].volume_mounts.get_or_insert_default().push(mount);
    map
}

/// Tells the pod which item it is, and gives it that item's folder alone.
fn of_one_item(pass: &Pass<'_>, stage: &str, retries: u32, spec: &mut PodSpec) {
    let main = &mut spec.containers[0];
    let annotation = |name: &str, annotation: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: format!("metadata.annotations['{annotation}']"),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let [failures, disruptions] = ITEM_RETRIES_ENV;
    let told = [(ITEM_INDEX_ENV, names::ITEM_INDEX_ANNOTATION), (failures, RETRIES[0]), (disruptions, RETRIES[1])];
    main.env.get_or_insert_default().extend(told.map(|(name, of)| annotation(name, of)));
    // In a store of objects the agent goes to the item's folder by itself.
    if pass.frozen.store.as_ref().and_then(store::claim).is_none() {
        return;
    }
    let own = main.volume_mounts.iter_mut().flatten().find(|mount| mount.mount_path == STAGE_DIR);
    if let Some(own) = own {
        own.sub_path = None;
        let folder = mounts::stage_folder(pass, stage, retries);
        own.sub_path_expr = Some(format!("{folder}/{}", item_folder(format!("$({ITEM_INDEX_ENV})"))));
    }
}
