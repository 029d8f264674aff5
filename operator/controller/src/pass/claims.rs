//! Who may mount the claims that an object names: asked of the apiserver by name, so that no right to all claims is needed and nothing of them is
//! kept but their access modes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplate};
use kube::Api;
use millrace_core::api::{MLPipelineSpec, ModelVersion, RunInput, StageTemplate};
use millrace_core::pipeline::{Frozen, FrozenStage, claims};
use millrace_core::pod::{Access, Claims};
use tokio::time::Instant;

use super::Passes;
use crate::key::Id;
use crate::write::{WriteError, code};

/// How long a claim is taken for unchanged. Its modes only change when it is bound, or when another gets its name.
const AGE: Duration = Duration::from_secs(10);

/// The longest name of an object.
const LONGEST: usize = 253;

/// Claims that were read, and when. One that is not there is asked for again: it comes beside what names it.
#[derive(Default)]
pub struct KnownClaims(Mutex<HashMap<Id, (Instant, Access)>>);

impl Passes {
    /// Those of these that are there and may be read.
    pub(super) async fn claims(&self, namespace: &str, names: BTreeSet<String>) -> Result<Claims, WriteError> {
        let mut found = Claims::new();
        // In an address there may be an expression, and anything else in a name that a person wrote: nothing is called so.
        for name in names.into_iter().filter(|name| is_name(name)) {
            if let Some(access) = self.claim(namespace, &name).await? {
                found.insert(name, access);
            }
        }
        Ok(found)
    }

    async fn claim(&self, namespace: &str, name: &str) -> Result<Option<Access>, WriteError> {
        let id = Id::new(namespace, name);
        {
            let kept = self.known_claims.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, access)) = kept.get(&id).filter(|(read, _)| read.elapsed() < AGE) {
                return Ok(Some(*access));
            }
        }
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let read = match api.get_opt(name).await {
            Ok(read) => read,
            // Its pods are drawn together then, and nothing is refused.
            Err(error) if code(&error) == Some(403) => {
                tracing::warn!(object = %id, %error, "a PersistentVolumeClaim may not be read");
                None
            }
            Err(error) => return Err(WriteError::new("read", &format!("PersistentVolumeClaim {name}"), error)),
        };
        let access = read.as_ref().map(Access::of);
        let mut kept = self.known_claims.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (read, _)| read.elapsed() < AGE);
        kept.extend(access.map(|access| (id, (Instant::now(), access))));
        Ok(access)
    }
}

/// What an object may be called.
fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(edge) && part.ends_with(edge) && part.chars().all(|c| edge(c) || c == '-')
    };
    name.len() <= LONGEST && name.split('.').all(part)
}

/// What a run mounts: what it is frozen with, and before that what its pipeline says now.
pub(super) fn of_run(
    frozen: Option<&Frozen>,
    spec: Option<&MLPipelineSpec>,
    templates: &BTreeMap<String, Arc<StageTemplate>>,
    versions: &[Arc<ModelVersion>],
) -> BTreeSet<String> {
    let Some(frozen) = frozen else {
        return spec.map(|spec| claims::of_spec(spec, templates)).unwrap_or_default();
    };
    let mut found = claims::of_frozen(frozen);
    found.extend(of_models(frozen, versions));
    found
}

/// The claims on which lies what the run was given.
pub(super) fn of_given(given: &BTreeMap<String, RunInput>) -> impl Iterator<Item = String> {
    let uris =
        given.values().filter_map(|given| given.uri.as_ref().or(given.artifact.as_ref().map(|found| &found.uri)));
    uris.filter_map(|uri| claims::of_address(uri))
}

/// The claims on which registered models lie, where a stage of the run reads one.
fn of_models(frozen: &Frozen, versions: &[Arc<ModelVersion>]) -> BTreeSet<String> {
    let mut inputs = frozen.stages.values().flat_map(FrozenStage::inputs).map(|(_, input)| input);
    let reads = inputs.any(|input| input.model.is_some() || input.deployed.is_some());
    let uris = versions.iter().filter(|_| reads).map(|version| version.spec.artifact.uri.as_str());
    uris.filter_map(claims::of_address).collect()
}

/// The claims of a PodTemplate.
pub(super) fn of_template(template: &PodTemplate) -> impl Iterator<Item = String> {
    let spec = template.template.iter().filter_map(|template| template.spec.as_ref());
    let claims = spec.flat_map(|spec| spec.volumes.iter().flatten()).filter_map(|v| v.persistent_volume_claim.as_ref());
    claims.map(|claim| claim.claim_name.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_of_models_are_asked_for_only_where_a_stage_reads_one() {
        let frozen = |input: serde_json::Value| -> Frozen {
            let stage = json!({
                "container": { "image": "i", "command": ["c"] }, "inputs": { "m": input }, "outputs": {},
                "retry": { "limit": 0 }, "pendingTimeoutSeconds": 60,
            });
            let stages = json!({ "s": { "needs": [], "kind": { "container": stage } } });
            serde_json::from_value(json!({ "params": {}, "stages": stages })).unwrap()
        };
        let artifact = json!({ "uri": "pvc://models/a/b", "digest": "", "size": 1 });
        let version: ModelVersion = serde_json::from_value(json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "ModelVersion", "metadata": { "name": "m-v1" }, "spec": { "model": "m", "version": 1, "format": "onnx", "artifact": artifact },
        }))
        .unwrap();
        let versions = [Arc::new(version)];
        let of = |input| of_run(Some(&frozen(input)), None, &BTreeMap::new(), &versions);
        assert_eq!(of(json!({ "deployed": "served" })), BTreeSet::from(["models".to_owned()]));
        assert_eq!(of(json!({ "from": "a.b" })), BTreeSet::new());
    }

    #[test]
    fn what_nothing_is_called_is_not_asked_for() {
        assert!(is_name("artifacts") && is_name("data-0.team-a"));
        for name in ["", "a/b", "$[[ params.claim ]]", "Artifacts", "a..b", "-a", "a_b", &"a".repeat(254)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_pod_template_names_its_claims() {
        let volumes = json!([{ "name": "a", "persistentVolumeClaim": { "claimName": "scratch" } }, { "name": "b", "emptyDir": {} }]);
        let template = json!({ "metadata": {}, "template": { "spec": { "containers": [], "volumes": volumes } } });
        let template: PodTemplate = serde_json::from_value(template).unwrap();
        assert_eq!(of_template(&template).collect::<Vec<_>>(), ["scratch"]);
    }
}
