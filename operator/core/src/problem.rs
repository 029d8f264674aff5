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

/// All of them fit the message of a condition, which has 32 KiB.
const LONGEST_LIST: usize = 32_000;

/// Every problem, one a line.
#[must_use]
pub fn every(problems: &[Problem]) -> String {
    listed(problems, problems.len(), "\n", LONGEST_LIST)
}

/// How many problems there are, and the first two. The condition `Accepted` has all of them.
#[must_use]
pub fn brief(problems: &[Problem]) -> String {
    const FIRST: usize = 2;
    if problems.len() <= FIRST {
        return listed(problems, FIRST, "; ", LONGEST_SUMMARY);
    }
    let first = problems[..FIRST].iter().map(|problem| head(&problem.to_string(), LONGEST_SUMMARY / FIRST));
    let first = first.collect::<Vec<_>>().join("; ");
    format!("{} faults: see Accepted. The first {FIRST}: {first}", problems.len())
}

/// At most this many problems are listed in a summary; the rest is counted.
const LISTED: usize = 8;

/// The first problems in a line.
#[must_use]
pub fn summary(problems: &[Problem]) -> String {
    listed(problems, LISTED, "; ", LONGEST_SUMMARY)
}

fn listed(problems: &[Problem], most: usize, between: &str, longest: usize) -> String {
    let (mut listed, mut characters) = (0, 0);
    let mut text = String::new();
    for problem in problems.iter().take(most) {
        let line = problem.to_string();
        characters += between.len() + line.chars().count();
        if listed > 0 && characters > longest {
            break;
        }
        text.push_str(if listed > 0 { between } else { "" });
        text.push_str(&line);
        listed += 1;
    }
    let more = problems.len() - listed;
    if more > 0 { format!("{text}{between}and {more} more") } else { text }
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

    #[test]
    fn every_problem_is_listed_and_in_brief_they_are_counted() {
        let problems = |count: usize| -> Vec<_> {
            (0..count).map(|n| Problem::new(format!("spec.f{n}"), "Bad", "no: write x")).collect()
        };
        assert_eq!(every(&problems(18)).lines().count(), 18);
        assert!(every(&problems(18)).ends_with("\nspec.f17: no: write x"));
        assert_eq!(brief(&problems(2)), "spec.f0: no: write x; spec.f1: no: write x");
        assert_eq!(
            brief(&problems(18)),
            "18 faults: see Accepted. The first 2: spec.f0: no: write x; spec.f1: no: write x"
        );
        let long: Vec<_> = (0..99).map(|n| Problem::new(format!("spec.f{n}"), "Bad", "ü".repeat(2000))).collect();
        assert!(every(&long).chars().count() < 32 * 1024 && every(&long).ends_with("more"));
        assert!(brief(&long).chars().count() < 1500);
    }
}
