//! What may be a fact: agent and operator ask the same.

use serde_json::Value;

use crate::Report;

/// Lists and objects of a result or a signature are at most this deep: readers of a run's status have limits too, and one
/// status that cannot be read keeps a watcher from all of them.
pub const NESTING_LIMIT: usize = 16;

/// How deep lists and objects are in one another: 0 for text or a number, 1 for a list of them.
#[must_use]
pub fn nesting(value: &Value) -> usize {
    let below = match value {
        Value::Array(items) => items.iter().map(nesting).max(),
        Value::Object(fields) => fields.values().map(nesting).max(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return 0,
    };
    1 + below.unwrap_or(0)
}

/// Whether a metric or a result may have this name: `[a-z][a-z0-9_]{0,62}`.
#[must_use]
pub fn is_fact_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// What of a report's names and values is out of bounds, if anything is.
#[must_use]
pub fn flaw(report: &Report) -> Option<String> {
    let mut names = report.results.keys().chain(report.metrics.keys()).chain(report.champion.keys());
    if let Some(name) = names.find(|name| !is_fact_name(name)) {
        return Some(format!("{:?} is no name of a metric or a result", name.chars().take(80).collect::<String>()));
    }
    let results = report.results.iter().map(|(name, value)| ("result", name, value));
    let signatures =
        report.outputs.iter().filter_map(|(name, output)| Some(("signature of", name, output.signature.as_ref()?)));
    let deep = results.chain(signatures).find(|(_, _, value)| nesting(value) > NESTING_LIMIT)?;
    Some(format!("{} {:?} is {} lists and objects deep, more than {NESTING_LIMIT}", deep.0, deep.1, nesting(deep.2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reports_flaw_is_named() {
        let base = serde_json::json!({
            "millrace": "v1", "runUid": "u", "stage": "s", "attempt": 1, "outcome": "Succeeded", "reason": "Completed",
        });
        let deep: Value = serde_json::from_str(&format!("{}{}", "[".repeat(17), "]".repeat(17))).unwrap();
        let found = |field: &str, value: Value| {
            let mut report = base.clone();
            report[field] = value;
            flaw(&serde_json::from_value(report).unwrap()).unwrap_or_default()
        };
        assert_eq!(found("metrics", serde_json::json!({ "accuracy": 1.0 })), "");
        assert_eq!(found("results", serde_json::json!({ "a": deep[0] })), "");
        assert!(found("metrics", serde_json::json!({ "a\"b{x}": 1.0 })).contains("no name"));
        assert!(found("champion", serde_json::json!({ "A": 1.0 })).contains("\"A\""));
        assert!(found("results", serde_json::json!({ "b-c": 1.0 })).contains("\"b-c\""));
        assert!(found("results", serde_json::json!({ "a": deep })).contains("17"));
        let output = serde_json::json!({ "m": { "digest": "d", "size": 1, "files": 1, "signature": deep } });
        assert!(found("outputs", output).contains("signature of \"m\""));
    }

    #[test]
    fn nesting_counts_lists_and_objects_on_the_deepest_way() {
        for (text, deep) in [("1", 0), ("\"[[\"", 0), ("[]", 1), ("{}", 1), ("[1, {\"a\": [2]}, [3]]", 3)] {
            assert_eq!(nesting(&serde_json::from_str(text).unwrap()), deep, "{text}");
        }
    }

    #[test]
    fn names_of_facts_are_the_contracts() {
        let longest = "x".repeat(63);
        for (name, good) in [
            ("a", true),
            ("a_1", true),
            (longest.as_str(), true),
            ("", false),
            ("1a", false),
            ("a-b", false),
            ("A", false),
            ("a\"b", false),
            ("é", false),
        ] {
            assert_eq!(is_fact_name(name), good, "{name}");
        }
        assert!(!is_fact_name(&"x".repeat(64)));
    }
}
