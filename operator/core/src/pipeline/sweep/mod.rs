//! `history.archive` and `history.artifacts`: a Job of the namespace writes the records of finished runs into the store, and takes out what
//! nobody needs. The operator only says what is there and what is needed; who holds the credentials is the pod.
//!
//! What is needed is taken before the pod looks at the store. It takes out nothing but what two pods found unneeded, the second one at least
//! the grace period after the first; and only from folders of which an earlier pod was told that they are this pipeline's. So another
//! pipeline's artifacts, another namespace's or another cluster's in the same bucket are no candidates, nor is anything that is younger than the
//! last look.

mod gate;
mod job;
mod live;
mod place;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use millrace_contract::{REPORT_LIMIT, Removed, SweepArtifacts, SweepRecord, SweepReport, SweepTask};

use super::PipelineObserved;
use crate::api::{
    ArchiveError, ArchiveStatus, Condition, ConditionStatus, History, MLPipeline, MLPipelineRun, MLPipelineStatus,
    RemovedArtifacts, Store, set_condition,
};
use crate::config::Config;
use crate::plan::{Delete, DeleteKind, Event, sooner};
use crate::problem::head;
use crate::run::{JobView, PodView, pod_waits};
use crate::{duration, names};

pub(super) use gate::Gate;
pub use live::Needs;
pub use record::{OutputRecord, RunRecord, StageRecord};

/// Between two pods, unless something is said.
pub(super) const EVERY: Duration = Duration::from_hours(24);
/// How long nothing must have needed an artifact, unless something is said.
const GRACE: Duration = Duration::from_hours(7 * 24);
/// After a pod that failed, or sooner where `every` is shorter.
const RETRY: Duration = Duration::from_mins(5);
/// A pod that waits for longer than this has something to say.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many runs that are to be recorded do not wait for `every`, only for this.
const ENOUGH: usize = 50;
const SOON: Duration = Duration::from_mins(1);
/// Bytes of the records for one pod.
const RECORDS: usize = 256 * 1024;
/// Bytes of what one pod is told to keep.
const KEPT: usize = 384 * 1024;
/// The longest message of a status.
const MESSAGE: usize = 600;
/// Runs of which is noted that they are recorded.
const MOST_DONE: usize = 4000;
/// The condition of a pipeline.
const ARCHIVED: &str = "Archived";

/// What comes of a look.
#[derive(Default)]
pub(super) struct Swept {
    pub create: Option<Job>,
    pub delete: Vec<Delete>,
    pub events: Vec<Event>,
    pub next: Option<Duration>,
}

/// A pipeline with an archive, in one pass.
struct Sweep<'a> {
    pipeline: &'a MLPipeline,
    history: &'a History,
    store: &'a Store,
    observed: &'a PipelineObserved,
    now: Timestamp,
    swept: Swept,
}

/// Looks at the archive of a pipeline, and notes in its status how far that is.
pub(super) fn look(
    pipeline: &MLPipeline,
    observed: &PipelineObserved,
    config: &Config,
    status: &mut MLPipelineStatus,
    now: Timestamp,
) -> Swept {
    let history = pipeline.spec.history.as_ref().filter(|history| history.archive.is_some());
    let Some((history, store)) = history.zip(pipeline.spec.store.as_ref()) else {
        status.archive = None;
        status.conditions.retain(|condition| condition.type_ != ARCHIVED);
        return Swept { delete: jobs(pipeline, observed).map(delete).collect(), ..Swept::default() };
    };
    let mut archive = status.archive.take().unwrap_or_default();
    archive.start_time.get_or_insert(Time(now));
    archive.agent = Some(config.agent());
    let mut sweep = Sweep { pipeline, history, store, observed, now, swept: Swept::default() };
    if place::is_another(&archive, store) {
        // The status comes first here too.
        place::begins_anew(&mut archive, now);
    } else {
        sweep.goes_on(&mut archive, config);
    }
    archive.store = place::digest(store);
    sweep.tell(&archive, &mut status.conditions);
    status.archive = Some(archive);
    sweep.swept
}

/// A pod is to be made now, so that [`Needs`] are worth reading.
#[must_use]
pub fn sweep_is_due(pipeline: &MLPipeline, observed: &PipelineObserved, now: Timestamp) -> bool {
    let history = pipeline.spec.history.as_ref().filter(|history| history.archive.is_some());
    let Some((history, store)) = history.zip(pipeline.spec.store.as_ref()) else { return false };
    let mut archive =
        pipeline.status.as_ref().and_then(|status| status.archive.as_deref().cloned()).unwrap_or_default();
    archive.start_time.get_or_insert(Time(now));
    if place::is_another(&archive, store) {
        return false;
    }
    let name = job::name(pipeline, archive.reports);
    let sweep = Sweep { pipeline, history, store, observed, now, swept: Swept::default() };
    !jobs(pipeline, observed).any(|job| job.name == name) && sweep.due(&archive).is_some_and(|due| due <= now)
}

impl Sweep<'_> {
    /// Takes over what the pod said, or sees to it that there is one when there is something to do.
    fn goes_on(&mut self, archive: &mut ArchiveStatus, config: &Config) {
        let name = job::name(self.pipeline, archive.reports);
        if let Some(found) = jobs(self.pipeline, self.observed).find(|job| job.name == name).cloned() {
            match self.report(&found) {
                // The status comes first: what there is to do then is seen then.
                Some(report) => self.take(archive, report),
                None => self.stands(&found, archive),
            }
            return;
        }
        let Some(due) = self.due(archive) else { return };
        let left = duration::since(self.now, due);
        if left > Duration::ZERO {
            self.swept.next = sooner(self.swept.next, Some(left));
            return;
        }
        let needs = match &self.observed.needs {
            Some(Ok(needs)) => needs,
            Some(Err(message)) => {
                self.fails(archive, "NeedsNotReadable", message);
                return;
            }
            // Nobody has tried yet.
            None => {
                self.swept.next = sooner(self.swept.next, Some(PATIENCE));
                return;
            }
        };
        let object = format!("Job {name}");
        if let Some(refusal) = self.observed.refusals.iter().find(|refusal| refusal.object == object) {
            self.fails(archive, &refusal.reason, &refusal.message);
        }
        let task = self.task(needs, archive.reports);
        if self.history.artifacts.is_some() && task.artifacts.is_none() {
            let message = "nothing is taken out: more runs and addresses need artifacts than one pod can be told; keep fewer runs";
            self.swept.events.push(Event::warning("ArtifactsKept", message));
        }
        let (templates, claims) = (&self.observed.templates, &self.observed.claims);
        self.swept.create = Some(job::build(self.pipeline, templates, self.store, name, &task, config, claims));
    }

    /// What the pod of a Job said as it ended.
    fn report(&self, job: &JobView) -> Option<SweepReport> {
        pods(self.observed, job).find_map(|pod| {
            let end = pod.main.as_ref()?.terminated.as_ref().filter(|end| end.exit_code == 0)?;
            serde_json::from_str(&end.message).ok().filter(|_| end.message.len() <= REPORT_LIMIT)
        })
    }

    fn take(&mut self, archive: &mut ArchiveStatus, report: SweepReport) {
        archive.reports += 1;
        match report {
            SweepReport::Failed { reason, message, recorded } => {
                self.recorded(archive, recorded);
                self.fails(archive, &reason, &message);
            }
            SweepReport::Done { recorded, kept, left, next, removed, dry_run, not_removed } => {
                self.recorded(archive, recorded);
                if archive.failing_since.take().is_some() {
                    self.swept.events.push(Event::normal("ArchiveWorks", "the archive can be written again"));
                }
                match not_removed {
                    // It is done all the same, and keeps no run.
                    Some(message) => self.lacks(archive, "NotRemoved", &message),
                    None => archive.error = None,
                }
                archive.last_time = Some(Time(self.now));
                archive.kept = number(kept);
                archive.left = number(left);
                let at = |seconds: u64| self.now.checked_add(Duration::from_secs(seconds)).ok().map(Time);
                archive.next_time = next.and_then(at);
                self.removed(archive, removed, dry_run);
            }
        }
    }

    /// These runs are recorded. What is known of runs that are gone is forgotten.
    fn recorded(&self, archive: &mut ArchiveStatus, keys: Vec<String>) {
        archive.runs += number(keys.len() as u64);
        let there: BTreeSet<String> = self.observed.runs.iter().filter_map(|run| record::key(run)).collect();
        let done: BTreeSet<String> = archive.done.drain(..).chain(keys).filter(|key| there.contains(key)).collect();
        archive.done = done.into_iter().take(MOST_DONE).collect();
    }

    /// What went, or would have: the pod knows what it was told, and the spec may be another one by now.
    fn removed(&mut self, archive: &mut ArchiveStatus, removed: Removed, dry_run: bool) {
        let Removed { runs, files, bytes, first } = removed;
        if runs == 0 {
            // What would have gone before is not there any more, or is needed again.
            archive.artifacts.take_if(|artifacts| artifacts.dry_run);
            return;
        }
        let new = RemovedArtifacts {
            time: Some(Time(self.now)),
            dry_run,
            runs: number(runs),
            files: number(files),
            bytes: number(bytes),
            first: first.iter().take(5).map(|folder| head(folder, 300)).collect(),
        };
        let known = archive.artifacts.as_ref().map(|old| RemovedArtifacts { time: new.time.clone(), ..old.clone() });
        if dry_run && known.as_ref() == Some(&new) {
            return;
        }
        let (reason, verb) = if dry_run { ("ArtifactsUnneeded", "would be") } else { ("ArtifactsRemoved", "were") };
        let first = new.first.join(", ");
        let message =
            format!("{files} files ({bytes} bytes) of {runs} deleted runs {verb} taken out of the store: {first}");
        self.swept.events.push(Event::normal(reason, message));
        archive.artifacts = Some(new);
    }

    /// Notes what keeps the pod from its work.
    fn fails(&mut self, archive: &mut ArchiveStatus, reason: &str, message: &str) {
        archive.failing_since.get_or_insert(Time(self.now));
        self.lacks(archive, reason, message);
    }

    /// Notes what is wrong. The same is told once.
    fn lacks(&mut self, archive: &mut ArchiveStatus, reason: &str, message: &str) {
        let (reason, message) = (head(reason, 60), head(message, MESSAGE));
        if archive.error.as_ref().is_none_or(|error| error.reason != reason) {
            self.swept.events.push(Event::warning("ArchiveFailed", format!("{reason}: {message}")));
        }
        archive.error = Some(ArchiveError { time: Some(Time(self.now)), reason, message });
    }

    /// A Job whose pod has said nothing yet.
    fn stands(&mut self, job: &JobView, archive: &mut ArchiveStatus) {
        let newest = pods(self.observed, job).max_by_key(|pod| pod.created);
        let said = match newest {
            None if job.complete => {
                // Its pod went, and what it said.
                self.swept.delete.push(delete(job));
                None
            }
            None => self.observed.looks.warnings.get(&job.name).or(job.failed.as_ref()).cloned(),
            Some(pod) => match pod.main.as_ref().and_then(|main| main.terminated.as_ref()) {
                Some(end) => {
                    let last = end.message.lines().last().unwrap_or_default();
                    let message = format!("pod {} ended with {}: {last}", pod.name, end.exit_code);
                    Some(crate::run::Words { reason: end.reason.clone(), message })
                }
                None => pod_waits(pod).filter(|_| {
                    let age = pod.created.map(|at| duration::since(at, self.now)).unwrap_or_default();
                    let left = PATIENCE.saturating_sub(age);
                    if left > Duration::ZERO {
                        self.swept.next = sooner(self.swept.next, Some(left));
                    }
                    left == Duration::ZERO
                }),
            },
        };
        let known = archive.error.as_ref().map(|error| (error.reason.as_str(), error.message.as_str()));
        if let Some(words) = said
            && known != Some((head(&words.reason, 60).as_str(), head(&words.message, MESSAGE).as_str()))
        {
            self.fails(archive, &words.reason, &words.message);
        }
    }

    /// When the next pod is due; none while there is nothing to do.
    fn due(&self, archive: &ArchiveStatus) -> Option<Timestamp> {
        let every = every(self.history);
        let after =
            |time: &Option<Time>, pause: Duration| time.as_ref().and_then(|time| time.0.checked_add(pause).ok());
        let next = after(&archive.last_time, every).or(after(&archive.start_time, Duration::ZERO))?;
        let done: BTreeSet<&String> = archive.done.iter().collect();
        let ended = |run: &MLPipelineRun| record::key(run).is_some_and(|key| !done.contains(&key));
        let runs: Vec<&MLPipelineRun> =
            self.observed.runs.iter().map(AsRef::as_ref).filter(|run: &&MLPipelineRun| ended(run)).collect();
        // The run that a nested one belongs to is what `history` counts.
        let many = runs.iter().filter(|run| crate::run::parent(run).is_none()).count() >= ENOUGH;
        let there = i64::try_from(self.observed.runs.len()).unwrap_or(i64::MAX);
        let takes_out = self.history.artifacts.is_some();
        let due = if many {
            // More than what is noted of is not recorded for ever: it must not be without a pause.
            after(&archive.last_time, SOON.min(every)).unwrap_or(self.now)
        } else if !runs.is_empty() || (takes_out && there < archive.kept) || self.is_no_dry_run_any_more(archive) {
            next
        } else if takes_out && archive.left > 0 {
            // What is held may be needed no more at any time. Where only time has to pass it is known when, but for a change of the spec.
            let daily = after(&archive.last_time, EVERY);
            let known = archive.next_time.as_ref().map(|time| daily.map_or(time.0, |daily| daily.min(time.0)));
            known.map_or(next, |known| known.max(next))
        } else {
            return None;
        };
        let failed = archive.error.as_ref().and_then(|error| after(&error.time, RETRY.min(every)));
        Some(failed.map_or(due, |failed| due.max(failed)))
    }

    fn is_no_dry_run_any_more(&self, archive: &ArchiveStatus) -> bool {
        let dry_run = self.history.artifacts.as_ref().is_none_or(|artifacts| artifacts.dry_run);
        !dry_run && archive.artifacts.as_ref().is_some_and(|artifacts| artifacts.dry_run)
    }

    /// What a pod is told now.
    fn task(&self, needs: &Needs, reports: i64) -> SweepTask {
        let of = &self.pipeline.metadata;
        let (kept, held) = (needs.kept(), needs.held());
        let fits = kept.iter().chain(&held).map(|path| path.len() + 3).sum::<usize>() <= KEPT;
        let (kept, held) = if fits { (kept, held) } else { (Vec::new(), Vec::new()) };
        let grace = |text: Option<&String>| text.and_then(|text| duration::parse(text)).unwrap_or(GRACE).as_secs();
        let artifacts = self.history.artifacts.as_ref().filter(|_| fits).map(|artifacts| SweepArtifacts {
            grace_seconds: grace(artifacts.grace_period.as_ref()),
            dry_run: artifacts.dry_run,
        });
        let store = crate::store::objects(self.store, "").map(|objects| {
            let mut source = objects.source();
            source.key = source.key.trim_end_matches('/').to_owned();
            source
        });
        SweepTask {
            folder: names::history_folder(
                of.name.as_deref().unwrap_or_default(),
                of.uid.as_deref().unwrap_or_default(),
            ),
            look: u64::try_from(reports).unwrap_or_default(),
            now: u64::try_from(self.now.as_second()).unwrap_or_default(),
            store,
            kept,
            held,
            artifacts,
            records: needs
                .records(RECORDS)
                .map(|(key, line)| SweepRecord { key: key.clone(), line: line.clone() })
                .collect(),
        }
    }

    /// The condition.
    fn tell(&self, archive: &ArchiveStatus, conditions: &mut Vec<Condition>) {
        let generation = self.pipeline.metadata.generation;
        let mut set = |status, reason: &str, message: &str| {
            set_condition(conditions, ARCHIVED, status, reason, message, generation, self.now);
        };
        match &archive.error {
            Some(error) => set(ConditionStatus::False, &error.reason, &error.message),
            None if archive.last_time.is_some() => set(ConditionStatus::True, ARCHIVED, ""),
            None => {}
        }
    }
}

/// Between two pods.
fn every(history: &History) -> Duration {
    let every = history.archive.as_ref().and_then(|archive| archive.every.as_deref());
    every.and_then(duration::parse).unwrap_or(EVERY)
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The pipeline's own Jobs of this kind.
fn jobs<'a>(pipeline: &'a MLPipeline, observed: &'a PipelineObserved) -> impl Iterator<Item = &'a JobView> {
    let all = observed.looks.jobs.iter().map(AsRef::as_ref);
    all.filter(|job: &&JobView| job.stage == names::SWEEP && !job.deleting && job.owner == pipeline.metadata.uid)
}

fn pods<'a>(observed: &'a PipelineObserved, job: &JobView) -> impl Iterator<Item = &'a PodView> {
    let uid = job.uid.clone();
    observed.looks.pods.iter().map(AsRef::as_ref).filter(move |pod| pod.owner.as_ref() == Some(&uid))
}

fn delete(job: &JobView) -> Delete {
    Delete { kind: DeleteKind::Job, name: job.name.clone(), uid: job.uid.clone() }
}
