//! Names: what they may be made of, and that no two of them meet in an expression.

use std::collections::BTreeMap;

use super::Problems;
use crate::expr::in_expression;
pub(super) use crate::names::is_label;

const LONGEST: usize = 63;

/// Letters of either case, because a StageTemplate's parameters are its program's: `batchSize`.
pub(super) fn is_param(name: &str) -> bool {
    name.len() <= LONGEST
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// A metric or result, as `metrics.json` and `results/<name>` have them.
pub(super) fn is_fact(name: &str) -> bool {
    name.len() <= LONGEST
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Every key is a DNS label.
pub(super) fn labels<T>(map: &BTreeMap<String, T>, path: &str, what: &str, problems: &mut Problems) {
    for name in map.keys().filter(|name| !is_label(name)) {
        label(name, &format!("{path}.{name}"), what, problems);
    }
}

/// This is a DNS label.
pub(super) fn label(name: &str, path: &str, what: &str, problems: &mut Problems) {
    if !is_label(name) {
        let message = format!(
            "`{name}` is no name for {what}: write at most 63 of a-z, 0-9 and `-`, beginning with a letter and ending with a letter or digit"
        );
        problems.add(path, "InvalidName", message);
    }
}

/// No two names are the same once `-` is written `_`.
pub(super) fn distinct<'a>(names: impl Iterator<Item = &'a String>, path: &str, problems: &mut Problems) {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for name in names {
        let written = in_expression(name);
        if let Some(other) = seen.get(&written) {
            let message =
                format!("`{name}` and `{other}` are both written `{written}` in an expression: rename one of them");
            problems.add(format!("{path}.{name}"), "NamesMeet", message);
        } else {
            seen.insert(written, name);
        }
    }
}

/// No stage of `finally` is called as one of `stages`: what is said of a stage, and its folder, go by its name alone.
pub(super) fn apart<T>(finally: &BTreeMap<String, T>, stages: &BTreeMap<String, T>, problems: &mut Problems) {
    let taken: BTreeMap<String, &String> = stages.keys().map(|name| (in_expression(name), name)).collect();
    for name in finally.keys() {
        if let Some(other) = taken.get(&in_expression(name)) {
            let message = format!("there is a stage `{other}` in stages already: give this one another name");
            problems.add(format!("spec.finally.{name}"), "NamesMeet", message);
        }
    }
}
