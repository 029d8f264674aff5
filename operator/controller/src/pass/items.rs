//! The pods of a stage's items. There may be ten thousand, so no watch tells of them: the apiserver would write each of their changes for every
//! replica, which takes longer than the Job itself. While items run, the counts of their Job say enough; what else is needed of the pods is
//! asked for.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use millrace_core::api::{MLPipelineRun, StageStatus};
use millrace_core::names;
use millrace_core::run::{self, JobView, PodView};

use super::Passes;
use crate::store::stage_pod_view;
use crate::write::WriteError;

/// So many are asked for: what is the matter with these is the matter with the others.
const MOST: u32 = 500;
/// Those that may have a program that runs.
const OPEN: &str = "status.phase!=Succeeded,status.phase!=Failed";
const FAILED: &str = "status.phase=Failed";

impl Passes {
    /// The pods of items that a run looks at now.
    pub(super) async fn item_pods(
        &self,
        namespace: &str,
        run: &MLPipelineRun,
        jobs: &[Arc<JobView>],
    ) -> Result<Vec<Arc<PodView>>, WriteError> {
        let mut found = Vec::new();
        let (Some(uid), Some(status)) = (run.uid(), run.status.as_ref()) else { return Ok(found) };
        if status.completion_time.is_some() {
            return Ok(found);
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        for (name, stage) in status.stages.iter().filter(|(name, _)| run::has_item_pods(run, name)) {
            let job = stage.job.as_ref().and_then(|named| jobs.iter().find(|job| job.name == named.name));
            let labels = format!("{}={uid},{}={name},{}", names::RUN_UID_LABEL, names::STAGE_LABEL, names::ITEM_LABEL);
            for (phase, most) in wanted(stage, job.map(AsRef::as_ref)) {
                let list = ListParams::default().labels(&labels).fields(phase).limit(*most);
                let pods = api.list(&list).await.map_err(|e| WriteError::new("list", "the pods of items", e))?;
                found.extend(pods.items.iter().map(stage_pod_view).map(Arc::new));
            }
        }
        Ok(found)
    }
}

/// Which pods tell more than the Job's counts.
fn wanted(stage: &StageStatus, job: Option<&JobView>) -> &'static [(&'static str, u32)] {
    // The stage or its Job is over: do its programs still run?
    let Some(job) = job.filter(|_| !stage.state.ended()) else { return &[(OPEN, MOST)] };
    if job.complete {
        // Any of them says what image it was.
        return &[("", 1)];
    }
    let run = job.items.as_ref().is_some_and(|items| items.ready > 0);
    // Why it failed, or what holds them all up.
    if job.deleting || job.failed.is_some() || !run { &[(FAILED, MOST), (OPEN, MOST)] } else { &[] }
}

#[cfg(test)]
mod tests {
    use millrace_core::api::StageState;
    use millrace_core::run::{JobItems, Words};

    use super::*;

    #[test]
    fn pods_are_asked_for_only_where_the_counts_say_too_little() {
        let running = StageStatus { state: StageState::Running, ..StageStatus::default() };
        let job = |ready| JobView { items: Some(JobItems { ready, ..JobItems::default() }), ..JobView::default() };
        let phases = |stage: &StageStatus, job: Option<&JobView>| -> Vec<&str> {
            wanted(stage, job).iter().map(|(phase, _)| *phase).collect()
        };
        assert!(phases(&running, Some(&job(3))).is_empty());
        assert_eq!(phases(&running, Some(&job(0))), [FAILED, OPEN]);
        assert_eq!(phases(&running, None), [OPEN]);
        assert_eq!(phases(&running, Some(&JobView { complete: true, ..job(0) })), [""]);
        let failed = JobView { failed: Some(Words::default()), ..job(3) };
        assert_eq!(phases(&running, Some(&failed)), [FAILED, OPEN]);
        let canceled = StageStatus { state: StageState::Failed, ..running };
        assert_eq!(phases(&canceled, Some(&job(3))), [OPEN]);
    }
}
