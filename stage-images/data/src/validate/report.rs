//! What the checks found: as lines for the log, as a page, and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::judge::{Rows, Verdict};
use super::params::Severity;
use crate::html::{escape, page, table};

/// The word for how a check went.
fn word(verdict: &Verdict) -> &'static str {
    match (verdict.passed, verdict.severity) {
        (true, _) => "PASS",
        (false, Severity::Error) => "FAIL",
        (false, Severity::Warn) => "WARN",
    }
}

/// A table for the log: one line a check, then the rows that broke it. Where one must hold and does not, what holds is only
/// counted: the end of the log becomes the stage's message.
pub fn lines(verdicts: &[Verdict]) -> Vec<String> {
    let width = verdicts.iter().map(|verdict| verdict.name.chars().count()).max().unwrap_or(0).min(60);
    let mut lines = Vec::new();
    let failed = verdicts.iter().any(|verdict| word(verdict) == "FAIL");
    for verdict in verdicts.iter().filter(|verdict| !(failed && verdict.passed)) {
        lines.push(format!("{}  {:width$}  {}", word(verdict), verdict.name, verdict.found));
    }
    let passed = verdicts.iter().filter(|verdict| verdict.passed).count();
    if failed && passed > 0 {
        lines.push(format!("PASS  {passed} more"));
    }
    for verdict in verdicts {
        if let (false, Some(rows)) = (verdict.passed, &verdict.rows) {
            lines.push(String::new());
            lines.push(format!("{}: {}, for example", verdict.name, verdict.found));
            lines.extend(text_table(rows).into_iter().map(|line| format!("  {line}")));
        }
    }
    lines
}

fn text_table(rows: &Rows) -> Vec<String> {
    let all = || std::iter::once(&rows.columns).chain(&rows.cells);
    let width = |index: usize| all().map(|row| row[index].chars().count().min(40)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.columns.len()).map(width).collect();
    all()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| {
                let cell = crate::say::excerpt(cell, 39);
                format!("{cell:width$}")
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

/// `report.json`.
pub fn as_json(verdicts: &[Verdict], row_count: u64) -> Value {
    let checks: Vec<Value> = verdicts
        .iter()
        .map(|verdict| {
            let Verdict { name, severity, passed, found, rows } = verdict;
            let severity = match severity {
                Severity::Error => "error",
                Severity::Warn => "warn",
            };
            let rows = rows.as_ref().map(|rows| json!({"columns": rows.columns, "rows": rows.cells}));
            json!({"name": name, "severity": severity, "passed": passed, "found": found, "examples": rows})
        })
        .collect();
    json!({"rows": row_count, "checks": checks})
}

/// `report.html`.
pub fn as_html(verdicts: &[Verdict], row_count: u64) -> String {
    let failed = verdicts.iter().filter(|verdict| !verdict.passed).count();
    let rows: Vec<Vec<String>> = verdicts
        .iter()
        .map(|verdict| {
            let word = word(verdict);
            vec![
                format!("<span class=\"{}\">{word}</span>", word.to_lowercase()),
                escape(&verdict.name),
                escape(&verdict.found),
            ]
        })
        .collect();
    let mut body = format!(
        "<p>{row_count} rows, {} checks, {failed} not passed.</p>\n{}",
        verdicts.len(),
        table(&["", "check", "found"], &rows)
    );
    for verdict in verdicts {
        if let (false, Some(rows)) = (verdict.passed, &verdict.rows) {
            let header: Vec<&str> = rows.columns.iter().map(String::as_str).collect();
            let cells: Vec<Vec<String>> =
                rows.cells.iter().map(|row| row.iter().map(|cell| escape(cell)).collect()).collect();
            let _ = write!(
                body,
                "<h2>{}</h2>\n<p class=\"soft\">{}, for example</p>\n{}",
                escape(&verdict.name),
                escape(&verdict.found),
                table(&header, &cells)
            );
        }
    }
    page("Data checks", &body)
}
