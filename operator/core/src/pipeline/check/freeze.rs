//! What passed every check, as a run runs it: templates resolved, defaults filled in, edges drawn.

use std::collections::{BTreeMap, BTreeSet};

use super::edges::Edges;
use super::resolve::Resolved;
use crate::api::{
    Cache, Container, Defaults, ForEach, MLPipelineSpec, NestedPipeline, OnFailure, Output, PodSettings, Resources,
    bounds,
};
use crate::duration;
use crate::pipeline::{Frozen, FrozenCache, FrozenContainer, FrozenKind, FrozenNested, FrozenStage};

/// How long a pod may wait unless something is said.
const PENDING_SECONDS: u64 = 3600;

pub(super) fn freeze(spec: &MLPipelineSpec, all: &BTreeMap<&str, Resolved<'_>>, edges: &Edges) -> Frozen {
    let defaults = spec.defaults.clone().unwrap_or_default();
    let stages = all.iter().filter_map(|(name, resolved)| {
        let kind = kind(name, resolved, all, &defaults)?;
        let frozen = FrozenStage {
            needs: edges.of(name),
            bonds: edges.bonds(name),
            when: resolved.stage.when.clone(),
            on_failure: on_failure(resolved, &defaults),
            finally: resolved.finally,
            locks: bounds(&resolved.stage.locks),
            kind,
        };
        Some(((*name).to_owned(), frozen))
    });
    Frozen {
        params: spec.params.clone(),
        inputs: spec.inputs.clone(),
        store: spec.store.clone(),
        timeout_seconds: seconds(spec.timeout.as_deref()),
        locks: bounds(&spec.locks),
        stages: stages.collect(),
    }
}

/// In `finally` nobody stops anybody, and nobody goes on without a person's answer.
fn on_failure(resolved: &Resolved<'_>, defaults: &Defaults) -> OnFailure {
    let usual = defaults.on_failure.filter(|_| !resolved.finally && resolved.stage.approve.is_none());
    resolved.stage.on_failure.or(usual).unwrap_or_default()
}

fn kind(
    name: &str,
    resolved: &Resolved<'_>,
    all: &BTreeMap<&str, Resolved<'_>>,
    defaults: &Defaults,
) -> Option<FrozenKind> {
    let stage = resolved.stage;
    if let Some(nested) = &stage.pipeline {
        let collector = stage.for_each.as_ref().map(|each| Box::new(collector(nested, each, defaults)));
        let frozen = FrozenNested {
            pipeline: nested.clone(),
            inputs: stage.inputs.clone(),
            retry: stage.retry.clone(),
            collector,
        };
        return Some(FrozenKind::Pipeline(Box::new(frozen)));
    }
    if let Some(approve) = &stage.approve {
        return Some(FrozenKind::Approve(approve.clone()));
    }
    if let Some(register) = &stage.register {
        return Some(FrozenKind::Register(register.clone()));
    }
    if let Some(deploy) = &stage.deploy {
        return Some(FrozenKind::Deploy(deploy.clone()));
    }
    if let Some(report) = &stage.report {
        return Some(FrozenKind::Report(report.clone()));
    }
    let template = resolved.template;
    let mut container = match (&stage.container, template) {
        (Some(own), _) => own.clone(),
        (None, Some(template)) => overridden(&template.container, stage.overrides.as_ref()),
        (None, None) => return None,
    };
    let account = &mut container.settings.service_account_name;
    *account = account.take().or_else(|| defaults.service_account_name.clone());
    let retry = stage.retry.clone().or_else(|| template.and_then(|template| template.retry.clone()));
    let timeout = stage.timeout.as_deref().or_else(|| template.and_then(|template| template.timeout.as_deref()));
    let pending = stage.pending_timeout.as_deref().or(defaults.pending_timeout.as_deref());
    Some(FrozenKind::Container(Box::new(FrozenContainer {
        template: stage.uses.clone(),
        template_params: template.map(|template| template.params.clone()).unwrap_or_default(),
        with: stage.with.clone(),
        container,
        code: stage.code,
        inputs: stage.inputs.clone(),
        outputs: resolved.outputs().clone(),
        gate: stage.gate.clone(),
        cache: cache(resolved, defaults),
        for_each: stage.for_each.clone(),
        lists: lists(name, all),
        retry: retry.or_else(|| defaults.retry.clone()).unwrap_or_default(),
        timeout_seconds: seconds(timeout.or(defaults.timeout.as_deref())),
        pending_timeout_seconds: seconds(pending).unwrap_or(PENDING_SECONDS),
    })))
}

/// The pod that keeps what became of the runs of items, by the identity that reaches the store.
fn collector(nested: &NestedPipeline, each: &ForEach, defaults: &Defaults) -> FrozenContainer {
    let settings =
        PodSettings { service_account_name: defaults.service_account_name.clone(), ..PodSettings::default() };
    FrozenContainer {
        container: Container { settings, ..Container::default() },
        // Folders, which are there even where no item has such an output.
        outputs: nested.outputs.keys().map(|name| (name.clone(), Output::default())).collect(),
        for_each: Some(each.clone()),
        pending_timeout_seconds: seconds(defaults.pending_timeout.as_deref()).unwrap_or(PENDING_SECONDS),
        ..FrozenContainer::default()
    }
}

/// What runs at the very end tells somebody, mostly: a default for all is not meant for it.
fn cache(resolved: &Resolved<'_>, defaults: &Defaults) -> Option<FrozenCache> {
    let usual = defaults.cache.as_ref().filter(|_| !resolved.finally);
    let Cache { mode, salt, max_age, serialize } = resolved.stage.cache.as_ref().or(usual)?;
    Some(FrozenCache {
        mode: *mode,
        salt: salt.clone(),
        max_age_seconds: seconds(max_age.as_deref()),
        serialize: *serialize,
    })
}

/// The outputs of a stage that a `forEach` runs over.
fn lists(stage: &str, all: &BTreeMap<&str, Resolved<'_>>) -> BTreeSet<String> {
    let sources = all.values().filter_map(|other| other.stage.for_each.as_ref()?.from.as_deref()?.split_once('.'));
    sources.filter(|(producer, _)| *producer == stage).map(|(_, output)| output.to_owned()).collect()
}

fn seconds(text: Option<&str>) -> Option<u64> {
    text.and_then(duration::parse).map(|duration| duration.as_secs())
}

/// A template's container with overrides laid over: maps by key, the rest as a whole.
pub(super) fn overridden(container: &Container, overrides: Option<&PodSettings>) -> Container {
    let mut container = container.clone();
    if let Some(over) = overrides {
        lay(&mut container.settings, over.clone());
    }
    container
}

fn lay(under: &mut PodSettings, over: PodSettings) {
    let PodSettings {
        image_pull_secrets,
        env,
        volumes,
        resources,
        resource_claims,
        shared_memory,
        node_selector,
        tolerations,
        affinity,
        topology_spread,
        priority_class_name,
        runtime_class_name,
        service_account_name,
        termination_grace_period,
        run_as_user,
        run_as_group,
        pod_template,
    } = over;
    under.env.extend(env);
    under.volumes.extend(volumes);
    under.resource_claims.extend(resource_claims);
    under.node_selector.extend(node_selector);
    if let Some(Resources { requests, limits }) = resources {
        let resources = under.resources.get_or_insert_default();
        resources.requests.extend(requests);
        resources.limits.extend(limits);
    }
    list(&mut under.image_pull_secrets, image_pull_secrets);
    list(&mut under.tolerations, tolerations);
    list(&mut under.topology_spread, topology_spread);
    one(&mut under.shared_memory, shared_memory);
    one(&mut under.affinity, affinity);
    one(&mut under.priority_class_name, priority_class_name);
    one(&mut under.runtime_class_name, runtime_class_name);
    one(&mut under.service_account_name, service_account_name);
    one(&mut under.termination_grace_period, termination_grace_period);
    one(&mut under.run_as_user, run_as_user);
    one(&mut under.run_as_group, run_as_group);
    one(&mut under.pod_template, pod_template);
}

fn list<T>(under: &mut Vec<T>, over: Vec<T>) {
    if !over.is_empty() {
        *under = over;
    }
}

fn one<T>(under: &mut Option<T>, over: Option<T>) {
    if over.is_some() {
        *under = over;
    }
}
