//! The names that an expression may use, with their values.

use serde_json::{Map, Value};

use super::in_expression;

/// Names and values. A hyphen in a name is written `_` in an expression: the scope renames keys of `params`, `stages`,
/// `inputs` and `outputs` as they come in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    pub(super) names: Map<String, Value>,
}

impl Scope {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a name. Keys one level below it get `_` for `-`, and so do the outputs of each of `stages`.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        let mut value = underscored(value);
        if name == "stages" {
            for stage in value.as_object_mut().into_iter().flat_map(|stages| stages.values_mut()) {
                if let Some(outputs) = stage.get_mut("outputs") {
                    *outputs = underscored(outputs.take());
                }
            }
        }
        self.names.insert(name.to_owned(), value);
        self
    }
}

fn underscored(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(map.into_iter().map(|(k, v)| (in_expression(&k), v)).collect()),
        other => other,
    }
}
