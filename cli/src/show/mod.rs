//! Rendering: pure functions from objects to text. Colours are in the text; `output` takes them out.

pub mod advice;
pub mod changes;
pub mod document;
pub mod history;
pub mod prefix;
pub mod problems;
pub mod rollout;
pub mod stages;
pub mod style;
pub mod table;

use std::io::IsTerminal;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use millrace_core::duration;

/// How long ago, or how long it took.
pub fn lasted(since: Option<&Time>, until: Option<&Time>, now: Timestamp) -> String {
    since.map_or_else(String::new, |since| {
        duration::format(duration::since(since.0, until.map_or(now, |until| until.0)))
    })
}

/// The condition of a kind.
pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// The first line of a text: on a terminal of at most so many characters, into a file or a pipe the whole of it.
pub fn brief(text: &str, most: usize) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    let fits = line.chars().count() <= most || !std::io::stdout().is_terminal();
    if fits { line.to_owned() } else { line.chars().take(most - 1).chain(['…']).collect() }
}
