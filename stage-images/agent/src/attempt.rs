//! One attempt, from the task to the report.

use std::ffi::OsString;
use std::time::Duration;

use millrace_contract::{Manifest, Outcome, REPORT_LIMIT, Report, ReportReason, TASK_ENV, Task};

use crate::cgroup::Cgroup;
use crate::ending::{self, EndError, OutOfMemory};
use crate::failure::Failure;
use crate::place::Place;
use crate::signals::Inbox;
use crate::supervise::Limits;
use crate::usage::Meter;
use crate::{command, exit, facts, folders, inputs, manifest, outputs, report, supervise, task};

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
    let cgroup = Cgroup::find();
    let meter = Meter::start(place.in_container().then(|| cgroup.clone()));
    let mut trace = Trace::default();
    let task = match task::parse(std::env::var_os(TASK_ENV).as_deref()) {
        Ok(task) => task,
        Err(error) => return stop(None, &Failure::Task(error), trace, &meter, &place),
    };
    let ended = Inbox::open()
        .map_err(Failure::Signals)
        .and_then(|inbox| complete(&task, &place, arguments, &inbox, &cgroup, &meter, &mut trace));
    match ended {
        Ok(report) => finish(report, None, &place),
        Err(failure) => stop(Some(&task), &failure, trace, &meter, &place),
    }
}

/// Reports an attempt that is not complete.
fn stop(task: Option<&Task>, failure: &Failure, trace: Trace, meter: &Meter, place: &Place) -> Done {
    let report = Report {
        reason: failure.reason(),
        message: failure.to_string(),
        exit_code: trace.exit_code.or(failure.exit_code()),
        tail: trace.tail,
        usage: meter.read(),
        ..report::blank(task)
    };
    finish(report, (!failure.command_ran()).then(|| failure.to_string()), place)
}

fn finish(report: Report, line: Option<String>, place: &Place) -> Done {
    let status = exit::status(report.reason, report.exit_code);
    match report::write(place.report(), &report::fit(report)) {
        Ok(()) => Done { exit: status, line },
        // Without its report the attempt is not complete, whatever the command did.
        Err(error) => {
            let path = place.report().display();
            let line = format!("failed to write the report to the termination message {path}: {error}");
            Done { exit: if status == 0 { exit::CANNOT_WRITE } else { status }, line: Some(line) }
        }
    }
}

/// The straight line: recover or check, prepare, run, judge, collect, publish.
fn complete(
    task: &Task,
    place: &Place,
    arguments: &[OsString],
    inbox: &Inbox,
    cgroup: &Cgroup,
    meter: &Meter,
    trace: &mut Trace,
) -> Result<Report, Failure> {
    if let Some(earlier) = manifest::recover(task, place, inbox.stop_flag())? {
        return Ok(recovered(task, earlier, meter));
    }
    inputs::verify(task, place, inbox.stop_flag())?;
    let folders = folders::prepare(task, place)?;
    let words = command::words(task, arguments, &folders)?;
    let command = command::build(&words, task, place, &folders)?;

    let kills_before = cgroup.oom_kills();
    let limits = Limits {
        timeout: task.timeout_seconds.map(Duration::from_secs),
        grace: Duration::from_secs(task.grace_seconds),
    };
    let ended = supervise::run(command, words.first().map(OsString::as_os_str).unwrap_or_default(), limits, inbox)?;
    let memory = OutOfMemory { kills: cgroup.oom_kills().saturating_sub(kills_before), limit: cgroup.memory_limit() };
    trace.exit_code = Some(ended.exit.code());
    trace.tail.clone_from(&ended.tail);
    if let Err(error) = ending::judge(&ended, task, memory) {
        trace.exit_code = Some(ending::reported_code(&ended, &error));
        if matches!(error, EndError::Timeout { .. }) {
            ending::record_partial(task, &folders);
        }
        return Err(error.into());
    }

    let facts::Facts { results, metrics, champion } = facts::collect(&folders.out)?;
    let outputs::Outputs { records, lists } = outputs::collect(task, place)?;
    let report = Report {
        outcome: Outcome::Succeeded,
        reason: ReportReason::Completed,
        exit_code: Some(0),
        winner: Some(task.attempt),
        results,
        metrics,
        champion,
        outputs: records,
        usage: meter.read(),
        ..report::blank(Some(task))
    };
    let size = report::least_size(&report);
    if size > REPORT_LIMIT {
        return Err(Failure::ReportTooLarge { outputs: report.outputs.len(), size });
    }
    let manifest = Manifest { report, outputs: lists };
    match manifest::publish(&manifest, task.durable, &folders, place)? {
        None => Ok(manifest.report),
        Some(theirs) => Ok(Report { exit_code: Some(0), ..recovered(task, theirs, meter) }),
    }
}

/// The winner's outputs and facts, reported by this attempt.
fn recovered(task: &Task, winner: Manifest, meter: &Meter) -> Report {
    let Report { attempt, results, metrics, champion, outputs, .. } = winner.report;
    Report {
        outcome: Outcome::Succeeded,
        reason: ReportReason::Recovered,
        winner: Some(attempt),
        results,
        metrics,
        champion,
        outputs,
        usage: meter.read(),
        ..report::blank(Some(task))
    }
}
