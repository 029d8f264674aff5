//! How an attempt ended, from the way its container did.

use std::collections::BTreeMap;

use millrace_contract::{Outcome, Report, ReportReason, flaw};

use super::{PodView, Terminated};
use crate::api::Output;

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ending {
    /// Its outputs may be used.
    Succeeded(Box<Report>),
    /// Counts against `retry.limit`.
    Failed(Failure),
    /// The infrastructure ended it, or a person: not counted, tried again at once.
    Disrupted { reason: String, message: String },
}

/// Why an attempt failed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Failure {
    pub reason: String,
    pub message: String,
    pub exit_code: Option<i32>,
    pub report: Option<Box<Report>>,
    /// Another attempt would meet the same.
    pub lasting: bool,
}

impl Ending {
    pub fn failed(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Failed(Failure { reason: reason.into(), message: message.into(), ..Failure::default() })
    }

    pub fn disrupted(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Disrupted { reason: reason.into(), message: message.into() }
    }
}

/// Whose report is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub run_uid: &'a str,
    pub stage: &'a str,
    pub attempt: u32,
    /// Of an item: it counts its own attempts on from the stage's.
    pub items: bool,
    /// What the stage declares.
    pub outputs: &'a BTreeMap<String, Output>,
}

/// The kernel killed the agent too: nobody but the container's status tells.
const OUT_OF_MEMORY: &str = "the container ran out of memory, and its agent with it: raise resources.limits.memory";
/// Exit status of an agent that could not write its termination message.
const NO_MESSAGE: i32 = 74;
/// Exit status of an agent that was asked to stop.
const STOPPED: i32 = 143;

/// How the attempt of a pod whose main container has terminated ended.
pub(super) fn of(wanted: Wanted<'_>, pod: &PodView, end: &Terminated) -> Ending {
    let Some(report) = report(wanted, &end.message) else { return unreported(pod, end) };
    // A program can write the message too. It cannot choose the agent's exit status, which goes with the report.
    let status = match (report.outcome, report.reason) {
        (Outcome::Succeeded, _) => Some(0),
        (Outcome::Failed, ReportReason::Terminated) => Some(STOPPED),
        (Outcome::Failed, _) => None,
    };
    if status.is_some_and(|status| status != end.exit_code) {
        let message = format!("a report says {:?}, but the container exited with {}", report.reason, end.exit_code);
        return unreported(pod, &Terminated { message, ..end.clone() });
    }
    match (report.outcome, doubt(wanted, &report)) {
        (Outcome::Succeeded, Some(doubt)) => {
            Ending::failed("BadReport", format!("the report says Succeeded, but {doubt}"))
        }
        _ => reported(pod, report),
    }
}

/// Why a report that says `Succeeded` is none of an agent's, if it is not.
fn doubt(wanted: Wanted<'_>, report: &Report) -> Option<String> {
    if !matches!(report.reason, ReportReason::Completed | ReportReason::Recovered) {
        return Some(format!("also {:?}", report.reason));
    }
    let winner = report.winner.unwrap_or(report.attempt);
    if winner == 0 || winner > wanted.attempt {
        return Some(format!("its winner is attempt {winner}, and this is attempt {}", wanted.attempt));
    }
    if let Some(output) = report.outputs.keys().find(|output| !wanted.outputs.contains_key(*output)) {
        return Some(format!("the stage declares no output {output:?}"));
    }
    flaw(report)
}

/// The report in a termination message. One of another run, stage or attempt is none.
fn report(wanted: Wanted<'_>, message: &str) -> Option<Report> {
    let report: Report = serde_json::from_str(message.trim()).ok()?;
    // An agent that cannot read its task does not know whose it is. It can only have failed.
    let unread =
        report.outcome == Outcome::Failed && report.reason == ReportReason::CannotStart && report.run_uid.is_empty();
    let attempt = report.attempt == wanted.attempt || wanted.items && report.attempt > wanted.attempt;
    let ours = report.run_uid == wanted.run_uid && report.stage == wanted.stage && attempt;
    (report.millrace == "v1" && (ours || unread)).then_some(report)
}

/// What the agent of this attempt says, however its pod ended.
pub(super) fn report_of(run_uid: &str, stage: &str, attempt: u32, pod: &PodView) -> Option<Report> {
    let end = pod.main.as_ref()?.terminated.as_ref()?;
    report(Wanted { run_uid, stage, attempt, items: false, outputs: &BTreeMap::new() }, &end.message)
}

fn reported(pod: &PodView, report: Report) -> Ending {
    if report.outcome == Outcome::Succeeded {
        return Ending::Succeeded(Box::new(report));
    }
    let message = words(&report);
    let lasting = match report.reason {
        // The agent sees a signal; who sent it says more: the scheduler, an eviction, the taint manager.
        ReportReason::Terminated => {
            return match &pod.disrupted {
                Some(words) => Ending::disrupted(&words.reason, &words.message),
                None => Ending::disrupted("Terminated", report.message),
            };
        }
        // What is lost is its producer's: only running that again would help.
        ReportReason::InputLost => true,
        // Nobody's program can help it; what was made is made again, the same.
        ReportReason::StoreUnreachable => return Ending::disrupted(format!("{:?}", report.reason), message),
        ReportReason::Completed
        | ReportReason::Recovered
        | ReportReason::Error
        | ReportReason::CannotStart
        | ReportReason::OOMKilled
        | ReportReason::Timeout
        | ReportReason::OutputMissing
        | ReportReason::ResultTooLarge
        | ReportReason::BadResult
        | ReportReason::StoreNotWritable
        | ReportReason::StoreNotReadable => false,
    };
    Ending::Failed(Failure {
        reason: format!("{:?}", report.reason),
        message,
        exit_code: report.exit_code,
        report: Some(Box::new(report)),
        lasting,
    })
}

/// What is essential stands first: many readers see one line only. Of a program that failed by itself that is its own last
/// word; else it is the agent's.
fn words(report: &Report) -> String {
    let tail = report.tail.trim_end();
    if tail.trim().is_empty() {
        return report.message.clone();
    }
    if report.reason != ReportReason::Error {
        return format!("{}\n{tail}", report.message);
    }
    let lines: Vec<&str> = tail.lines().collect();
    let telling = lines.iter().rposition(|line| tells(line)).or_else(|| lines.iter().rposition(|line| is_words(line)));
    // Nothing that anybody can read: the agent's word stands first.
    let Some(telling) = telling else { return format!("{}\n{tail}", report.message) };
    let rest = lines.iter().enumerate().filter(|(at, _)| *at != telling).map(|(_, line)| *line);
    let mut all = vec![lines[telling].trim(), report.message.as_str()];
    all.extend(rest);
    all.join("\n").trim_end().to_owned()
}

/// A line that says what went wrong: `error: …`, `ValueError: …`, `FATAL …`, `thread 'main' panicked at …`. The word begins the
/// line, but for a time and a name: `validation error 0.12` is a metric.
fn tells(line: &str) -> bool {
    if line.contains(" panicked at ") || line.trim_start().starts_with("Exception in thread ") {
        return true;
    }
    let mut rest = line.trim();
    while let Some((_, after)) = rest.split_once(' ').filter(|(word, _)| is_time(word)) {
        rest = after.trim_start();
    }
    let named = rest.split_once(' ').filter(|(word, _)| word.ends_with(':')).map(|(_, after)| after.trim_start());
    begins_with_error(rest) || named.is_some_and(begins_with_error)
}

/// A person can read it: it has a letter, and no bytes that are no text.
fn is_words(line: &str) -> bool {
    let binary = |c: char| c == char::REPLACEMENT_CHARACTER || (c.is_control() && !matches!(c, '\t' | '\r' | '\u{1b}'));
    line.contains(char::is_alphabetic) && !line.contains(binary)
}

/// `2026-01-31`, `12:00:00,123`, `[2026-01-31T12:00:00Z]`.
fn is_time(word: &str) -> bool {
    let inside = word.trim_matches(['[', ']']);
    inside.len() >= 8 && inside.starts_with(|c: char| c.is_ascii_digit()) && inside.contains([':', '-'])
}

fn begins_with_error(text: &str) -> bool {
    let text = text.strip_prefix('[').unwrap_or(text);
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "_.$".contains(c))).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    // A level of a log stands before a space too.
    if matches!(word, "ERROR" | "FATAL" | "CRITICAL") && rest.starts_with([' ', ']']) {
        return true;
    }
    let error = word.ends_with("Error")
        || word.ends_with("Exception")
        || ["error", "fatal", "critical"].iter().any(|known| word.eq_ignore_ascii_case(known));
    let figure = |said: &str| said.trim().parse::<f64>().is_ok();
    error && (rest.is_empty() || rest.strip_prefix(':').is_some_and(|said| !figure(said)))
}

fn unreported(pod: &PodView, end: &Terminated) -> Ending {
    let said = |default: &str| {
        let text = end.message.trim();
        if text.is_empty() { default.to_owned() } else { text.to_owned() }
    };
    let failed = |reason: &str, message: String| {
        let exit_code = Some(end.exit_code);
        Ending::Failed(Failure { reason: reason.to_owned(), message, exit_code, ..Failure::default() })
    };
    if end.reason == "OOMKilled" {
        let message = format!("{OUT_OF_MEMORY}\n{}", end.message.trim());
        return failed("OOMKilled", message.trim_end().to_owned());
    }
    if let Some(words) = &pod.disrupted {
        return Ending::disrupted(&words.reason, &words.message);
    }
    if let Some(words) = pod.words.as_ref().filter(|words| !words.reason.is_empty()) {
        return Ending::disrupted(&words.reason, &words.message);
    }
    if end.reason == "ContainerStatusUnknown" {
        return Ending::disrupted("ContainerStatusUnknown", said("the node does not know how the container ended"));
    }
    if pod.deleting {
        return Ending::disrupted("PodDeleted", format!("pod {} was deleted", pod.name));
    }
    match end.exit_code {
        0 => failed("NoReport", "the container exited with 0, but the agent wrote no report".to_owned()),
        NO_MESSAGE => failed("NoReport", said("the agent could not write its report")),
        // `Error` is the kubelet's word for any other status than 0; `StartError` and its like say more.
        code => {
            let reason = if end.reason.is_empty() { "Error" } else { end.reason.as_str() };
            failed(reason, said(&format!("the container exited with {code}")))
        }
    }
}

#[cfg(test)]
#[path = "ending_tests.rs"]
mod tests;
