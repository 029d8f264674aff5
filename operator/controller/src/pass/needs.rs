//! What is needed of a pipeline's store, read from the apiserver when a pod is about to be told: the shelves keep less of runs that have ended, and
//! nothing of what this program cannot read.

use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Resource};
use millrace_core::api::{MLPipeline, MLPipelineRun, ModelDeployment, ModelVersion};
use millrace_core::pipeline::{Needs, PipelineObserved};
use serde_json::{Value, json};

use super::Passes;
use crate::key::Id;

/// Objects of one answer: memory is bounded by these.
const PAGE: u32 = 200;

impl Passes {
    /// None where they cannot be read: it is tried again.
    pub(super) async fn needs(&self, id: &Id, pipeline: &MLPipeline, observed: &PipelineObserved) -> Option<Needs> {
        let mut needs = Needs::of(pipeline)?;
        observed.templates.values().for_each(|template| needs.object(&json!(template.spec)));
        let read = async {
            let here = Some(id.namespace.as_str());
            // A claim is of one namespace, and a bucket may serve several.
            let is_claim = pipeline.spec.store.as_ref().is_some_and(|store| store.pvc.is_some());
            let wide = here.filter(|_| is_claim);
            self.each::<MLPipelineRun>(here, |run| needs.run(run)).await?;
            self.each::<ModelVersion>(wide, |version| needs.object(&version)).await?;
            self.each::<ModelDeployment>(wide, |deployment| needs.object(&deployment)).await?;
            // What is said of a pipeline names no artifacts that it needs.
            self.each::<MLPipeline>(here, |other| {
                needs.object(&other["spec"]);
                needs.object(&other["metadata"]["annotations"]);
            })
            .await
        };
        if let Err(error) = read.await {
            tracing::warn!(object = %id, %error, "what needs the artifacts of a pipeline cannot be read; it will be tried again");
            return None;
        }
        Some(needs)
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
