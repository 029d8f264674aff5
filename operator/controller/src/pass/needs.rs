//! What is needed of a pipeline's store, read from the apiserver when a pod is about to be told: the shelves keep less of runs that have ended, and
//! nothing of what this program cannot read.

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Resource};
use millrace_core::api::{MLPipeline, MLPipelineRun, ModelDeployment, ModelVersion};
use millrace_core::pipeline::{Needs, PipelineObserved};
use serde_json::{Value, json};

use super::Passes;
use crate::key::Id;
use crate::write::chain;

/// Objects of one answer: memory is bounded by these, and a run may be large.
const PAGE: u32 = 50;

impl Passes {
    /// None where there is no store. What cannot be read is tried again.
    pub(super) async fn needs(
        &self,
        id: &Id,
        pipeline: &MLPipeline,
        observed: &PipelineObserved,
    ) -> Option<Result<Needs, String>> {
        let mut needs = Needs::of(pipeline)?;
        observed.templates.values().for_each(|template| needs.object(&json!(template.spec)));
        // A claim is of one namespace, and a bucket may serve several: all that this operator works in, for it may read no other one.
        let is_claim = pipeline.spec.store.as_ref().is_some_and(|store| store.pvc.is_some());
        let of: Vec<Option<&str>> = match self.config.namespaces.as_slice() {
            _ if is_claim => vec![Some(id.namespace.as_str())],
            [] => vec![None],
            some => some.iter().map(|namespace| Some(namespace.as_str())).collect(),
        };
        for namespace in of {
            if let Err(error) = self.read(namespace, &mut needs).await {
                let error = chain(&error);
                tracing::warn!(object = %id, %error, "what needs the artifacts of a pipeline cannot be read; it will be tried again");
                let place = namespace.map_or_else(|| "any namespace".to_owned(), |name| format!("namespace {name}"));
                return Some(Err(format!("what needs the artifacts cannot be read in {place}: {error}")));
            }
        }
        Some(Ok(needs))
    }

    /// What stands in a namespace, or in all of them.
    async fn read(&self, namespace: Option<&str>, needs: &mut Needs) -> Result<(), kube::Error> {
        self.each::<MLPipelineRun>(namespace, |run| needs.run(run)).await?;
        self.each::<ModelVersion>(namespace, |version| needs.object(&version)).await?;
        self.each::<ModelDeployment>(namespace, |deployment| needs.object(&deployment)).await?;
        // What is said of a pipeline names no artifacts that it needs.
        self.each::<MLPipeline>(namespace, |other| {
            needs.object(&other["spec"]);
            needs.object(&other["metadata"]["annotations"]);
        })
        .await?;
        // The pipeline may say something else by now, and what a run reads later stands only there.
        let frozen: Vec<(String, String)> = needs.frozen().filter(|(of, _)| is_of(of, namespace)).cloned().collect();
        for (of, name) in frozen {
            let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), &of);
            if let Some(data) = api.get_opt(&name).await?.and_then(|revision| revision.data) {
                needs.object(&data.0);
            }
        }
        Ok(())
    }

    /// Every object of a kind as it is, without who wrote which field.
    async fn each<K: Resource<DynamicType = ()>>(
        &self,
        namespace: Option<&str>,
        mut take: impl FnMut(Value),
    ) -> Result<(), kube::Error> {
        let kind = ApiResource::erase::<K>(&());
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind),
            None => Api::all_with(self.client.clone(), &kind),
        };
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let listed = api.list(&page).await?;
            for mut object in listed.items {
                object.metadata.managed_fields = None;
                take(json!(object));
            }
            match listed.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(()),
            }
        }
    }
}

/// It is read there.
fn is_of(of: &str, namespace: Option<&str>) -> bool {
    namespace.is_none_or(|namespace| namespace == of)
}
