//! [`PodSettings`] written into a pod and its main container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMapKeySelector, Container, EnvVar, EnvVarSource, LocalObjectReference, PodResourceClaim, PodSpec,
    ResourceClaim, ResourceRequirements, SecretKeySelector, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use super::volumes;
use crate::api::{EnvValue, PodSettings};
use crate::duration;

/// Writes the settings into the pod and its main container, beside what is there. `spread_labels` select the pods that
/// spread over nodes and zones together.
pub fn settings_into(
    pod: &mut PodSpec,
    main: &mut Container,
    settings: &PodSettings,
    spread_labels: &BTreeMap<String, String>,
) {
    // Destructured, so that a new setting cannot be accepted and forgotten.
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
        // The caller lays the finished pod over it.
        pod_template: _,
    } = settings;

    let secrets = image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
    extend(&mut pod.image_pull_secrets, secrets);
    extend(&mut main.env, env.iter().map(|(name, value)| env_var(name, value)));
    volumes::into(pod, main, volumes, shared_memory.as_ref());

    let requirements = main.resources.get_or_insert_default();
    if let Some(resources) = resources {
        requirements.requests = quantities(&resources.requests);
        requirements.limits = quantities(&resources.limits);
    }
    let claims = resource_claims.keys().map(|name| ResourceClaim { name: name.clone(), request: None });
    extend(&mut requirements.claims, claims);
    if *requirements == ResourceRequirements::default() {
        main.resources = None;
    }
    extend(
        &mut pod.resource_claims,
        resource_claims.iter().map(|(name, claim)| PodResourceClaim {
            name: name.clone(),
            resource_claim_name: claim.resource_claim_name.clone(),
            resource_claim_template_name: claim.resource_claim_template_name.clone(),
        }),
    );

    if !node_selector.is_empty() {
        pod.node_selector = Some(node_selector.clone());
    }
    extend(&mut pod.tolerations, tolerations.iter().cloned());
    pod.affinity.clone_from(affinity);
    extend(
        &mut pod.topology_spread_constraints,
        topology_spread.iter().map(|spread| TopologySpreadConstraint {
            max_skew: spread.max_skew,
            topology_key: spread.topology_key.clone(),
            when_unsatisfiable: spread.when_unsatisfiable.clone(),
            label_selector: Some(LabelSelector {
                match_labels: Some(spread_labels.clone()),
                ..LabelSelector::default()
            }),
            ..TopologySpreadConstraint::default()
        }),
    );
    pod.priority_class_name.clone_from(priority_class_name);
    pod.runtime_class_name.clone_from(runtime_class_name);
    pod.service_account_name.clone_from(service_account_name);
    if let Some(period) = termination_grace_period.as_deref().and_then(duration::parse) {
        // Rounded up: half a second must not become none.
        let seconds = period.as_millis().div_ceil(1000);
        pod.termination_grace_period_seconds = Some(i64::try_from(seconds).unwrap_or(i64::MAX));
    }
    let security = pod.security_context.get_or_insert_default();
    if let Some(user) = run_as_user {
        security.run_as_user = Some(*user);
    }
    if let Some(group) = run_as_group {
        security.run_as_group = Some(*group);
        security.fs_group = Some(*group);
    }
}

/// Text that the kubelet hands over as it is. It expands `$(NAME)`, and makes one `$` of every two: so a `$` is doubled
/// where another one or a `(` stands beside it, and left alone elsewhere, where the kubelet leaves it alone too.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        escaped.push_str(&rest[..at]);
        rest = &rest[at..];
        let after = rest.trim_start_matches('$');
        let run = rest.len() - after.len();
        let times = if run > 1 || after.starts_with('(') { 2 } else { 1 };
        escaped.push_str(&"$".repeat(run * times));
        rest = after;
    }
    escaped.push_str(rest);
    escaped
}

/// A quantity as a person wrote it: a number or text.
#[must_use]
pub fn quantity(value: &Value) -> Quantity {
    Quantity(match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

fn quantities(of: &BTreeMap<String, Value>) -> Option<BTreeMap<String, Quantity>> {
    (!of.is_empty()).then(|| of.iter().map(|(name, value)| (name.clone(), quantity(value))).collect())
}

fn env_var(name: &str, value: &EnvValue) -> EnvVar {
    let EnvValue { value, secret, config_map } = value;
    let source = EnvVarSource {
        secret_key_ref: secret.as_ref().map(|key| SecretKeySelector {
            name: key.name.clone(),
            key: key.key.clone(),
            optional: Some(key.optional),
        }),
        config_map_key_ref: config_map.as_ref().map(|key| ConfigMapKeySelector {
            name: key.name.clone(),
            key: key.key.clone(),
            optional: Some(key.optional),
        }),
        ..EnvVarSource::default()
    };
    EnvVar {
        name: name.to_owned(),
        value: value.as_deref().map(escape),
        value_from: (source != EnvVarSource::default()).then_some(source),
    }
}

/// Appends, and leaves `None` where there is nothing: an empty list would be a difference to what the apiserver keeps.
pub(super) fn extend<T>(list: &mut Option<Vec<T>>, more: impl Iterator<Item = T>) {
    let mut more = more.peekable();
    if more.peek().is_some() {
        list.get_or_insert_default().extend(more);
    }
}
