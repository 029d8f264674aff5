//! `history`: which finished runs of a pipeline are deleted, what they ran with them, and when to look again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use crate::api::{History, MLPipelineRun};
use crate::duration;
use crate::plan::{Delete, DeleteKind};

/// How many runs of each outcome are kept unless something is said.
const KEEP: u32 = 10;

/// A finished run.
struct Finished<'a> {
    ended: Timestamp,
    name: &'a str,
    uid: &'a str,
    succeeded: bool,
}

/// The runs to delete, oldest first, and how long until the next one's time is up.
pub(super) fn expired(
    history: Option<&History>,
    runs: &[Arc<MLPipelineRun>],
    now: Timestamp,
) -> (Vec<Delete>, Option<Duration>) {
    let mut finished: Vec<Finished<'_>> = runs.iter().filter_map(|run| finished(run)).collect();
    finished.sort_by(|a, b| (a.ended, a.name).cmp(&(b.ended, b.name)));
    let keep = |wanted: Option<u32>| usize::try_from(wanted.unwrap_or(KEEP)).unwrap_or(usize::MAX);
    let keep_succeeded = keep(history.and_then(|history| history.keep_succeeded));
    let keep_failed = keep(history.and_then(|history| history.keep_failed));
    let ttl = history.and_then(|history| history.ttl.as_deref()).and_then(duration::parse);
    let count = |succeeded: bool| finished.iter().filter(|run| run.succeeded == succeeded).count();
    let mut surplus_succeeded = count(true).saturating_sub(keep_succeeded);
    let mut surplus_failed = count(false).saturating_sub(keep_failed);
    let (mut delete, mut next) = (Vec::new(), None);
    for run in &finished {
        let surplus = if run.succeeded { &mut surplus_succeeded } else { &mut surplus_failed };
        let left = ttl.map(|ttl| left(run.ended, ttl, now));
        if *surplus > 0 || left == Some(Duration::ZERO) {
            *surplus = surplus.saturating_sub(1);
            delete.push(Delete { kind: DeleteKind::Run, name: run.name.to_owned(), uid: run.uid.to_owned() });
        } else {
            next = next.into_iter().chain(left).min();
        }
    }
    (delete, next)
}

/// What only these runs ran. It belongs to the pipeline and would stay as long as that. Nothing while a run begins: it
/// may be about to run the same.
pub(super) fn unnamed(pipeline: &ObjectMeta, runs: &[Arc<MLPipelineRun>], deleted: &[Delete]) -> Vec<Delete> {
    let goes = |run: &&Arc<MLPipelineRun>| deleted.iter().any(|delete| Some(&delete.uid) == run.metadata.uid.as_ref());
    let (gone, stay): (Vec<_>, Vec<_>) = runs.iter().partition(goes);
    let begins = |run: &&Arc<MLPipelineRun>| {
        run.status.as_ref().is_none_or(|status| status.completion_time.is_none() && status.frozen.is_none())
    };
    let Some(uid) = pipeline.uid.as_ref().filter(|_| !stay.iter().any(begins)) else { return Vec::new() };
    let frozen = |run: &Arc<MLPipelineRun>| run.status.as_ref().and_then(|status| status.frozen.clone());
    let named: BTreeSet<String> = stay.into_iter().filter_map(frozen).collect();
    // What a run of a person's ran is the run's, and goes with it.
    let ran: BTreeSet<String> = gone.into_iter().filter(|run| run.spec.trigger.is_some()).filter_map(frozen).collect();
    let delete = |name: &String| Delete { kind: DeleteKind::ControllerRevision, name: name.clone(), uid: uid.clone() };
    ran.difference(&named).map(delete).collect()
}

fn finished(run: &MLPipelineRun) -> Option<Finished<'_>> {
    let status = run.status.as_ref()?;
    if run.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(Finished {
        ended: status.completion_time.as_ref()?.0,
        name: run.metadata.name.as_deref()?,
        uid: run.metadata.uid.as_deref()?,
        succeeded: status.conditions.iter().any(|c| c.type_ == "Succeeded" && c.status == "True"),
    })
}

/// How long until `ttl` after `ended` is past; zero if it is.
fn left(ended: Timestamp, ttl: Duration, now: Timestamp) -> Duration {
    let past = Duration::try_from(now.duration_since(ended)).unwrap_or(Duration::ZERO);
    ttl.saturating_sub(past)
}
