//! Mistakes in files, as compilers tell them: editors and CI know the form.

use std::fmt::Write;

use serde_json::{Value, json};

use super::style::{BAD, DIM, GOOD, WAITS, paint};
use crate::lint::Finding;

/// One a line, and how many there are. `halted`: more may be found once these are mended.
pub fn list(findings: &[Finding], objects: usize, files: usize, halted: bool) -> String {
    let mut text: String = findings.iter().map(|finding| format!("{}\n", line(finding))).collect();
    let errors = findings.iter().filter(|finding| finding.is_error).count();
    let looked = format!("{} in {}", counted(objects, "object"), counted(files, "file"));
    let verdict = match (errors, findings.len() - errors) {
        (0, 0) if objects == 0 => paint("nothing of millrace.dev is in there", WAITS),
        (0, 0) => paint("no mistakes", GOOD),
        (0, warnings) => paint(&counted(warnings, "warning"), WAITS),
        (errors, 0) => paint(&counted(errors, "mistake"), BAD),
        (errors, warnings) => paint(&format!("{}, {}", counted(errors, "mistake"), counted(warnings, "warning")), BAD),
    };
    let rest = if halted { "; what the operator checks is looked at when these are mended" } else { "" };
    let _ = writeln!(text, "{looked}: {verdict}{rest}");
    text
}

/// `file:line:column: error: field: message`
pub fn line(finding: &Finding) -> String {
    let word = if finding.is_error { paint("error", BAD) } else { paint("warning", WAITS) };
    let at = format!("{}:{}:{}:", finding.file, finding.place.line, finding.place.column);
    let of = finding.object.as_ref().map(|object| paint(&format!(" ({object})"), DIM)).unwrap_or_default();
    let field = if finding.problem.path.is_empty() { String::new() } else { format!("{}: ", finding.problem.path) };
    format!("{at} {word}: {field}{}{of}", finding.problem.message)
}

/// For programs.
pub fn document(finding: &Finding) -> Value {
    json!({
        "file": finding.file,
        "line": finding.place.line,
        "column": finding.place.column,
        "severity": if finding.is_error { "error" } else { "warning" },
        "object": finding.object,
        "field": finding.problem.path,
        "reason": finding.problem.reason,
        "message": finding.problem.message,
    })
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use millrace_core::problem::Problem;

    use super::super::style::stripped;
    use super::*;
    use crate::yaml::Place;

    #[test]
    fn a_mistake_is_a_line_that_editors_know() {
        let finding = |is_error: bool| Finding {
            file: "p.yaml".into(),
            place: Place { line: 3, column: 5 },
            object: Some("MLPipeline p".into()),
            problem: Problem::new("spec.timeout", "NoMatch", "write 1h"),
            is_error,
        };
        assert_eq!(
            stripped(&list(&[finding(true), finding(false)], 1, 2, false)),
            "p.yaml:3:5: error: spec.timeout: write 1h (MLPipeline p)\n\
             p.yaml:3:5: warning: spec.timeout: write 1h (MLPipeline p)\n\
             1 object in 2 files: 1 mistake, 1 warning\n"
        );
        assert_eq!(stripped(&list(&[], 2, 1, false)), "2 objects in 1 file: no mistakes\n");
        assert_eq!(stripped(&list(&[], 0, 1, false)), "0 objects in 1 file: nothing of millrace.dev is in there\n");
        assert!(list(&[finding(true)], 1, 1, true).ends_with("is looked at when these are mended\n"));
        assert_eq!(document(&finding(true))["line"], 3);
    }
}
