//! What should be served: a version and settings become a pod, and the pod's hash names the revision.

use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::asked_model::{self, asked_model};
use super::{
    Observed, Version, autoscaler, copies, gateway, limits, log_writer, model_cache, objects, payload_log, queries,
    stream,
};
use crate::api::{CachedModel, ModelDeployment};
use crate::autoscale::SHORTEST_TO_ZERO;
use crate::config::Config;
use crate::drift::{LONGEST_WINDOW, SHORTEST_WINDOW};
use crate::duration;
use crate::names;
use crate::pod;
use crate::problem::Problem;
use crate::routing::check_security;

/// Hex characters of the hash in a revision's name.
const SHORT: usize = 8;

/// What a ModelDeployment asks for.
pub(super) enum Intent {
    /// No version yet.
    NoVersion,
    /// A version that is not registered; the message names those that are.
    Unknown(String),
    /// A spec that cannot be carried out.
    Invalid(Vec<Problem>),
    /// A PodTemplate that is not there, or not yet; the message says which.
    NoPodTemplate(String),
    Serve(Box<Revision>),
}

impl Intent {
    pub fn revision(&self) -> Option<&Revision> {
        match self {
            Self::Serve(revision) => Some(revision),
            Self::NoVersion | Self::Unknown(_) | Self::Invalid(_) | Self::NoPodTemplate(_) => None,
        }
    }
}

/// One immutable thing to run.
pub(super) struct Revision {
    /// Name of the Deployment, and value of the revision's label.
    pub name: String,
    pub version: Version,
    /// Without the revision's labels: they follow from it.
    pub template: PodTemplateSpec,
}

impl Revision {
    /// What its pods take out of a cache.
    pub fn cached(&self) -> Option<CachedModel> {
        model_cache::cached(self.template.metadata.as_ref()?.annotations.as_ref()?)
    }
}

/// What the spec asks for, given what is registered.
pub(super) fn intent(deployment: &ModelDeployment, observed: &Observed, config: &Config) -> Intent {
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let mut problems = check(deployment, config);
    problems.extend(gateway::lacks_mirror(deployment, observed));
    if !problems.is_empty() {
        return Intent::Invalid(problems);
    }
    if let Some(wanted) = pod_template(deployment).filter(|wanted| !observed.pod_templates.contains_key(*wanted)) {
        return Intent::NoPodTemplate(format!(
            "spec.server.podTemplate: there is no PodTemplate \"{wanted}\" in the namespace \"{}\": name one that is there, or have it made there",
            config.catalog_namespace
        ));
    }
    let asked = match asked_model(deployment, observed) {
        Ok(asked) => asked,
        Err(why) => return why,
    };
    if let Some(problem) = model_cache::too_large(deployment, &asked) {
        return Intent::Invalid(vec![problem]);
    }
    let template = objects::server_pod(deployment, &asked, config);
    let mut template = match pod_template(deployment).and_then(|wanted| observed.pod_templates.get(wanted)) {
        Some(below) => pod::over_template(&below.template.clone().unwrap_or_default(), template),
        None => template,
    };
    pod::leaves_its_node(&mut template);
    if let Some(problem) = autoscaler::lacks_request(deployment, &template) {
        return Intent::Invalid(vec![problem]);
    }
    // The pod itself is hashed: whatever changes what runs, another image after an upgrade too, is another revision.
    let hash = names::sha256_hex(serde_json::to_string(&template).unwrap_or_default().as_bytes());
    Intent::Serve(Box::new(Revision { name: names::joined(&[name, &hash[..SHORT]]), version: asked.version, template }))
}

fn pod_template(deployment: &ModelDeployment) -> Option<&str> {
    deployment.spec.server.as_ref().and_then(|server| server.settings.pod_template.as_deref())
}

/// What no schema can see of a ModelDeployment. Paths begin with `spec` or `metadata`.
#[must_use]
pub fn check(deployment: &ModelDeployment, config: &Config) -> Vec<Problem> {
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let mut problems = Vec::new();
    if !names::is_label(name) {
        problems.push(Problem::new(
            "metadata.name",
            "InvalidName",
            format!("\"{name}\" cannot be the name of a Service: write at most 63 of a-z, 0-9 and '-', beginning with a letter and ending with a letter or digit"),
        ));
    }
    let to_zero = deployment.spec.scale.as_ref().and_then(|scale| scale.to_zero_after.as_deref());
    if let Some(text) = to_zero.filter(|text| duration::parse(text).is_none_or(|time| time < SHORTEST_TO_ZERO)) {
        problems.push(Problem::new(
            "spec.scale.toZeroAfter",
            "InvalidDuration",
            format!(
                "\"{text}\" is less than a request takes to be seen: write {} or more",
                duration::format(SHORTEST_TO_ZERO)
            ),
        ));
    }
    let drift = deployment.spec.monitoring.as_ref().and_then(|monitoring| monitoring.drift.as_ref());
    let fits = |text: &&str| duration::parse(text).is_some_and(|w| (SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&w));
    if let Some(text) = drift.and_then(|drift| drift.window.as_deref()).filter(|text| !fits(text)) {
        problems.push(Problem::new(
            "spec.monitoring.drift.window",
            "InvalidDuration",
            format!("\"{text}\" is no window from 5m to 7d: write one, such as 1h"),
        ));
    }
    problems.extend(asked_model::check(deployment));
    problems.extend(limits::check(deployment));
    problems.extend(model_cache::check(deployment));
    problems.extend(check_security(deployment.spec.security.as_deref()));
    problems.extend(queries::check(deployment));
    problems.extend(copies::check(deployment));
    problems.extend(payload_log::check(deployment));
    problems.extend(log_writer::check(deployment, config));
    problems.extend(stream::check(deployment));
    problems.extend(autoscaler::check(deployment));
    if let Some(server) = &deployment.spec.server {
        problems.extend(pod::check("spec.server", &server.settings, config));
        for (volume, settings) in &server.settings.volumes {
            let path = settings.mount_path.trim_end_matches('/');
            if path == objects::MODEL_DIR || path.starts_with(&format!("{}/", objects::MODEL_DIR)) {
                problems.push(Problem::new(
                    format!("spec.server.volumes.{volume}.mountPath"),
                    "DuplicateMountPath",
                    format!("\"{path}\" is where the model lies: mount the volume elsewhere"),
                ));
            }
        }
    }
    problems
}
