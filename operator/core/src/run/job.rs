//! One attempt of a stage as a Job.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container as PodContainer, EnvVar, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use millrace_contract::{
    BACKSTOP_SECONDS, GET_KNOWN_ENV, INPUTS_DIR, REPORT_SECONDS, TASK_ENV, Task, TaskInput, TaskOutput, output_path,
};
use serde_json::{Map, Value};

use super::inputs::{self, Handed, Hindrance, Mounted};
use super::pass::{Pass, Stages};
use super::{cache, classify, code, memory, mounts, render, scope};
use crate::api::{Container, EnvValue, Output, StageStatus};
use crate::expr::{self, Scope};
use crate::pipeline::{FrozenContainer, bind_params};
use crate::pod::Claims;
use crate::store::{self, Place};
use crate::{duration, names, pod, problem};

/// Between SIGTERM and SIGKILL of the program, unless the settings say otherwise.
const GRACE_SECONDS: u64 = 30;

/// The Job of the current attempt.
pub(super) fn build(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    status: &StageStatus,
    stages: &Stages,
) -> Result<Job, Hindrance> {
    let inputs = inputs::mounted(&stage.inputs, &status.inputs, stages, pass.frozen.store.as_ref())?;
    let scope = scope_of(pass, name, stage, status, &inputs, stages)?;
    let mut container = render::container(name, &pass.at(name), stage, &scope)?;
    memory::give(&mut container.settings, status);
    if let Some(known) = cache::known_source(pass, status) {
        let value = EnvValue { value: Some(known), ..EnvValue::default() };
        container.settings.env.insert(GET_KNOWN_ENV.to_owned(), value);
    }
    let handed = inputs::handed(pass, name, stage, status, stages)?;
    let task = task(pass, name, stage, status, &container, &inputs, &handed);
    let grace = task.grace_seconds;
    let task = serde_json::to_string(&task)
        .map_err(|error| Hindrance::fail("BadTask", format!("stage `{name}`: the task is no JSON: {error}")))?;
    render::task_fits(name, &pass.at(name), stage, &task)?;
    let mut spec = pod_spec(pass, name, status.retries, &container, &inputs, &task, grace);
    if let Some(code) = code::of(pass, stage) {
        code.mount(&mut spec);
    }
    let template = over_pod_template(pass, name, &container, template(pass, name, status.attempts, spec))?;
    let pending = i64::try_from(stage.pending_timeout_seconds).unwrap_or(i64::MAX);
    let deadline = deadline(stage, grace).map(|deadline| deadline.saturating_add(pending));
    Ok(of_attempt(pass, name, status.attempts, once(pass, template, deadline)))
}

/// When a pod has run for so long, its agent has not ended it as it should.
pub(super) fn deadline(stage: &FrozenContainer, grace: u64) -> Option<i64> {
    let all = stage.timeout_seconds? + grace + REPORT_SECONDS + BACKSTOP_SECONDS;
    Some(i64::try_from(all).unwrap_or(i64::MAX))
}

/// What the agent is told. Of `container` the script is taken as it is.
pub(super) fn task(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    status: &StageStatus,
    container: &Container,
    inputs: &BTreeMap<String, Mounted>,
    handed: &BTreeMap<String, Handed>,
) -> Task {
    let asks = status.cache.as_ref().is_some_and(|cache| cache.asked.is_some());
    let output = |name: &String, output: &Output| TaskOutput {
        kind: output.kind,
        // What the source has not changed is not brought.
        optional: output.optional || asks,
        // Of a stage with `forEach` the list is what is collected.
        items: stage.for_each.is_none() && stage.lists.contains(name),
        format: output.other_format().map(str::to_owned),
    };
    Task {
        namespace: pass.namespace().to_owned(),
        run: pass.run_name().to_owned(),
        run_uid: pass.run_uid().to_owned(),
        stage: name.to_owned(),
        attempt: status.attempts,
        script: container.script.clone(),
        inputs: inputs.iter().map(|(name, mounted)| (name.clone(), task_input(name, mounted))).collect(),
        handed: handed.iter().map(|(name, handed)| (name.clone(), handed.uri.clone())).collect(),
        outputs: stage.outputs.iter().map(|(name, of)| (name.clone(), output(name, of))).collect(),
        code: code::of(pass, stage).map(|code| code.told()),
        timeout_seconds: stage.timeout_seconds,
        grace_seconds: grace_seconds(container),
        durable: pass.frozen.store.as_ref().and_then(store::claim).is_some(),
        folder: mounts::told_folder(pass, name, status.retries),
        items: None,
    }
}

/// The Job of an attempt. Its pods keep their nodes, because what they did so far would be lost, and come to the one where their claim is in use.
pub(super) fn of_attempt(pass: &Pass<'_>, stage: &str, attempt: u32, mut spec: JobSpec) -> Job {
    pod::keeps_its_node(&mut spec.template);
    let PodTemplateSpec { metadata, spec: pod } = &mut spec.template;
    // Beside a pod on a node that is lost nothing could run: then pods are drawn together, and not bound.
    let unbound = Claims::new();
    let lost = pass.observed.pods.iter().any(|pod| classify::is_lost(pod));
    let claims = if lost { &unbound } else { &pass.observed.claims };
    pod::stay_together(metadata.get_or_insert_default(), pod.get_or_insert_default(), claims);
    Job {
        metadata: ObjectMeta {
            name: Some(names::job(pass.run_name(), stage, attempt)),
            namespace: Some(pass.namespace().to_owned()),
            labels: Some(labels(pass, stage, attempt)),
            owner_references: Some(vec![pass.owner()]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        ..Job::default()
    }
}

/// One pod that runs once.
pub(super) fn once(pass: &Pass<'_>, template: PodTemplateSpec, deadline: Option<i64>) -> JobSpec {
    JobSpec {
        backoff_limit: Some(0),
        completions: Some(1),
        parallelism: Some(1),
        pod_replacement_policy: Some("Failed".to_owned()),
        ttl_seconds_after_finished: Some(pass.config.job_ttl_seconds),
        active_deadline_seconds: deadline,
        template,
        ..JobSpec::default()
    }
}

pub(super) fn template(pass: &Pass<'_>, stage: &str, attempt: u32, spec: PodSpec) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels(pass, stage, attempt)), ..ObjectMeta::default() }),
        spec: Some(spec),
    }
}

fn labels(pass: &Pass<'_>, stage: &str, attempt: u32) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        (names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned()),
        (names::RUN_LABEL.to_owned(), names::label_value(pass.run_name())),
        (names::RUN_UID_LABEL.to_owned(), pass.run_uid().to_owned()),
        (names::STAGE_LABEL.to_owned(), stage.to_owned()),
        (names::ATTEMPT_LABEL.to_owned(), attempt.to_string()),
    ]);
    if let Some(pipeline) = pass.pipeline_name() {
        labels.insert(names::PIPELINE_LABEL.to_owned(), names::label_value(pipeline));
    }
    labels
}

fn task_input(name: &str, mounted: &Mounted) -> TaskInput {
    let Mounted { place, digest, size } = mounted;
    let source = match place {
        Place::Claim { .. } => None,
        Place::Objects(objects) => Some(objects.source()),
    };
    TaskInput { path: format!("{INPUTS_DIR}/{name}"), digest: digest.clone(), size: *size, source }
}

pub(super) fn grace_seconds(container: &Container) -> u64 {
    let period = container.settings.termination_grace_period.as_deref().and_then(duration::parse);
    period.map_or(GRACE_SECONDS, |period| period.as_secs())
}

/// The names that the stage's own templates may use. In a StageTemplate `params` are its own.
pub(super) fn scope_of(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    status: &StageStatus,
    inputs: &BTreeMap<String, Mounted>,
    stages: &Stages,
) -> Result<Scope, Hindrance> {
    let run = scope::of_run(pass, stages);
    // An optional input that is absent is null.
    let handed = inputs::handed(pass, name, stage, status, stages)?;
    let paths = stage.inputs.keys().map(|name| {
        let path = if inputs.contains_key(name) { Some(format!("{INPUTS_DIR}/{name}")) } else { None };
        let found = path.or_else(|| handed.get(name).map(|handed| handed.uri.clone()));
        (name.clone(), found.map_or(Value::Null, Value::from))
    });
    let outputs = stage.outputs.keys().map(|name| (name.clone(), output_path(status.attempts, name).into()));
    let paths: Map<String, Value> = paths.collect();
    let outputs: Map<String, Value> = outputs.collect();
    let scope = if stage.template.is_some() {
        let mut with = BTreeMap::new();
        for (key, value) in &stage.with {
            let value = expr::render_value(value, &run).map_err(|error| render::no_value(name, &error))?;
            with.insert(key.clone(), value);
        }
        let path = format!("{}.with", pass.at(name));
        let params = bind_params(&stage.template_params, &with, &path)
            .map_err(|problems| Hindrance::fail("InvalidParameter", problem::every(&problems)))?;
        scope::with_run(pass).with("params", Value::Object(params.into_iter().collect()))
    } else {
        run
    };
    Ok(scope.with("inputs", Value::Object(paths)).with("outputs", Value::Object(outputs)))
}

pub(super) fn pod_spec(
    pass: &Pass<'_>,
    stage: &str,
    retries: u32,
    container: &Container,
    inputs: &BTreeMap<String, Mounted>,
    task: &str,
    grace: u64,
) -> PodSpec {
    let mut spec = pod::base();
    spec.restart_policy = Some("Never".to_owned());
    let agent = container.agent.as_ref().map_or_else(mounts::agent_path, |agent| agent.path.clone());
    let program = container.command.iter().flatten().chain(&container.args);
    let args = ["run", "--"].into_iter().map(str::to_owned).chain(program.map(|text| pod::escape(text))).collect();
    let mut main = PodContainer {
        name: pod::MAIN.to_owned(),
        image: Some(container.image.clone()),
        image_pull_policy: pass.config.pull_policy_of(&container.image),
        command: Some(vec![agent]),
        args: Some(args),
        env: Some(vec![EnvVar { name: TASK_ENV.to_owned(), value: Some(pod::escape(task)), ..EnvVar::default() }]),
        security_context: Some(pod::container_security()),
        // An agent that was killed writes no report: then the last lines of the log are there.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..PodContainer::default()
    };
    mounts::own(pass, stage, retries, &mut spec, &mut main);
    mounts::inputs(inputs, &mut spec, &mut main);
    let own = mounts::folder(pass, stage, retries);
    mounts::credentials(own.as_ref(), inputs.values(), &mut main);
    if container.agent.is_none() {
        mounts::agent(pass.config, &mut spec, &mut main);
    }
    let spread = BTreeMap::from([
        (names::RUN_UID_LABEL.to_owned(), pass.run_uid().to_owned()),
        (names::STAGE_LABEL.to_owned(), stage.to_owned()),
    ]);
    pod::settings_into(&mut spec, &mut main, &container.settings, &spread);
    mounts::pull_secrets(pass.config, &mut spec);
    spec.termination_grace_period_seconds = i64::try_from(grace + REPORT_SECONDS).ok();
    // Whoever names a service account wants its rights; nobody else's code gets a token.
    spec.automount_service_account_token = Some(container.settings.service_account_name.is_some());
    spec.containers = vec![main];
    spec
}

pub(super) fn over_pod_template(
    pass: &Pass<'_>,
    stage: &str,
    container: &Container,
    ours: PodTemplateSpec,
) -> Result<PodTemplateSpec, Hindrance> {
    let Some(found) = pod_template(pass, stage, container)? else { return Ok(ours) };
    let mut template = pod::over_template(found, ours);
    template.spec.iter_mut().for_each(pod::end_with_main);
    Ok(template)
}

/// What the catalog has under the name that the container gives, if it gives one.
pub(super) fn pod_template<'a>(
    pass: &Pass<'a>,
    stage: &str,
    container: &Container,
) -> Result<Option<&'a PodTemplateSpec>, Hindrance> {
    let Some(name) = &container.settings.pod_template else { return Ok(None) };
    let found = pass.observed.pod_templates.get(name).and_then(|found| found.template.as_ref());
    found.map(Some).ok_or_else(|| {
        let catalog = &pass.config.catalog_namespace;
        Hindrance::wait(
            "PodTemplateNotFound",
            format!("stage `{stage}`: there is no PodTemplate {name} in namespace {catalog}"),
        )
    })
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
