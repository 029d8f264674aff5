//! Writes to objects that are there: merge patches of fields that only people set, and applies where fields have owners.

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use millrace_core::api::{API_VERSION, ModelDeployment};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::connect::{Cluster, Named};
use crate::error::{Error, owners};

/// Field manager of what a person does with this program.
pub const MANAGER: &str = "kubectl-millrace";

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

/// Sets one field of a ModelDeployment's spec as `manager`. If it is somebody else's, the error says whose and what to do about it; `force` takes it
/// over.
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
    let parameters = PatchParams { force, ..PatchParams::apply(manager) };
    match cluster.api::<ModelDeployment>().patch(&name, &parameters, &Patch::Apply(wanted)).await {
        Ok(applied) => Ok(applied),
        Err(error) => match owners(&error).as_slice() {
            [] => Err(Error::request("change", format!("ModelDeployment {name}"), error)),
            found => Err(Error::said(owned(&name, field, found))),
        },
    }
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
    fn an_owned_field_is_told_with_its_owner_and_the_way_out() {
        let said = owned("m", "spec.model.version", &["flux".into()]);
        assert!(
            said.starts_with("spec.model.version of ModelDeployment m belongs to \"flux\": change it there"),
            "{said}"
        );
        assert!(said.contains("--force-conflicts"), "{said}");
    }
}
