//! What a cluster does for a run, on this machine: Jobs whose pods are processes. It tells of them as the run's plan sees them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::{Job, PodFailurePolicy};
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::jiff::Timestamp;
use millrace_core::names::{ATTEMPT_LABEL, STAGE_LABEL};
use millrace_core::run::{ContainerView, JobItems, JobView, PodView, Terminated, Words};

use super::home::RunFolder;
use super::pod::{self, Item, Things};
use super::process::{self, Event, Writer};
use super::programs::Programs;

/// So long a program that is killed has to end by itself.
const LAST_SECOND: Duration = Duration::from_secs(1);
/// The first wait before an item is tried again; each next one is twice as long.
const ITEM_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_ITEM_PAUSE: Duration = Duration::from_mins(1);
/// Of the log of an agent that was killed.
const LAST_WORDS: usize = 2048;

/// The Jobs of one run.
pub struct Machine {
    pub things: Things,
    pub programs: Programs,
    pub claims: PathBuf,
    pub folder: RunFolder,
    pub events: SyncSender<Event>,
    /// Lines are shown.
    pub shows: bool,
    jobs: BTreeMap<String, Running>,
    uids: u64,
}

/// A Job and its pods.
struct Running {
    view: JobView,
    spec: PodSpec,
    todo: VecDeque<Try>,
    pods: Vec<Pod>,
    total: u32,
    parallelism: usize,
    /// How often an item that failed is tried again.
    limit: u32,
    /// The first item that fails for good ends the Job.
    fail_fast: bool,
    /// An item whose pod ends so is not tried again.
    given_up: Vec<i32>,
    succeeded: u32,
    failed: BTreeSet<u32>,
}

/// A pod that is to be made.
struct Try {
    item: Option<Item>,
    at: Instant,
}

struct Pod {
    view: PodView,
    item: Option<Item>,
    /// Of the agent, while it runs.
    process: Option<i32>,
    report: PathBuf,
    log: PathBuf,
    kill_at: Option<Instant>,
}

impl Machine {
    pub fn new(
        folder: RunFolder,
        claims: PathBuf,
        things: Things,
        programs: Programs,
        events: SyncSender<Event>,
        shows: bool,
    ) -> Self {
        Self { things, programs, claims, folder, events, shows, jobs: BTreeMap::new(), uids: 0 }
    }

    /// As the run's plan sees them.
    pub fn views(&self) -> (Vec<Arc<JobView>>, Vec<Arc<PodView>>) {
        let jobs = self.jobs.values().map(|job| Arc::new(job.seen())).collect();
        let pods = self.jobs.values().flat_map(|job| &job.pods).map(|pod| Arc::new(pod.view.clone())).collect();
        (jobs, pods)
    }

    /// Makes a Job; one that is there already is the same.
    pub fn create(&mut self, job: Job) {
        let name = job.metadata.name.unwrap_or_default();
        if self.jobs.contains_key(&name) {
            return;
        }
        let labels = job.metadata.labels.unwrap_or_default();
        let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
        let owner = job.metadata.owner_references.into_iter().flatten().next().map(|owner| owner.uid);
        let spec = job.spec.unwrap_or_default();
        let indexed = spec.completion_mode.as_deref() == Some("Indexed");
        let number = |value: Option<i32>, usual: u32| value.and_then(|n| u32::try_from(n).ok()).unwrap_or(usual);
        let total = number(spec.completions, 1);
        let now = Instant::now();
        let items = (0..total).map(|index| Try { item: indexed.then_some(Item { index, failures: 0 }), at: now });
        self.uids += 1;
        let view = JobView {
            name: name.clone(),
            uid: format!("{name}/{}", self.uids),
            stage: label(STAGE_LABEL),
            attempt: label(ATTEMPT_LABEL).parse().unwrap_or(1),
            owner,
            created: Some(Timestamp::now()),
            items: indexed.then(JobItems::default),
            ..JobView::default()
        };
        let running = Running {
            view,
            spec: spec.template.spec.unwrap_or_default(),
            todo: items.collect(),
            pods: Vec::new(),
            total,
            parallelism: number(spec.parallelism, 1) as usize,
            limit: number(spec.backoff_limit_per_index, 0),
            fail_fast: spec.max_failed_indexes.is_some(),
            given_up: spec.pod_failure_policy.as_ref().map(given_up).unwrap_or_default(),
            succeeded: 0,
            failed: BTreeSet::new(),
        };
        self.jobs.insert(name, running);
    }

    /// Starts what may start, and ends what is to end.
    pub fn tend(&mut self) {
        let now = Instant::now();
        let names: Vec<String> = self.jobs.keys().cloned().collect();
        for name in names {
            while let Some(next) = self.jobs.get_mut(&name).and_then(|job| job.next(now)) {
                self.start(&name, next);
            }
        }
        for pod in self.jobs.values_mut().flat_map(|job| &mut job.pods) {
            if let (Some(id), true) = (pod.process, pod.kill_at.is_some_and(|at| at <= now)) {
                process::destroy(id);
                // Again, if there was one that it did not see.
                pod.kill_at = Some(now + LAST_SECOND);
            }
        }
        self.jobs.retain(|_, job| !(job.view.deleting && job.running() == 0));
    }

    /// When there is something to tend to without an event.
    pub fn next(&self) -> Option<Instant> {
        let kills = self.jobs.values().flat_map(|job| &job.pods).filter_map(|pod| pod.kill_at);
        let waits = self.jobs.values().filter(|job| job.running() < job.parallelism);
        kills.chain(waits.filter_map(|job| job.todo.iter().map(|next| next.at).min())).min()
    }

    fn start(&mut self, name: &str, Try { item, .. }: Try) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        self.uids += 1;
        let uid = format!("{name}/{}", self.uids);
        let JobView { stage, attempt, .. } = &job.view;
        let (stage, attempt) = (stage.clone(), *attempt);
        let index = item.map(|item| item.index);
        let work = self.folder.work(name, item.map(|item| (item.index, item.failures)));
        let log = self.folder.log(&stage, attempt, index);
        let shown = index.map_or_else(|| stage.clone(), |index| format!("{stage}[{index}]"));
        let writer = Writer { uid: uid.clone(), name: shown, attempt, log: log.clone(), shown: self.shows };
        let now = Timestamp::now();
        let mut view = PodView {
            name: uid.clone(),
            uid,
            owner: Some(job.view.uid.clone()),
            stage,
            attempt,
            created: Some(now),
            phase: "Running".to_owned(),
            index,
            ..PodView::default()
        };
        let started = pod::prepare(&job.spec, item, &work, &self.claims, &self.things).and_then(|process| {
            let path = self.programs.path(&process.image);
            let id = process::start(&process, path.as_deref(), writer, self.events.clone());
            id.map(|id| (id, process.report)).map_err(|error| format!("failed to start the agent: {error}"))
        });
        let mut container = ContainerView::default();
        let (process, report) = match started {
            Ok((id, report)) => {
                container.running_since = Some(now);
                (Some(id), report)
            }
            Err(message) => {
                "Failed".clone_into(&mut view.phase);
                let reason = "StartError".to_owned();
                container.terminated = Some(Terminated { exit_code: 128, signal: None, reason, message });
                (None, PathBuf::new())
            }
        };
        view.main = Some(container);
        job.pods.push(Pod { view, item, process, report, log, kill_at: None });
        if process.is_none() {
            let at = job.pods.len() - 1;
            job.count(at, false);
        }
    }

    /// A process has ended.
    pub fn ended(&mut self, uid: &str, exit: ExitStatus) {
        for job in self.jobs.values_mut() {
            let Some(at) = job.pods.iter().position(|pod| pod.view.uid == uid) else { continue };
            let pod = &mut job.pods[at];
            pod.process = None;
            pod.kill_at = None;
            let exit_code = exit.code().unwrap_or_else(|| 128 + exit.signal().unwrap_or_default());
            let message = fs::read_to_string(&pod.report).unwrap_or_default();
            let message = if message.trim().is_empty() && exit_code != 0 { last_words(&pod.log) } else { message };
            let good = exit_code == 0;
            let word = |good_word: &str, bad: &str| if good { good_word } else { bad }.to_owned();
            pod.view.phase = word("Succeeded", "Failed");
            pod.view.main = Some(ContainerView {
                terminated: Some(Terminated {
                    exit_code,
                    signal: exit.signal(),
                    reason: word("Completed", "Error"),
                    message,
                }),
                ..ContainerView::default()
            });
            job.count(at, good);
            return;
        }
    }

    /// Deletes a Job: its programs have their grace period, and it is there until they have ended. Whether that is new.
    pub fn delete(&mut self, name: &str, uid: &str) -> bool {
        let found = self.jobs.get_mut(name).filter(|job| job.view.uid == uid && !job.view.deleting);
        let Some(job) = found else { return false };
        job.view.deleting = true;
        job.stop();
        true
    }

    /// Ends a pod at once, or nearly. Whether that is new.
    pub fn delete_pod(&mut self, uid: &str) -> bool {
        let mut pods = self.jobs.values_mut().flat_map(|job| &mut job.pods);
        let found = pods.find(|pod| pod.view.uid == uid && pod.process.is_some() && pod.kill_at.is_none());
        let Some(pod) = found else { return false };
        pod.stop();
        pod.kill_at = Some(Instant::now() + LAST_SECOND);
        true
    }

    /// Whether a program runs.
    pub fn is_busy(&self) -> bool {
        self.jobs.values().any(|job| job.running() > 0)
    }

    /// Kills everything.
    pub fn destroy(&mut self) {
        for id in self.jobs.values().flat_map(|job| &job.pods).filter_map(|pod| pod.process) {
            process::destroy(id);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.destroy();
    }
}

/// How the pods of items end that are not tried again.
fn given_up(policy: &PodFailurePolicy) -> Vec<i32> {
    let rules = policy.rules.iter().filter(|rule| rule.action == "FailIndex");
    rules.filter_map(|rule| rule.on_exit_codes.as_ref()).flat_map(|codes| codes.values.clone()).collect()
}

impl Running {
    fn running(&self) -> usize {
        self.pods.iter().filter(|pod| pod.process.is_some()).count()
    }

    fn seen(&self) -> JobView {
        let mut view = self.view.clone();
        view.items = view.items.map(|_| JobItems {
            succeeded: self.succeeded,
            ready: u32::try_from(self.running()).unwrap_or(u32::MAX),
            failed: u32::try_from(self.failed.len()).unwrap_or(u32::MAX),
            first_failed: self.failed.iter().take(10).copied().collect(),
        });
        view
    }

    /// What is to be started now.
    fn next(&mut self, now: Instant) -> Option<Try> {
        if self.running() >= self.parallelism {
            return None;
        }
        let at = self.todo.iter().position(|next| next.at <= now)?;
        self.todo.remove(at)
    }

    /// Counts how a pod ended, as the Job controller does.
    fn count(&mut self, at: usize, good: bool) {
        let item = self.pods[at].item;
        if good {
            self.succeeded += 1;
            // Nobody looks at those of items, and there may be ten thousand.
            if item.is_some() {
                self.pods.swap_remove(at);
            }
        } else if let Some(Item { index, failures }) = item {
            if self.view.deleting || self.view.failed.is_some() {
                // It was stopped.
            } else if failures < self.limit && !self.given_up.contains(&self.pods[at].exit_code()) {
                let pause = ITEM_PAUSE.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_ITEM_PAUSE);
                let item = Some(Item { index, failures: failures + 1 });
                self.todo.push_back(Try { item, at: Instant::now() + pause });
            } else {
                self.failed.insert(index);
            }
        }
        let open = !self.todo.is_empty() || self.running() > 0;
        if self.succeeded == self.total {
            self.view.complete = true;
        } else if item.is_none() {
            let message = "its pod failed".to_owned();
            self.view.failed = Some(Words { reason: "BackoffLimitExceeded".to_owned(), message });
        } else if !self.failed.is_empty() && self.view.failed.is_none() && (self.fail_fast || !open) {
            let reason = if self.fail_fast { "MaxFailedIndexesExceeded" } else { "FailedIndexes" };
            let message = format!("{} of {} items failed", self.failed.len(), self.total);
            self.view.failed = Some(Words { reason: reason.to_owned(), message });
            self.stop();
        }
    }

    /// Makes nothing new, and asks what runs to stop.
    fn stop(&mut self) {
        self.todo.clear();
        self.pods.iter_mut().for_each(Pod::stop);
    }
}

impl Pod {
    fn exit_code(&self) -> i32 {
        let end = self.view.main.as_ref().and_then(|main| main.terminated.as_ref());
        end.map_or(0, |end| end.exit_code)
    }

    fn stop(&mut self) {
        if let (Some(id), false) = (self.process, self.view.deleting) {
            self.view.deleting = true;
            process::terminate(id);
        }
    }
}

/// The end of a log.
fn last_words(log: &std::path::Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LAST_WORDS)..]).into_owned()
}
