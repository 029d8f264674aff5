//! What differs between two JSON values, field by field.

use std::fmt::Write;

use millrace_core::problem::head;
use serde::Serialize;
use serde_json::Value;

use super::style::{BAD, GOOD, WAITS, paint};

/// The longest value in a line.
const SHOWN: usize = 80;

/// One field that is not the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// As `container.args[1]`; empty for the value itself.
    pub field: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// All fields that differ, in their order. Where one side has nothing, the whole of the other is one change.
pub fn between(before: Option<&Value>, after: Option<&Value>) -> Vec<Change> {
    let mut found = Vec::new();
    walk(before, after, "", &mut found);
    found
}

fn walk(before: Option<&Value>, after: Option<&Value>, path: &str, found: &mut Vec<Change>) {
    match (before, after) {
        (Some(a), Some(b)) if a == b => {}
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(a.get(key), b.get(key), &at, found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                walk(Some(a), Some(b), &format!("{path}[{index}]"), found);
            }
        }
        (None, None) => {}
        (before, after) => {
            found.push(Change { field: path.to_owned(), before: before.cloned(), after: after.cloned() });
        }
    }
}

/// A line for each change: `+` what came, `-` what went, `~` what is another. Of a text with lines, the first that differs.
pub fn lines(indent: &str, changes: &[Change]) -> String {
    let mut text = String::new();
    for change in changes {
        let name = if change.field.is_empty() { String::new() } else { format!("{}: ", change.field) };
        let line = match (&change.before, &change.after) {
            (None, Some(after)) => paint(&format!("+ {name}{}", shown(after)), GOOD),
            (Some(before), None) => paint(&format!("- {name}{}", shown(before)), BAD),
            (Some(before), Some(after)) => format!("{} {name}{}", paint("~", WAITS), both(before, after)),
            (None, None) => continue,
        };
        let _ = writeln!(text, "{indent}{line}");
    }
    text
}

fn both(before: &Value, after: &Value) -> String {
    if let (Value::String(a), Value::String(b)) = (before, after)
        && (a.contains('\n') || b.contains('\n'))
    {
        let differs = a.lines().zip(b.lines()).take_while(|(a, b)| a == b).count();
        let line = |text: &str| {
            text.lines().nth(differs).map_or_else(|| "(its end)".to_owned(), |line| head(line.trim(), SHOWN))
        };
        return format!("line {}: {} → {}", differs + 1, line(a), line(b));
    }
    format!("{} → {}", shown(before), shown(after))
}

/// A value in a line.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => head(&text.replace('\n', "⏎"), SHOWN),
        other => head(&other.to_string(), SHOWN),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::style::stripped;
    use super::*;

    #[test]
    fn only_what_differs_is_told_and_a_script_by_its_first_other_line() {
        let before = json!({ "image": "a", "args": ["x", "y"], "script": "#!/bin/sh\none\ntwo\n", "gone": 1, "same": { "b": 1 } });
        let after = json!({ "image": "b", "args": ["x", "z"], "script": "#!/bin/sh\none\nthree\n", "new": [1], "same": { "b": 1 } });
        let text = stripped(&lines("  ", &between(Some(&before), Some(&after))));
        assert_eq!(
            text,
            "  ~ args[1]: y → z\n  - gone: 1\n  ~ image: a → b\n  + new: [1]\n  ~ script: line 3: two → three\n"
        );
        assert_eq!(between(Some(&before), Some(&before)), []);
    }

    #[test]
    fn a_list_of_another_length_is_another_list() {
        let text = stripped(&lines("", &between(Some(&json!([1])), Some(&json!([1, 2])))));
        assert_eq!(text, "~ [1] → [1,2]\n");
        assert_eq!(stripped(&lines("", &between(None, Some(&json!("a\nb"))))), "+ a⏎b\n");
    }
}
