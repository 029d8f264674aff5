//! Whether an object has everything that was written, beside what the apiserver filled in.

use serde_json::{Map, Value};

/// The path of the first thing that is missing or another. Lists have to be as long: an entry more is another list.
pub(super) fn missing(wanted: &Map<String, Value>, there: &Map<String, Value>) -> Option<String> {
    wanted.iter().find_map(|(key, wanted)| differs(key.clone(), wanted, there.get(key)))
}

fn differs(path: String, wanted: &Value, there: Option<&Value>) -> Option<String> {
    match (wanted, there) {
        (Value::Object(wanted), Some(Value::Object(there))) => {
            wanted.iter().find_map(|(key, wanted)| differs(format!("{path}.{key}"), wanted, there.get(key)))
        }
        (Value::Array(wanted), Some(Value::Array(there))) if wanted.len() == there.len() => {
            let mut entries = wanted.iter().zip(there).enumerate();
            entries.find_map(|(i, (wanted, there))| differs(format!("{path}[{i}]"), wanted, Some(there)))
        }
        (wanted, Some(there)) if wanted == there => None,
        _ => Some(path),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(wanted: &Value, there: &Value) -> Option<String> {
        missing(wanted.as_object().unwrap(), there.as_object().unwrap())
    }

    #[test]
    fn what_the_apiserver_fills_in_is_no_difference_and_what_it_drops_is() {
        let wanted = json!({ "rules": [{ "backendRefs": [{ "name": "a", "weight": 5 }] }] });
        let filled =
            json!({ "rules": [{ "backendRefs": [{ "name": "a", "weight": 5, "group": "" }], "matches": [] }] });
        assert_eq!(of(&wanted, &filled), None);
        let dropped = json!({ "rules": [{ "backendRefs": [{ "name": "a" }] }] });
        assert_eq!(of(&wanted, &dropped).as_deref(), Some("rules[0].backendRefs[0].weight"));
        let more = json!({ "rules": [{ "backendRefs": [{ "name": "a", "weight": 5 }, { "name": "b" }] }] });
        assert_eq!(of(&wanted, &more).as_deref(), Some("rules[0].backendRefs"));
        assert_eq!(of(&wanted, &json!({})).as_deref(), Some("rules"));
    }
}
