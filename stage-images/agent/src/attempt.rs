//! One attempt, from the task to the report.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_contract::{
    BACKSTOP_SECONDS, Manifest, Outcome, REPORT_LIMIT, REPORT_SECONDS, Report, ReportReason, TASK_ENV, Task, TaskItems,
    Usage, log_dir,
};
use millrace_files::digest::Stop;

use crate::archive::{Archive, Bounds, Scribe};
use crate::cgroup::Cgroup;
use crate::deadline::Deadline;
use crate::ending::{self, OutOfMemory};
use crate::failure::Failure;
use crate::folders::Folders;
use crate::outputs::Outputs;
use crate::place::Place;
use crate::remote::{self, Budget, RemoteStage, Together};
use crate::report::Log;
use crate::signals::Inbox;
use crate::supervise::Limits;
use crate::usage::Meter;
use crate::{
    checkpoints, code, collect, command, exit, facts, folders, inputs, item, manifest, outputs, report, supervise, task,
};

/// What a timeout left is listed in the store for people, who do not get the report later for it.
const PARTIAL: Duration = Duration::from_secs(4);
/// So long after the grace of a program that was asked to stop its last checkpoint may take.
const LAST_CHECKPOINT: Duration = Duration::from_secs(7);
/// Without a signal and without a deadline it may take so long: the report waits for it.
const LONGEST_CHECKPOINT: Duration = Duration::from_mins(10);
/// A program that runs into its own deadline is not far from the Job's, which takes the report too. Half a minute of what is between
/// them stays for that.
const AFTER_DEADLINE: Duration = Duration::from_secs(REPORT_SECONDS + BACKSTOP_SECONDS - 30);

/// What is left to do when the report is written: to exit.
#[derive(Debug)]
pub struct Done {
    pub exit: u8,
    /// For standard error, if the command never ran.
    pub line: Option<String>,
}

/// What is known of the command by the time an attempt fails.
#[derive(Debug, Default)]
struct Trace {
    exit_code: Option<i32>,
    tail: String,
}

/// Runs the attempt that `MILLRACE_TASK` describes and reports it.
pub fn run(arguments: &[OsString]) -> Done {
    let place = Place::from_env();
    // Without its report the attempt is not complete, whatever the command does.
    let log = match Log::open(place.report()) {
        Ok(log) => log,
        Err(error) => return unreported("open", &place, &error),
    };
    let cgroup = Cgroup::find();
    let meter = Meter::start(place.in_container().then(|| cgroup.clone()));
    let mut trace = Trace::default();
    let (task, ended) = match task::parse(std::env::var_os(TASK_ENV).as_deref()) {
        Ok(task) => {
            let task = item::of_this_pod(&task, &place);
            let inbox = Inbox::open().map_err(Failure::Signals);
            let ended = inbox.and_then(|inbox| complete(&task, &place, arguments, &inbox, &cgroup, &meter, &mut trace));
            (Some(task), ended)
        }
        Err(error) => (None, Err(Failure::Task(error))),
    };
    let complete = ended.is_ok();
    let (report, line) = match ended {
        Ok(report) => (report, None),
        Err(failure) => {
            let line = (!failure.command_ran()).then(|| failure.to_string());
            (incomplete(task.as_ref(), &failure, trace, &meter), line)
        }
    };
    let exit = exit::status(report.reason, report.exit_code);
    let exit = task.as_ref().filter(|_| !complete).map_or(exit, |task| item::status(task, &report, exit));
    match log.write(&report::fit(report)) {
        Ok(()) => {
            // The one of a lost node may end well beside a newer one, which still writes and reads them.
            if complete && task.is_some_and(|task| folders::last_attempt(&place) <= task.attempt) {
                checkpoints::clear(&place);
            }
            Done { exit, line }
        }
        Err(error) => unreported("write", &place, &error),
    }
}

/// The report of an attempt that is not complete.
fn incomplete(task: Option<&Task>, failure: &Failure, trace: Trace, meter: &Meter) -> Report {
    Report {
        reason: failure.reason(),
        message: failure.to_string(),
        exit_code: trace.exit_code.or(failure.exit_code()),
        tail: trace.tail,
        usage: meter.read(),
        ..report::blank(task)
    }
}

/// Always the same status: whatever the message holds then is not the agent's.
fn unreported(verb: &str, place: &Place, error: &io::Error) -> Done {
    let path = place.report().display();
    let line = format!("failed to {verb} the termination message {path} for the report: {error}");
    Done { exit: exit::CANNOT_WRITE, line: Some(line) }
}

/// The straight line: recover or check, prepare, run, judge, publish.
fn complete(
    task: &Task,
    place: &Place,
    arguments: &[OsString],
    inbox: &Inbox,
    cgroup: &Cgroup,
    meter: &Meter,
    trace: &mut Trace,
) -> Result<Report, Failure> {
    let stop = || inbox.asked_to_stop();
    let budget = Budget::of(cgroup.memory_limit());
    let store = in_objects(task, budget, &stop)?;
    let earlier = match &store {
        Some(store) => store.recover(task, &stop).map_err(Failure::Remote)?,
        None => manifest::recover(task, place, &stop)?,
    };
    if let Some(earlier) = earlier {
        if let Some(store) = &store {
            store.clear_checkpoints(task, &stop);
        }
        return Ok(recovered(task, earlier, meter.read()));
    }
    inputs::bring(task, place, budget, &stop)?;
    inputs::verify(task, place, &stop)?;
    if let Some(items) = &task.items {
        item::bring(items, place, budget, &stop)?;
    }
    let publisher = Publisher { task, place, store: store.as_ref() };
    let filled = match &task.items {
        None => None,
        Some(items) => match &items.order {
            None => return publisher.together(items, inbox),
            Some(order) => Some(item::fill(task, items, order, arguments, place, &stop)?),
        },
    };
    let code = task.code.as_ref().map(|code| code::unpack(code, place, budget, &stop)).transpose()?;
    if let Some(store) = &store {
        store.restore(task, place, &stop).map_err(Failure::Remote)?;
    }
    let folders = folders::prepare(task, place)?;
    let (words, env) = match filled {
        None => (command::words(task.script.as_deref(), arguments, &folders)?, BTreeMap::new()),
        Some(filled) => (command::words(filled.script.as_deref(), &filled.words, &folders)?, filled.env),
    };
    let mut command = command::build(&words, &env, task, place, &folders)?;
    if let Some(code) = code {
        command.env("MILLRACE_CODE_DIR", &code).current_dir(code);
    }

    let kills_before = cgroup.oom_kills();
    let deadline = Deadline::after(task.timeout_seconds.map(Duration::from_secs));
    let limits = Limits { deadline, grace: Duration::from_secs(task.grace_seconds) };
    let program = words.first().map(OsString::as_os_str).unwrap_or_default();
    let checkpoints = store.as_ref().and_then(|store| {
        let kept = store.checkpoints(task, &folders.checkpoint);
        kept.inspect_err(|why| supervise::not_restorable(why)).ok()
    });
    let ended = supervise::run(command, program, limits, archive(task, place, store.as_ref()), inbox)?;
    let memory = OutOfMemory { kills: cgroup.oom_kills().saturating_sub(kills_before), limit: cgroup.memory_limit() };
    trace.exit_code = Some(ended.exit.code());
    trace.tail.clone_from(&ended.tail);
    let done = match ending::judge(&ended, task, memory) {
        Ok(()) => publisher.publish(&folders, deadline, || meter.read(), Outputs::default(), |_| Ok(())),
        Err(error) => {
            trace.exit_code = Some(ending::reported_code(&ended, &error));
            Err(error.into())
        }
    };
    let timed_out = matches!(&done, Err(failure) if failure.reason() == ReportReason::Timeout);
    let partial = timed_out.then(|| ending::record_partial(task, &folders));
    if let Some(checkpoints) = checkpoints {
        // The kubelet kills fifteen seconds after the program's own grace; the report has to be written too.
        let most = Duration::from_secs(task.grace_seconds) + LAST_CHECKPOINT;
        let begun = Instant::now();
        let last = deadline.at().and_then(|at| at.max(ended.at).checked_add(AFTER_DEADLINE));
        let late = || {
            inbox.asked_at().is_some_and(|asked| asked.elapsed() > most)
                || begun.elapsed() > LONGEST_CHECKPOINT
                || last.is_some_and(|last| Instant::now() > last)
        };
        if let Some(why) = checkpoints.finish(done.is_err(), &late) {
            supervise::not_restorable(&why);
        }
    }
    if let (Some(partial), Some(store)) = (partial, &store) {
        let begun = Instant::now();
        store.keep_partial(task, partial, &|| begun.elapsed() > PARTIAL);
    }
    if let (Ok(_), Some(store)) = (&done, &store) {
        store.clear_checkpoints(task, &stop);
    }
    done
}

/// Where what the program prints is kept. Without a store nothing outlives the pod.
fn archive(task: &Task, place: &Place, store: Option<&RemoteStage>) -> Option<Arc<dyn Scribe>> {
    let bounds = Bounds::of(task);
    let opened = match store {
        Some(store) => store.log(task, bounds).map(|log| Arc::new(log) as Arc<dyn Scribe>),
        None if task.durable => Archive::open(&place.at(log_dir(task.attempt)), bounds)
            .map(|log| Arc::new(log) as Arc<dyn Scribe>)
            .map_err(|error| error.to_string()),
        None => return None,
    };
    opened.inspect_err(|why| supervise::unarchived(why)).ok()
}

/// The stage's folder in a store of objects, if it has one. It is written to, so that who may not is told before the command runs.
fn in_objects(task: &Task, budget: Budget, stop: Stop<'_>) -> Result<Option<RemoteStage>, Failure> {
    let item = task.items.as_ref().filter(|items| items.order.is_some() && task.folder.is_some());
    let item = item.map(|_| item::index()).transpose()?;
    let store = RemoteStage::open(task, item, budget).map_err(Failure::Remote)?;
    if let Some(store) = &store {
        store.begin(task, stop).map_err(Failure::Remote)?;
    }
    Ok(store)
}

/// Makes of what an attempt left what the stage made.
struct Publisher<'a> {
    task: &'a Task,
    place: &'a Place,
    store: Option<&'a RemoteStage>,
}

impl Publisher<'_> {
    /// What the items of the stage made becomes what the stage made.
    fn together(&self, items: &TaskItems, inbox: &Inbox) -> Result<Report, Failure> {
        let Self { task, place, store } = *self;
        let folders = folders::prepare(task, place)?;
        let stop = || inbox.asked_to_stop();
        let no_deadline = Deadline::after(None);
        if let Some(store) = store {
            let Together { outputs, usage } = remote::put_together(task, items, place, store, &stop)?;
            return self.publish(&folders, no_deadline, || usage, outputs, |_| Ok(()));
        }
        let collected = collect::put_together(task, items, place, &stop)?;
        let check = |outputs: &Outputs| Ok(collected.check(outputs)?);
        self.publish(&folders, no_deadline, || collected.usage, Outputs::default(), check)
    }

    /// After a good end: what is there is read, hashed, checked, and published. `stored` is in the store already.
    fn publish(
        &self,
        folders: &Folders,
        deadline: Deadline,
        usage: impl Fn() -> Usage,
        stored: Outputs,
        check: impl FnOnce(&Outputs) -> Result<(), Failure>,
    ) -> Result<Report, Failure> {
        let Self { task, place, store } = *self;
        folders::in_place(place, task.attempt)?;
        let facts::Facts { results, metrics, champion } = facts::collect(&folders.out)?;
        let mut outputs = outputs::collect(task, place, &stored, deadline)?;
        check(&outputs)?;
        outputs.records.extend(stored.records);
        let report = Report {
            outcome: Outcome::Succeeded,
            reason: ReportReason::Completed,
            exit_code: Some(0),
            winner: Some(task.attempt),
            results,
            metrics,
            champion,
            outputs: outputs.records,
            usage: usage(),
            ..report::blank(Some(task))
        };
        let size = report::least_size(&report);
        if size > REPORT_LIMIT {
            return Err(Failure::ReportTooLarge { outputs: report.outputs.len(), size });
        }
        let mut manifest = Manifest { report, outputs: outputs.lists };
        let theirs = match store {
            None => manifest::publish(&manifest, task, folders, place, deadline)?,
            Some(store) => store
                .publish(&mut manifest, stored.lists, task, place, &|| deadline.passed())
                .map_err(Failure::Upload)?,
        };
        match theirs {
            None => Ok(manifest.report),
            Some(theirs) => Ok(Report { exit_code: Some(0), ..recovered(task, theirs, usage()) }),
        }
    }
}

/// The winner's outputs and facts, reported by this attempt.
fn recovered(task: &Task, winner: Manifest, usage: Usage) -> Report {
    let Report { attempt, results, metrics, champion, outputs, .. } = winner.report;
    Report {
        outcome: Outcome::Succeeded,
        reason: ReportReason::Recovered,
        winner: Some(attempt),
        results,
        metrics,
        champion,
        outputs,
        usage,
        ..report::blank(Some(task))
    }
}
