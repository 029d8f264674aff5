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
        Self { path: path.into(), message: message.into(), reason }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// At most this many problems are listed in a condition; the rest is counted.
const LISTED: usize = 8;

/// All problems as one condition message.
#[must_use]
pub fn summary(problems: &[Problem]) -> String {
    let mut lines: Vec<String> = problems.iter().take(LISTED).map(ToString::to_string).collect();
    if problems.len() > LISTED {
        lines.push(format!("and {} more", problems.len() - LISTED));
    }
    lines.join("; ")
}
