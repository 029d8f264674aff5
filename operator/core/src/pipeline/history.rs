//! `history`: which finished runs of a pipeline are deleted, what they ran with them, and when to look again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use crate::api::{History, MLPipelineRun};
use crate::duration;
use crate::plan::{Delete, DeleteKind, sooner};
use crate::run::{ended, parent};

use super::sweep::Gate;

/// How many runs of each outcome are kept unless something is said.
const KEEP: u32 = 10;

/// A finished run.
struct Finished<'a> {
    ended: Timestamp,
    name: &'a str,
    uid: &'a str,
    succeeded: bool,
}

/// Which runs go.
pub(super) struct Expired {
    /// The runs to delete, oldest first.
    pub delete: Vec<Delete>,
    /// How many of them should have been recorded, and are not.
    pub lost: usize,
    /// How long until the next one's time is up.
    pub next: Option<Duration>,
}

/// The runs to delete. One that is `awaited` is to start another one yet, and the gate holds one that is to be recorded.
pub(super) fn expired(
    history: Option<&History>,
    runs: &[Arc<MLPipelineRun>],
    awaited: impl Fn(&MLPipelineRun) -> bool,
    gate: &Gate<'_>,
    now: Timestamp,
) -> Expired {
    let ended = runs.iter().filter_map(|run| finished(run).filter(|_| !awaited(run)));
    let mut finished: Vec<Finished<'_>> = ended.collect();
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
    recorded(delete, runs, gate, next)
}

/// Of these runs those that are recorded, or wait no more for that.
fn recorded(delete: Vec<Delete>, runs: &[Arc<MLPipelineRun>], gate: &Gate<'_>, next: Option<Duration>) -> Expired {
    let of = |which: &dyn Fn(&MLPipelineRun) -> bool| -> BTreeSet<&str> {
        runs.iter().filter(|run| which(run)).filter_map(|run| run.metadata.uid.as_deref()).collect()
    };
    let (held, unrecorded) = (of(&|run| gate.holds(run)), of(&|run| !gate.is_recorded(run)));
    let waiting = delete.iter().filter(|run| held.contains(run.uid.as_str())).count();
    let mut too_many = Gate::too_many(waiting);
    let next = if waiting > too_many { sooner(next, gate.opens) } else { next };
    let goes = |run: &Delete| {
        let waits = held.contains(run.uid.as_str());
        let goes = !waits || too_many > 0;
        too_many -= usize::from(waits && goes);
        goes
    };
    let delete: Vec<Delete> = delete.into_iter().filter(goes).collect();
    let lost = delete.iter().filter(|run| unrecorded.contains(run.uid.as_str())).count();
    Expired { delete, lost, next }
}

/// The runs to delete, and before them what only they ran: it belongs to the pipeline and would stay as long as that. Where it
/// cannot go yet, its last run stays too: nobody would know of it afterwards.
///
/// `starts` is what a run runs that is made in this pass.
pub(super) fn with_revisions(
    pipeline: &ObjectMeta,
    runs: &[Arc<MLPipelineRun>],
    expired: &[Delete],
    starts: Option<&str>,
) -> Vec<Delete> {
    let goes = |run: &&Arc<MLPipelineRun>| expired.iter().any(|delete| Some(&delete.uid) == run.metadata.uid.as_ref());
    let (gone, stay): (Vec<_>, Vec<_>) = runs.iter().partition(goes);
    // What a run of a person's runs is the run's, and goes with it.
    let shared = |run: &Arc<MLPipelineRun>| run.spec.trigger.is_some();
    // It may be about to run what one of these ran.
    let begins = stay.iter().any(|run| shared(run) && begins(run));
    let named: BTreeSet<&str> = stay.iter().filter_map(|run| frozen(run)).collect();
    let ran =
        gone.into_iter().filter(|run| shared(run)).filter_map(|run| Some((run.metadata.uid.as_deref()?, frozen(run)?)));
    let ran: BTreeMap<&str, &str> = ran.filter(|(_, name)| !named.contains(name)).collect();
    let (mut revisions, mut kept) = (BTreeSet::new(), BTreeSet::new());
    let mut deleted = Vec::new();
    // From the newest on: that is the one that stays.
    for run in expired.iter().rev() {
        if let Some(name) = ran.get(run.uid.as_str()) {
            if !begins && starts != Some(name) {
                revisions.insert(*name);
            } else if kept.insert(*name) {
                continue;
            }
        }
        deleted.push(run.clone());
    }
    let uid = pipeline.uid.clone().unwrap_or_default();
    let revision =
        |name: &str| Delete { kind: DeleteKind::ControllerRevision, name: name.to_owned(), uid: uid.clone() };
    revisions.into_iter().map(revision).chain(deleted.into_iter().rev()).collect()
}

/// What it runs is not decided yet.
fn begins(run: &MLPipelineRun) -> bool {
    run.status.as_ref().is_none_or(|status| status.completion_time.is_none() && status.frozen.is_none())
}

fn frozen(run: &MLPipelineRun) -> Option<&str> {
    run.status.as_ref()?.frozen.as_deref()
}

fn finished(run: &MLPipelineRun) -> Option<Finished<'_>> {
    let status = run.status.as_ref()?;
    // A nested one goes with the run that it belongs to.
    if parent(run).is_some() || run.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(Finished {
        ended: ended(run)?.0,
        name: run.metadata.name.as_deref()?,
        uid: run.metadata.uid.as_deref()?,
        succeeded: status.conditions.iter().any(|c| c.type_ == "Succeeded" && c.status == "True"),
    })
}

/// How long until `ttl` after `ended` is past; zero if it is.
fn left(ended: Timestamp, ttl: Duration, now: Timestamp) -> Duration {
    let past = duration::since(ended, now);
    ttl.saturating_sub(past)
}
