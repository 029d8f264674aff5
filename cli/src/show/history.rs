//! Finished runs out of the archive.

use k8s_openapi::jiff::Timestamp;
use millrace_core::pipeline::RunRecord;

use super::lasted;
use super::style::{BAD, GOOD, WAITS};
use super::table::{Cell, table};

/// The newest first, as they come.
pub fn runs(records: &[RunRecord], now: Timestamp) -> String {
    if records.is_empty() {
        return "no finished run is recorded yet\n".to_owned();
    }
    let rows = records.iter().map(|run| {
        let style = match run.outcome.as_str() {
            "Succeeded" => GOOD,
            "Canceled" => WAITS,
            _ => BAD,
        };
        let trigger = run.trigger.as_ref().map(|trigger| match &trigger.name {
            Some(name) => format!("{} {name}", trigger.kind),
            None => trigger.kind.clone(),
        });
        let took = run.start_time.as_ref().map(|start| lasted(Some(start), Some(&run.completion_time), now));
        [
            run.name.as_str().into(),
            Cell::new(run.outcome.as_str(), style),
            lasted(Some(&run.completion_time), None, now).into(),
            took.unwrap_or_default().into(),
            run.progress.clone().unwrap_or_default().into(),
            trigger.unwrap_or_default().into(),
            super::brief(if run.outcome == "Succeeded" { "" } else { &run.message }, 100).into(),
        ]
    });
    table("", ["RUN", "OUTCOME", "ENDED", "TOOK", "STAGES", "TRIGGER", "WHY"], rows)
}

#[cfg(test)]
mod tests {
    use super::super::style::stripped;
    use super::*;

    #[test]
    fn a_run_has_a_line_with_how_it_ended() {
        let record = |outcome: &str, message: &str| -> RunRecord {
            serde_json::from_value(serde_json::json!({
                "name": "p-1", "uid": "u", "namespace": "n", "pipeline": "p", "outcome": outcome, "message": message, "progress": "2/2",
                "trigger": { "kind": "Schedule", "name": "nightly", "key": "k" },
                "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:02:05Z",
            }))
            .unwrap()
        };
        let now = "2026-01-01T01:02:05Z".parse().unwrap();
        let text = stripped(&runs(&[record("Succeeded", "all is well"), record("Failed", "stage fit failed")], now));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "p-1   Succeeded   1h      2m5s   2/2      Schedule nightly");
        assert!(lines[2].ends_with("stage fit failed"), "{text}");
        assert!(runs(&[], now).contains("no finished run"));
    }
}
