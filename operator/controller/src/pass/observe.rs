//! Gathers what a plan looks at: from memory, but for what is read on demand (frozen pipelines, PodTemplates).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::PodTemplate;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt};
use millrace_core::api::{MLPipelineRun, MLPipelineSpec, ModelDeployment, StageTemplate};
use millrace_core::pipeline::{Frozen, FrozenKind, PipelineObserved};
use millrace_core::plan::Refusal;
use millrace_core::{deployment, run};
use tokio::time::Instant;

use super::Passes;
use crate::key::Id;
use crate::wake::pipeline_of;
use crate::write::WriteError;

/// How long a PodTemplate of the catalog is taken for unchanged.
const TEMPLATE_AGE: Duration = Duration::from_secs(10);

type Templates = BTreeMap<String, Arc<StageTemplate>>;

/// PodTemplates that were read, and when; also those that were not there.
#[derive(Default)]
pub struct PodTemplates(Mutex<HashMap<String, Looked>>);

/// When it was looked for, and what was there.
type Looked = (Instant, Option<Arc<PodTemplate>>);

impl Passes {
    pub(super) fn observe_pipeline(&self, id: &Id, refusals: Vec<Refusal>) -> PipelineObserved {
        let runs = self.stores.runs.group(&id.namespace).into_values();
        PipelineObserved {
            templates: self.stores.templates_for(&id.namespace, &self.config.catalog_namespace),
            runs: runs.filter(|run| pipeline_of(run) == Some(&id.name)).collect(),
            refusals,
        }
    }

    /// What a run looks at, and when it is to look again for what no watch tells.
    pub(super) async fn observe_run(
        &self,
        id: &Id,
        run: &MLPipelineRun,
        refusals: Vec<Refusal>,
        now: Timestamp,
    ) -> Result<(run::Observed, Option<Duration>), WriteError> {
        let uid = run.uid().unwrap_or_default();
        let named = run.status.as_ref().and_then(|s| s.frozen.as_ref());
        let frozen = match named {
            Some(name) => self.frozen.get(&self.client, &Id::new(&id.namespace, name)).await?,
            None => None,
        };
        let pipeline = pipeline_of(run).and_then(|name| self.stores.pipelines.get(&Id::new(&id.namespace, name)));
        let templates = self.stores.templates_for(&id.namespace, &self.config.catalog_namespace);
        let wanted = match &frozen {
            Some(frozen) => templates_of_frozen(frozen),
            None => {
                let spec = pipeline.as_ref().map(|p| &p.spec).or(run.spec.pipeline.as_ref());
                spec.map(|spec| templates_of_spec(spec, &templates)).unwrap_or_default()
            }
        };
        let pod_templates = self.pod_templates(wanted).await?;
        let jobs: Vec<_> = self.stores.jobs.group(&uid).into_values().collect();
        let pods: Vec<_> = self.stores.stage_pods.group(&uid).into_values().collect();
        let (job_warnings, look_again) = self.warnings.of(&self.client, &id.namespace, &jobs, &pods, now).await;
        let observed = run::Observed {
            pipeline,
            templates,
            pod_templates,
            frozen,
            jobs,
            pods,
            model_versions: self.stores.versions.group(&id.namespace).into_values().collect(),
            model_deployments: self.stores.deployments.group(&id.namespace),
            refusals,
            job_warnings,
        };
        Ok((observed, look_again))
    }

    pub(super) async fn observe_deployment(
        &self,
        id: &Id,
        deployment: &ModelDeployment,
        refusals: Vec<Refusal>,
    ) -> Result<deployment::Observed, WriteError> {
        let group = id.to_string();
        let wanted = deployment.spec.server.iter().filter_map(|s| s.settings.pod_template.clone()).collect();
        Ok(deployment::Observed {
            model_versions: self.stores.versions.group(&id.namespace).into_values().collect(),
            deployments: self.stores.server_deployments.group(&group).into_values().collect(),
            pods: self.stores.server_pods.group(&group).into_values().collect(),
            service: self.stores.services.get(id),
            pod_templates: self.pod_templates(wanted).await?,
            refusals,
        })
    }

    /// The PodTemplates of these names that the catalog has.
    async fn pod_templates(&self, names: BTreeSet<String>) -> Result<BTreeMap<String, Arc<PodTemplate>>, WriteError> {
        let mut found = BTreeMap::new();
        for name in names {
            if let Some(template) = self.pod_template(&name).await? {
                found.insert(name, template);
            }
        }
        Ok(found)
    }

    async fn pod_template(&self, name: &str) -> Result<Option<Arc<PodTemplate>>, WriteError> {
        {
            let kept = self.pod_templates.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, template)) = kept.get(name).filter(|(read, _)| read.elapsed() < TEMPLATE_AGE) {
                return Ok(template.clone());
            }
        }
        let api: Api<PodTemplate> = Api::namespaced(self.client.clone(), &self.config.catalog_namespace);
        let read = api.get_opt(name).await.map_err(|e| WriteError::new("read", &format!("PodTemplate {name}"), e))?;
        let template = read.map(Arc::new);
        let mut kept = self.pod_templates.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (read, _)| read.elapsed() < TEMPLATE_AGE);
        kept.insert(name.to_owned(), (Instant::now(), template.clone()));
        Ok(template)
    }
}

fn templates_of_frozen(frozen: &Frozen) -> BTreeSet<String> {
    let containers = frozen.stages.values().filter_map(|stage| match &stage.kind {
        FrozenKind::Container(container) => Some(container),
        FrozenKind::Register(_) | FrozenKind::Deploy(_) => None,
    });
    containers.filter_map(|c| c.container.settings.pod_template.clone()).collect()
}

/// Those that a pipeline may name once its templates are resolved.
fn templates_of_spec(spec: &MLPipelineSpec, templates: &Templates) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for stage in spec.stages.values() {
        let own = stage.container.as_ref().and_then(|c| c.settings.pod_template.clone());
        let laid_over = stage.overrides.as_ref().and_then(|o| o.pod_template.clone());
        let template = stage.uses.as_ref().and_then(|name| templates.get(name));
        let used = template.and_then(|t| t.spec.container.settings.pod_template.clone());
        names.extend([own, laid_over, used].into_iter().flatten());
    }
    names
}
