//! The termination message: one JSON object of at most 4,096 bytes, never cut in the middle.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use millrace_contract::{Outcome, REPORT_LIMIT, Report, ReportReason, Task, Usage};

/// A report of this task's attempt that says nothing yet. Without a task its fields are empty.
pub fn blank(task: Option<&Task>) -> Report {
    Report {
        millrace: "v1".to_owned(),
        run_uid: task.map(|task| task.run_uid.clone()).unwrap_or_default(),
        stage: task.map(|task| task.stage.clone()).unwrap_or_default(),
        attempt: task.map(|task| task.attempt).unwrap_or_default(),
        outcome: Outcome::Failed,
        reason: ReportReason::Error,
        message: String::new(),
        exit_code: None,
        winner: None,
        results: std::collections::BTreeMap::new(),
        metrics: std::collections::BTreeMap::new(),
        champion: std::collections::BTreeMap::new(),
        outputs: std::collections::BTreeMap::new(),
        tail: String::new(),
        usage: Usage::default(),
    }
}

/// Bytes of the report without what may be left out of it.
pub fn least_size(report: &Report) -> usize {
    let mut least = Report { tail: String::new(), message: String::new(), ..report.clone() };
    least.outputs.values_mut().for_each(|output| output.signature = None);
    size(&least)
}

/// As JSON, at most [`REPORT_LIMIT`] bytes: first the tail shrinks, then the message, then signatures go (the whole is in
/// the artifact). What the operator decides by is never left out of a report that says `Succeeded`:
/// [`least_size`] is checked before an attempt counts as complete.
pub fn fit(mut report: Report) -> String {
    shrink(&mut report, |report| &mut report.tail, cut_front);
    shrink(&mut report, |report| &mut report.message, cut_back);
    while size(&report) > REPORT_LIMIT {
        let with_signature = report.outputs.values_mut().filter(|output| output.signature.is_some());
        let Some(largest) =
            with_signature.max_by_key(|output| output.signature.as_ref().map_or(0, |found| found.to_string().len()))
        else {
            break;
        };
        largest.signature = None;
    }
    if size(&report) > REPORT_LIMIT {
        report.outputs.clear();
        report.results.clear();
        report.metrics.clear();
        report.champion.clear();
    }
    serde_json::to_string(&report).unwrap_or_default()
}

fn size(report: &Report) -> usize {
    serde_json::to_string(report).map_or(usize::MAX, |text| text.len())
}

/// Cuts a text until the report fits. One byte of text is at most six of JSON, so a sixth of what is too much never cuts
/// more than needed.
fn shrink(report: &mut Report, text: fn(&mut Report) -> &mut String, cut: fn(&mut String, usize)) {
    loop {
        let too_much = size(report).saturating_sub(REPORT_LIMIT);
        if too_much == 0 || text(report).is_empty() {
            return;
        }
        cut(text(report), too_much.div_ceil(6));
    }
}

fn cut_front(text: &mut String, bytes: usize) {
    *text = text.split_off(text.ceil_char_boundary(bytes));
}

fn cut_back(text: &mut String, bytes: usize) {
    text.truncate(text.floor_char_boundary(text.len().saturating_sub(bytes)));
}

/// The termination message, open from before the command starts: a command of the same user can lower how many files this
/// process may open, and would have the last word in a file that cannot be opened any more.
#[derive(Debug)]
pub struct Log(File);

impl Log {
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().write(true).create(true).truncate(false).open(path).map(Self)
    }

    /// Replaces what is there, whoever wrote it.
    pub fn write(&self, text: &str) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.write_all_at(text.as_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_contract::{ArtifactKind, OutputRecord};

    /// A small generator of numbers, the same in every run (xorshift).
    fn numbers() -> impl FnMut(usize) -> usize {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below as u64).unwrap()
        }
    }

    #[test]
    fn a_report_of_any_size_is_json_within_the_limit_and_keeps_what_decides() {
        let mut below = numbers();
        let pieces = ["a", "\"", "\\", "\u{1b}", "ü", "\u{1f980}", "\n", "\u{fffd}"];
        for _ in 0..1000 {
            let mut text = |limit: usize| -> String {
                let (length, mixed) = (below(limit), below(2) == 0);
                (0..length).map(|_| if mixed { pieces[below(pieces.len())] } else { pieces[3] }).collect()
            };
            let mut report = blank(None);
            report.tail = text(2000);
            report.message = text(6000);
            let signature = text(4000);
            for index in 0..below(8) {
                let record = OutputRecord {
                    kind: ArtifactKind::Model,
                    digest: format!("sha256:{}", "0".repeat(64)),
                    size: 1,
                    files: 1,
                    items: None,
                    signature: Some(serde_json::json!(signature)),
                    format: None,
                };
                report.outputs.insert(format!("output-{index}"), record);
            }
            let (outputs, whole) = (report.outputs.len(), size(&report));
            let fitted = fit(report.clone());
            assert!(fitted.len() <= REPORT_LIMIT, "{} bytes", fitted.len());
            let back: Report = serde_json::from_str(&fitted).unwrap();
            assert_eq!(back.outputs.len(), outputs);
            assert!(report.tail.ends_with(&back.tail) && report.message.starts_with(&back.message));
            if whole <= REPORT_LIMIT {
                assert_eq!(back, report);
            }
        }
    }

    #[test]
    fn the_tail_shrinks_before_the_message() {
        let mut report = blank(None);
        report.tail = "t".repeat(1024);
        report.message = "m".repeat(3500);
        let back: Report = serde_json::from_str(&fit(report)).unwrap();
        assert_eq!(back.message.len(), 3500);
        assert!(!back.tail.is_empty() && back.tail.len() < 1024);
    }
}
