//! What is wrong with something a person wrote: where, what was found, what to write instead.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, as in `spec.stages.train.inputs.data.from`.
    pub path: String,
    /// What was found and what to write instead.
    pub message: String,
    /// One word for a condition's reason, such as `UnknownStage`.
    pub reason: &'static str,
}

impl Problem {
    #[must_use]
    pub fn new(path: impl Into<String>, reason: &'static str, message: impl Into<String>) -> Self {
        Self { path: head(&path.into(), LONGEST_PATH), message: head(&message.into(), LONGEST_MESSAGE), reason }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// A path may hold a key that somebody chose, a message what somebody wrote.
const LONGEST_PATH: usize = 300;
const LONGEST_MESSAGE: usize = 900;
/// A summary fits the message of a condition and of an event.
const LONGEST_SUMMARY: usize = 1400;

/// The beginning of a text that is too long, because there it says what it is about.
#[must_use]
pub fn head(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let head: String = text.chars().take(limit - 1).collect();
    format!("{head}…")
}

/// At most this many problems are listed in a condition; the rest is counted.
const LISTED: usize = 8;

/// All problems as one condition message.
#[must_use]
pub fn summary(problems: &[Problem]) -> String {
    let mut listed = 0;
    let mut text = String::new();
    for problem in problems.iter().take(LISTED) {
        let line = problem.to_string();
        if listed > 0 && text.chars().count() + line.chars().count() > LONGEST_SUMMARY {
            break;
        }
        text.push_str(if listed > 0 { "; " } else { "" });
        text.push_str(&line);
        listed += 1;
    }
    let more = problems.len() - listed;
    if more > 0 { format!("{text}; and {more} more") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_fits_a_condition_and_begins_with_the_first_field() {
        let problems: Vec<_> = (0..50).map(|n| Problem::new(format!("spec.f{n}"), "Bad", "x".repeat(400))).collect();
        let text = summary(&problems);
        assert!(text.chars().count() < 1500 && text.starts_with("spec.f0: "), "{text}");
        assert!(text.ends_with("; and 47 more"), "{text}");
        let one = summary(&[Problem::new("spec.x".repeat(1000), "Bad", "y".repeat(5000))]);
        assert!(one.chars().count() <= 1300, "{one}");
    }
}
