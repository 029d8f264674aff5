//! The pods of a stage's items. There may be ten thousand, so no watch tells of them: the apiserver would write each of their changes for every
//! replica, which takes longer than the Job itself. While items run, the counts of their Job say enough; what else is needed of the pods is
//! asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use millrace_core::api::{MLPipelineRun, StageStatus};
use millrace_core::names;
use millrace_core::run::{self, JobItems, JobView, PodView};

use super::Passes;
use crate::store::stage_pod_view;
use crate::write::WriteError;

/// So many are asked for at a time.
const MOST: u32 = 500;
/// Of the items that failed first, each try is a pod: so many times the number above are read at most.
const PAGES: usize = 20;
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
            for ask in wanted(stage, job.map(AsRef::as_ref)) {
                found.extend(asked(&api, &labels, ask).await?.into_iter().map(Arc::new));
            }
        }
        Ok(found)
    }
}

async fn asked(api: &Api<Pod>, labels: &str, ask: Ask<'_>) -> Result<Vec<PodView>, WriteError> {
    let failed = |error| WriteError::new("list", "the pods of items", error);
    let list = ListParams::default().labels(labels);
    let some = match ask {
        // What is the matter with these is the matter with the others.
        Ask::Open => list.fields(OPEN).limit(MOST),
        Ask::Failed => list.fields(FAILED).limit(MOST),
        Ask::Any => list.limit(1),
        Ask::FailedFirst(indexes) => {
            let indexes: Vec<String> = indexes.iter().map(u32::to_string).collect();
            let labels = format!("{labels},{} in ({})", names::ITEM_INDEX_LABEL, indexes.join(","));
            let (mut list, mut last) = (list.labels(&labels).fields(FAILED).limit(MOST), BTreeMap::new());
            for _ in 0..PAGES {
                let pods = api.list(&list).await.map_err(failed)?;
                pods.items.iter().for_each(|pod| newest(&mut last, stage_pod_view(pod)));
                match pods.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => list = list.continue_token(&token),
                    None => break,
                }
            }
            return Ok(last.into_values().collect());
        }
    };
    let pods = api.list(&some).await.map_err(failed)?;
    Ok(pods.items.iter().map(stage_pod_view).collect())
}

/// Of the pods of an item only the one that was made last counts: no more are kept than there are items.
fn newest(last: &mut BTreeMap<Option<u32>, PodView>, pod: PodView) {
    if last.get(&pod.index).is_none_or(|other| other.created <= pod.created) {
        last.insert(pod.index, pod);
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask<'a> {
    /// Some that may have a program that runs.
    Open,
    /// Some that failed.
    Failed,
    /// The last one that failed of each of these items: among thousands that failed too, they may be anywhere.
    FailedFirst(&'a [u32]),
    /// Any one.
    Any,
}

/// Which pods tell more than the Job's counts.
fn wanted<'a>(stage: &StageStatus, job: Option<&'a JobView>) -> Vec<Ask<'a>> {
    // The stage or its Job is over: do its programs still run?
    let Some(job) = job.filter(|_| !stage.state.ended()) else { return vec![Ask::Open] };
    if job.complete {
        // Any of them says what image it was.
        return vec![Ask::Any];
    }
    let run = job.items.as_ref().is_some_and(|items| items.ready > 0);
    // Why it failed.
    if job.failed.is_some() {
        let of = |items: &'a JobItems| Some(&items.first_failed[..]).filter(|first| !first.is_empty());
        let failed = job.items.as_ref().and_then(of).map_or(Ask::Failed, Ask::FailedFirst);
        return vec![failed, Ask::Open];
    }
    // What holds them all up.
    if job.deleting || !run { vec![Ask::Failed, Ask::Open] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use millrace_core::api::StageState;
    use millrace_core::run::Words;

    use super::*;

    #[test]
    fn pods_are_asked_for_only_where_the_counts_say_too_little() {
        let running = StageStatus { state: StageState::Running, ..StageStatus::default() };
        let job = |ready| JobView { items: Some(JobItems { ready, ..JobItems::default() }), ..JobView::default() };
        assert!(wanted(&running, Some(&job(3))).is_empty());
        assert_eq!(wanted(&running, Some(&job(0))), [Ask::Failed, Ask::Open]);
        assert_eq!(wanted(&running, None), [Ask::Open]);
        assert_eq!(wanted(&running, Some(&JobView { complete: true, ..job(0) })), [Ask::Any]);
        let failed = |first: &[u32]| {
            let items = JobItems { ready: 3, first_failed: first.to_vec(), ..JobItems::default() };
            JobView { failed: Some(Words::default()), items: Some(items), ..JobView::default() }
        };
        assert_eq!(wanted(&running, Some(&failed(&[7, 900]))), [Ask::FailedFirst(&[7, 900]), Ask::Open]);
        assert_eq!(wanted(&running, Some(&failed(&[]))), [Ask::Failed, Ask::Open]);
        let canceled = StageStatus { state: StageState::Failed, ..running };
        assert_eq!(wanted(&canceled, Some(&job(3))), [Ask::Open]);
    }

    #[test]
    fn of_each_item_the_pod_that_was_made_last_is_kept() {
        let pod = |index, created: &str| PodView {
            name: format!("{index}-{created}"),
            index: Some(index),
            created: Some(created.parse().unwrap()),
            ..PodView::default()
        };
        let (early, late) = ("2026-11-22T10:00:00Z", "2026-11-22T10:00:05Z");
        let mut last = BTreeMap::new();
        for pod in [pod(7, early), pod(900, late), pod(7, late), pod(900, early)] {
            newest(&mut last, pod);
        }
        let names: Vec<&str> = last.values().map(|pod| pod.name.as_str()).collect();
        assert_eq!(names, [format!("7-{late}"), format!("900-{late}")]);
    }
}
