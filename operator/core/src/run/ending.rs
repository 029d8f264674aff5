//! How an attempt ended, from the way its container did.

use millrace_contract::{Outcome, Report, ReportReason};

use super::{PodView, Terminated};

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
}

/// Exit status of an agent that could not write its termination message.
const NO_MESSAGE: i32 = 74;

/// How the attempt of a pod whose main container has terminated ended.
pub(super) fn of(wanted: Wanted<'_>, pod: &PodView, end: &Terminated) -> Ending {
    match report(wanted, &end.message) {
        Some(report) => reported(report),
        None => unreported(pod, end),
    }
}

/// The report in a termination message. One of another run, stage or attempt is none.
fn report(wanted: Wanted<'_>, message: &str) -> Option<Report> {
    let report: Report = serde_json::from_str(message.trim()).ok()?;
    // An agent that cannot read its task does not know whose it is.
    let unread = report.reason == ReportReason::CannotStart && report.run_uid.is_empty();
    let ours = report.run_uid == wanted.run_uid && report.stage == wanted.stage && report.attempt == wanted.attempt;
    (report.millrace == "v1" && (ours || unread)).then_some(report)
}

fn reported(report: Report) -> Ending {
    if report.outcome == Outcome::Succeeded {
        return Ending::Succeeded(Box::new(report));
    }
    let message = if report.tail.trim().is_empty() {
        report.message.clone()
    } else {
        format!("{}\n{}", report.message, report.tail.trim_end())
    };
    let lasting = match report.reason {
        ReportReason::Terminated => return Ending::disrupted("Terminated", report.message),
        // What is lost is its producer's: only running that again would help.
        ReportReason::InputLost => true,
        ReportReason::Completed
        | ReportReason::Recovered
        | ReportReason::Error
        | ReportReason::CannotStart
        | ReportReason::OOMKilled
        | ReportReason::Timeout
        | ReportReason::OutputMissing
        | ReportReason::ResultTooLarge
        | ReportReason::BadResult
        | ReportReason::StoreNotWritable => false,
    };
    Ending::Failed(Failure {
        reason: format!("{:?}", report.reason),
        message,
        exit_code: report.exit_code,
        report: Some(Box::new(report)),
        lasting,
    })
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
        return failed("OOMKilled", said("the container ran out of memory: raise resources.limits.memory"));
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
mod tests {
    use super::super::Words;
    use super::*;

    const WANTED: Wanted<'static> = Wanted { run_uid: "uid", stage: "train", attempt: 2 };

    fn message(reason: &str, outcome: &str, change: (&str, &str)) -> String {
        let report = serde_json::json!({
            "millrace": "v1", "runUid": "uid", "stage": "train", "attempt": 2,
            "outcome": outcome, "reason": reason, "message": "m", "tail": "last line", "exitCode": 3,
        });
        report.to_string().replace(change.0, change.1)
    }

    fn terminated(exit_code: i32, reason: &str, message: &str) -> Terminated {
        Terminated { exit_code, reason: reason.into(), message: message.into(), ..Terminated::default() }
    }

    fn kind(ending: &Ending) -> (&'static str, String) {
        match ending {
            Ending::Succeeded(report) => ("succeeded", format!("{:?}", report.reason)),
            Ending::Failed(failure) if failure.lasting => ("lasting", failure.reason.clone()),
            Ending::Failed(failure) => ("failed", failure.reason.clone()),
            Ending::Disrupted { reason, .. } => ("disrupted", reason.clone()),
        }
    }

    #[test]
    fn a_report_says_how_its_attempt_ended() {
        for (reason, outcome, expected) in [
            ("Completed", "Succeeded", "succeeded"),
            ("Recovered", "Succeeded", "succeeded"),
            ("Error", "Failed", "failed"),
            ("OOMKilled", "Failed", "failed"),
            ("Timeout", "Failed", "failed"),
            ("OutputMissing", "Failed", "failed"),
            ("StoreNotWritable", "Failed", "failed"),
            ("InputLost", "Failed", "lasting"),
            ("Terminated", "Failed", "disrupted"),
        ] {
            let end = terminated(0, "Completed", &message(reason, outcome, ("", "")));
            let found = of(WANTED, &PodView::default(), &end);
            assert_eq!(kind(&found), (expected, reason.to_owned()));
        }
    }

    #[test]
    fn a_failure_keeps_the_exit_code_and_the_last_lines() {
        let end = terminated(3, "Error", &message("Error", "Failed", ("", "")));
        let Ending::Failed(failure) = of(WANTED, &PodView::default(), &end) else { panic!("not failed") };
        assert_eq!(failure.exit_code, Some(3));
        assert!(failure.message.contains("last line"), "{}", failure.message);
    }

    #[test]
    fn a_report_of_another_attempt_run_or_stage_counts_for_nothing() {
        for change in
            [("\"attempt\":2", "\"attempt\":1"), ("\"uid\"", "\"other\""), ("\"train\"", "\"x\""), ("v1", "v2")]
        {
            let end = terminated(0, "Completed", &message("Completed", "Succeeded", change));
            assert_eq!(kind(&of(WANTED, &PodView::default(), &end)), ("failed", "NoReport".into()), "{change:?}");
        }
    }

    #[test]
    fn without_a_report_the_container_and_its_pod_tell() {
        let words = |reason: &str| Some(Words { reason: reason.into(), message: "m".into() });
        let evicted = PodView { words: words("Evicted"), ..PodView::default() };
        let preempted = PodView { disrupted: words("PreemptionByScheduler"), ..PodView::default() };
        let deleted = PodView { deleting: true, ..PodView::default() };
        let plain = PodView::default();
        for (pod, exit, reason, expected) in [
            (&plain, 0, "Completed", ("failed", "NoReport")),
            (&plain, 137, "OOMKilled", ("failed", "OOMKilled")),
            (&plain, 1, "Error", ("failed", "Error")),
            (&plain, 128, "StartError", ("failed", "StartError")),
            (&plain, 137, "ContainerStatusUnknown", ("disrupted", "ContainerStatusUnknown")),
            (&evicted, 137, "Error", ("disrupted", "Evicted")),
            (&evicted, 137, "OOMKilled", ("failed", "OOMKilled")),
            (&preempted, 143, "Error", ("disrupted", "PreemptionByScheduler")),
            (&deleted, 137, "Error", ("disrupted", "PodDeleted")),
        ] {
            let found = of(WANTED, pod, &terminated(exit, reason, ""));
            assert_eq!(kind(&found), (expected.0, expected.1.to_owned()), "{exit} {reason}");
        }
    }
}
