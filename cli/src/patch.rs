//! Writes to objects that are there: merge patches of fields that only people set, and applies where fields have owners.

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use millrace_core::api::{API_VERSION, ModelDeployment};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::connect::{Cluster, Named};
use crate::error::{Error, owners};
use crate::output;

/// Field manager of what a person does with this program.
pub const MANAGER: &str = "kubectl-millrace";
/// Field managers of a person at kubectl: what one command of a person set, another may set.
const PERSONS: [&str; 6] =
    ["kubectl", "kubectl-client-side-apply", "kubectl-create", "kubectl-edit", "kubectl-patch", "kubectl-replace"];
/// Those of them that apply a manifest, and will do so again.
const APPLIES: [&str; 2] = ["kubectl", "kubectl-client-side-apply"];

/// Patches the spec of an object.
pub async fn spec<K: Named + Serialize + DeserializeOwned>(
    cluster: &Cluster,
    name: &str,
    spec: &Value,
) -> Result<K, Error> {
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({ "spec": spec }));
    let patched = cluster.api::<K>().patch(name, &parameters, &patch).await;
    patched.map_err(|error| Error::request("change", format!("{} {name}", K::kind(&())), error))
}

/// Sets one field of a ModelDeployment's spec as `manager`. What a person set with kubectl is taken over. If it is somebody else's, the error says
/// whose and what to do about it; `force` takes it over.
pub async fn own(
    cluster: &Cluster,
    deployment: &ModelDeployment,
    manager: &str,
    field: &str,
    spec: &Value,
    force: bool,
) -> Result<ModelDeployment, Error> {
    let name = deployment.name_any();
    // The uid: one that was made again meanwhile is another.
    let metadata = json!({ "name": name, "uid": deployment.metadata.uid });
    let wanted = json!({ "apiVersion": API_VERSION, "kind": "ModelDeployment", "metadata": metadata, "spec": spec });
    let (api, wanted) = (cluster.api::<ModelDeployment>(), Patch::Apply(wanted));
    let parameters = |force: bool| PatchParams { force, ..PatchParams::apply(manager) };
    let failed = |error: kube::Error| Error::request("change", format!("ModelDeployment {name}"), error);
    let error = match api.patch(&name, &parameters(force), &wanted).await {
        Ok(applied) => return Ok(applied),
        Err(error) => error,
    };
    let found = owners(&error);
    if found.is_empty() {
        return Err(failed(error));
    }
    if !of_persons(&found) {
        return Err(Error::said(owned(&name, field, &found)));
    }
    let applied = api.patch(&name, &parameters(true), &wanted).await.map_err(failed)?;
    if found.iter().any(|owner| APPLIES.contains(&owner.as_str())) {
        output::warn(&format!(
            "note: {field} of ModelDeployment {name} came from a manifest: change it there too, before that is applied again"
        ));
    }
    Ok(applied)
}

/// Nobody else owns it.
fn of_persons(owners: &[String]) -> bool {
    owners.iter().all(|owner| PERSONS.contains(&owner.as_str()))
}

fn owned(name: &str, field: &str, owners: &[String]) -> String {
    let who = owners.iter().map(|owner| format!("\"{owner}\"")).collect::<Vec<_>>().join(" and ");
    format!(
        "{field} of ModelDeployment {name} belongs to {who}: change it there (in Git, if that applies what is in Git), or take it over with \
         --force-conflicts, until {who} writes it again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_set_with_kubectl_is_taken_over_and_nothing_else() {
        let of = |owners: &[&str]| of_persons(&owners.iter().map(|owner| (*owner).to_owned()).collect::<Vec<_>>());
        assert!(of(&["kubectl-patch"]) && of(&["kubectl-client-side-apply", "kubectl-edit"]));
        for other in ["helm", "argocd-controller", "kustomize-controller", "millrace-deploy", "kubectl-millrace"] {
            assert!(!of(&[other]) && !of(&["kubectl-patch", other]), "{other}");
        }
    }

    #[test]
    fn an_owned_field_is_told_with_its_owner_and_the_way_out() {
        let said = owned("m", "spec.model.version", &["flux".into()]);
        assert!(
            said.starts_with("spec.model.version of ModelDeployment m belongs to \"flux\": change it there"),
            "{said}"
        );
        assert!(said.contains("--force-conflicts"), "{said}");
    }
}
