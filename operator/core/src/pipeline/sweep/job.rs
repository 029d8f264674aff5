//! The Job that keeps a pipeline's store in order: one small pod of the agent, that is told everything and knows nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, PersistentVolumeClaimVolumeSource, PodSpec, Volume, VolumeMount};
use millrace_contract::{SWEEP_ENV, SWEEP_HISTORY_DIR, SWEEP_RUNS_DIR, SweepTask};

use crate::api::{MLPipeline, Stage, StageTemplate, Store};
use crate::config::Config;
use crate::pipeline::worker;
use crate::pod::Claims;
use crate::{names, pod, store};

const AGENT: &str = "/millrace-agent";
const STORE: &str = "millrace-store";
/// A string that a program is given has at most 128 KiB.
const PART: usize = 96 * 1024;
const FAILURES: i32 = 3;
const LONGEST_SECONDS: i64 = 3600;

/// StageTemplates by name.
type Templates = BTreeMap<String, Arc<StageTemplate>>;

/// Its name follows from how many of them have said something: there is one at a time.
pub(super) fn name(pipeline: &MLPipeline, reports: i64) -> String {
    let of = &pipeline.metadata;
    let uid = of.uid.as_deref().unwrap_or_default();
    names::sweep(of.name.as_deref().unwrap_or_default(), &format!("{uid}/{reports}"))
}

pub(super) fn build(
    pipeline: &MLPipeline,
    templates: &Templates,
    store: &Store,
    name: String,
    task: &SweepTask,
    config: &Config,
    claims: &Claims,
) -> Job {
    let pod = pod_spec(pipeline, templates, store, task, config);
    let mut job = worker::job(pipeline, name, names::SWEEP, FAILURES, pod, claims);
    // What is not done by then is done by the next one.
    job.spec.get_or_insert_default().active_deadline_seconds = Some(LONGEST_SECONDS);
    job
}

fn pod_spec(pipeline: &MLPipeline, templates: &Templates, store: &Store, task: &SweepTask, config: &Config) -> PodSpec {
    let mut main = Container {
        command: Some(vec![AGENT.to_owned()]),
        args: Some(vec!["sweep".to_owned()]),
        env: Some(told(task)),
        resources: Some(pod::small("10m", "32Mi", "256Mi")),
        ..pod::own_container(pod::MAIN, &config.agent_image, config)
    };
    let mut volumes = None;
    if let Some(claim) = store::claim(store) {
        let source = PersistentVolumeClaimVolumeSource { claim_name: claim.to_owned(), read_only: None };
        volumes =
            Some(vec![Volume { name: STORE.to_owned(), persistent_volume_claim: Some(source), ..Volume::default() }]);
        let mount = |path: &str, folder: &str| VolumeMount {
            name: STORE.to_owned(),
            mount_path: path.to_owned(),
            sub_path: Some(folder.to_owned()),
            ..VolumeMount::default()
        };
        main.volume_mounts = Some(vec![mount(SWEEP_RUNS_DIR, "runs"), mount(SWEEP_HISTORY_DIR, &task.folder)]);
    }
    let objects = store::objects(store, "");
    main.env_from = store::environment(objects.as_ref().and_then(store::Objects::secret));
    let mut spec = worker::pod(main, config);
    spec.volumes = volumes;
    user(pipeline, templates, &mut spec);
    // Its identity may be what reaches the store. It has no token of the cluster, whosever it is.
    if objects.is_some_and(|objects| objects.secret().is_none()) {
        let usual = pipeline.spec.defaults.as_ref();
        spec.service_account_name = usual.and_then(|defaults| defaults.service_account_name.clone());
    }
    spec
}

/// User and group whose files the stages write, each if all of them have the same one.
fn user(pipeline: &MLPipeline, templates: &Templates, spec: &mut PodSpec) {
    let stages = pipeline.spec.stages.values().chain(pipeline.spec.finally.values());
    let all: Vec<(Option<i64>, Option<i64>)> = stages.filter_map(|stage| user_of(stage, templates)).collect();
    let only = |users: BTreeSet<Option<i64>>| users.first().copied().flatten().filter(|_| users.len() == 1);
    let Some(security) = spec.security_context.as_mut() else { return };
    if let Some(user) = only(all.iter().map(|(user, _)| *user).collect()) {
        security.run_as_user = Some(user);
    }
    if let Some(group) = only(all.iter().map(|(_, group)| *group).collect()) {
        // As a stage's pod has it.
        security.run_as_group = Some(group);
        security.fs_group = Some(group);
    }
}

/// None of a stage that has no pod, and of one whose StageTemplate is not there.
fn user_of(stage: &Stage, templates: &Templates) -> Option<(Option<i64>, Option<i64>)> {
    if let Some(container) = &stage.container {
        return Some((container.settings.run_as_user, container.settings.run_as_group));
    }
    let usual = &templates.get(stage.uses.as_ref()?)?.spec.container.settings;
    let own = stage.overrides.as_ref();
    Some((
        own.and_then(|own| own.run_as_user).or(usual.run_as_user),
        own.and_then(|own| own.run_as_group).or(usual.run_as_group),
    ))
}

/// The task, in parts that a program can be given.
fn told(task: &SweepTask) -> Vec<EnvVar> {
    let text = serde_json::to_string(task).unwrap_or_default();
    let mut rest = text.as_str();
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (part, more) = rest.split_at(rest.floor_char_boundary(PART));
        let (name, value) = (format!("{SWEEP_ENV}{}", parts.len()), Some(pod::escape(part)));
        parts.push(EnvVar { name, value, value_from: None });
        rest = more;
    }
    parts
}
