//! Parameters: their declarations and their values.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// A parameter's value: any JSON value, written as people write it (`0.2`, not `"0.2"`).
pub type Value = serde_json::Value;

/// A declared parameter. Without `default` and without `optional` it is required.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.minimum) || !has(self.maximum) || self.minimum <= self.maximum", "message": "minimum must not be greater than maximum" },
    { "rule": "!(has(self.minimum) || has(self.maximum)) || self.type in ['number', 'integer']", "message": "minimum and maximum need type number or integer" }
]))]
pub struct ParamSpec {
    #[serde(rename = "type")]
    pub kind: ParamType,
    /// Used when no value is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_value")]
    pub default: Option<Value>,
    /// No value is needed; without one it is `null`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// The smallest value allowed, itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    /// The largest value allowed, itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
    /// The only values allowed.
    #[serde(default, rename = "enum", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_list")]
    pub allowed: Option<Vec<Value>>,
}

/// The type of a parameter: JSON's own, and `integer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParamType {
    String,
    Number,
    Integer,
    Boolean,
    Array,
    Object,
}

impl ParamType {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}
