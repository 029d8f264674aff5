//! Objects that are POSTed once. A name that is taken is ours only if what is there says that it is ours.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::{Resource, ResourceExt};
use millrace_core::names::{FIELD_MANAGER, RETRY_LABEL, RUN_UID_LABEL, STAGE_LABEL};
use millrace_core::plan::{Create, Refusal};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Writer;
use super::error::{WriteError, code, name_taken, refused};
use crate::metrics::Verb;
use crate::store::{controller_uid, job, look_job, whole};
use crate::wake;

pub fn post() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

impl Writer {
    pub(super) async fn create(&self, namespace: &str, create: Create) -> Result<Option<Refusal>, WriteError> {
        match create {
            Create::Job(wanted) => {
                let made = self.post(namespace, "Job", &*wanted, same_controller).await?;
                Ok(made.map(|made| self.made(&self.stores.jobs, made, job, wake::of_run)).err())
            }
            Create::JobOver(list, wanted) => {
                if let Err(refusal) = self.list(namespace, &list, &wanted.name_any()).await? {
                    return Ok(Some(refusal));
                }
                let made = self.post(namespace, "Job", &*wanted, same_controller).await?;
                Ok(made.map(|made| self.made(&self.stores.jobs, made, job, wake::of_run)).err())
            }
            Create::Run(wanted) => {
                let made = self.post(namespace, "MLPipelineRun", &*wanted, same_controller).await?;
                Ok(made.map(|made| self.made(&self.stores.runs, made, whole, wake::run)).err())
            }
            Create::Look(wanted) => {
                let made = self.post(namespace, "Job", &*wanted, same_controller).await?;
                Ok(made.map(|made| self.made(&self.stores.look_jobs, made, look_job, wake::look)).err())
            }
            Create::ModelVersion(wanted) => {
                let made = self.post(namespace, "ModelVersion", &*wanted, same_stage).await?;
                Ok(made.map(|made| self.made(&self.stores.versions, made, whole, wake::version)).err())
            }
        }
    }

    /// POSTs the list of a Job. One of that name is the same, or nobody reads it: the agents compare its digest. A refusal is the Job's.
    async fn list(&self, namespace: &str, list: &ConfigMap, job: &str) -> Result<Result<(), Refusal>, WriteError> {
        self.metrics.wrote(Verb::Create);
        match self.api::<ConfigMap>(namespace).create(&post(), list).await {
            Err(error) if code(&error) != Some(409) => refused("create", &format!("Job {job}"), error).map(Err),
            _ => Ok(Ok(())),
        }
    }

    /// POSTs an object, or finds that it was POSTed before.
    async fn post<K>(
        &self,
        namespace: &str,
        kind: &'static str,
        wanted: &K,
        same: fn(&K, &K) -> bool,
    ) -> Result<Result<K, Refusal>, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Serialize,
    {
        let api = self.api::<K>(namespace);
        let name = wanted.name_any();
        let object = format!("{kind} {name}");
        self.metrics.wrote(Verb::Create);
        let error = match api.create(&post(), wanted).await {
            Ok(made) => return Ok(Ok(made)),
            Err(error) => error,
        };
        if code(&error) != Some(409) {
            return refused("create", &object, error).map(Err);
        }
        // Gone again between the two requests: the next pass decides anew.
        let found = api.get(&name).await.map_err(|e| WriteError::new("read", &object, e))?;
        if same(wanted, &found) {
            return Ok(Ok(found));
        }
        Ok(Err(name_taken(&object, controller_uid(found.meta()).as_deref())))
    }
}

fn same_controller<K: Resource>(wanted: &K, found: &K) -> bool {
    let uid = controller_uid(wanted.meta());
    uid.is_some() && uid == controller_uid(found.meta())
}

/// A ModelVersion has no controller: it outlives its run. The run and the stage that registered it decide.
fn same_stage<K: Resource>(wanted: &K, found: &K) -> bool {
    let again = |version: &K| version.labels().get(RETRY_LABEL).cloned();
    again(wanted) == again(found)
        && [RUN_UID_LABEL, STAGE_LABEL].iter().all(|label| {
            let value = wanted.labels().get(*label);
            value.is_some() && value == found.labels().get(*label)
        })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::batch::v1::Job;
    use millrace_core::api::ModelVersion;
    use serde_json::json;

    use super::*;

    fn owned(owners: &serde_json::Value) -> Job {
        serde_json::from_value(json!({ "metadata": { "name": "a", "ownerReferences": owners } })).unwrap()
    }

    #[test]
    fn a_look_alike_is_never_taken_for_an_own_job() {
        let owner = |uid: &str, controller: bool| json!([{ "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun", "name": "r", "uid": uid, "controller": controller }]);
        let mine = owned(&owner("u1", true));
        assert!(same_controller(&mine, &mine));
        assert!(!same_controller(&mine, &owned(&owner("u2", true))), "the run of an earlier life");
        assert!(!same_controller(&mine, &owned(&owner("u1", false))), "an owner that does not control");
        assert!(!same_controller(&mine, &owned(&json!([]))));
        assert!(!same_controller(&owned(&json!([])), &owned(&json!([]))), "two without a controller are not the same");
    }

    #[test]
    fn a_model_version_is_the_same_if_the_same_stage_of_the_same_run_registered_it() {
        let version = |uid: &str, stage: &str| {
            let mut version = ModelVersion::default();
            version.labels_mut().insert(RUN_UID_LABEL.into(), uid.into());
            version.labels_mut().insert(STAGE_LABEL.into(), stage.into());
            version
        };
        assert!(same_stage(&version("u", "register"), &version("u", "register")));
        assert!(!same_stage(&version("u", "register"), &version("v", "register")));
        assert!(!same_stage(&version("u", "register"), &version("u", "other")));
        assert!(!same_stage(&ModelVersion::default(), &ModelVersion::default()));
    }
}
