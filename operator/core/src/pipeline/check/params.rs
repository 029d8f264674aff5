//! Values for declared parameters.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Problems, quoted};
use crate::api::{ParamSpec, ParamType};
use crate::expr::{self, in_expression};
use crate::problem::Problem;

/// Values for declared parameters: defaults filled in, types and bounds checked, whole numbers written as integers. An
/// optional parameter without a value is null. `path` is where the values stand.
pub fn bind_params(
    declared: &BTreeMap<String, ParamSpec>,
    given: &BTreeMap<String, Value>,
    path: &str,
) -> Result<BTreeMap<String, Value>, Vec<Problem>> {
    let mut problems = Problems::default();
    known(declared, given, path, &mut problems);
    let mut bound = BTreeMap::new();
    for (name, param) in declared {
        let value = match given.get(name) {
            Some(value) if !(value.is_null() && param.optional) => {
                fits(value, param, &format!("{path}.{name}"), &mut problems);
                value
            }
            _ => param.default.as_ref().unwrap_or(&Value::Null),
        };
        bound.insert(name.clone(), whole(value, param.kind));
    }
    problems.result()?;
    Ok(bound)
}

/// Every given name is declared, and every required one is given.
pub(super) fn known(
    declared: &BTreeMap<String, ParamSpec>,
    given: &BTreeMap<String, Value>,
    path: &str,
    problems: &mut Problems,
) {
    for name in given.keys().filter(|name| !declared.contains_key(*name)) {
        let twin = declared.keys().find(|known| in_expression(known) == in_expression(name));
        let hint = match twin {
            Some(known) => format!("its name is `{known}`. Only an expression writes `_` for a hyphen"),
            None => expr::did_you_mean(name, declared.keys().map(String::as_str)),
        };
        problems.add(
            format!("{path}.{name}"),
            "UnknownParameter",
            format!("no parameter `{name}` is declared: {hint}"),
        );
    }
    for (name, param) in declared {
        if !param.optional && param.default.is_none() && !given.contains_key(name) {
            let kind = param.kind.as_str();
            let message = format!("the parameter `{name}` is required: write a value of type {kind}");
            problems.add(format!("{path}.{name}"), "MissingParameter", message);
        }
    }
}

/// A value keeps to its declaration.
pub(super) fn fits(value: &Value, param: &ParamSpec, path: &str, problems: &mut Problems) {
    if !has_type(value, param.kind) {
        let kind = param.kind.as_str();
        let found = quoted(value);
        let quotes = matches!(value, Value::String(text) if of_text(text, param.kind));
        let hint = if quotes { ": write it without quotes" } else { "" };
        let message = format!("{found} is no {kind}: write a value of type {kind}{hint}");
        problems.add(path, "WrongType", message);
        return;
    }
    if let Some(number) = value.as_f64() {
        let below = param.minimum.is_some_and(|minimum| number < minimum);
        let above = param.maximum.is_some_and(|maximum| number > maximum);
        if below || above {
            problems.add(path, "OutOfBounds", format!("{number} is out of bounds: write a number {}", range(param)));
        }
    }
    if let Some(allowed) = &param.allowed
        && !allowed.iter().any(|one| same(one, value))
    {
        let list = allowed.iter().map(quoted).collect::<Vec<_>>().join(", ");
        problems.add(path, "NotAllowed", format!("{} is not allowed: write one of {list}", quoted(value)));
    }
}

fn range(param: &ParamSpec) -> String {
    match (param.minimum, param.maximum) {
        (Some(minimum), Some(maximum)) => format!("from {minimum} to {maximum}"),
        (Some(minimum), None) => format!("of at least {minimum}"),
        (None, Some(maximum)) => format!("of at most {maximum}"),
        (None, None) => String::new(),
    }
}

fn has_type(value: &Value, kind: ParamType) -> bool {
    match kind {
        ParamType::String => value.is_string(),
        ParamType::Number => value.is_number(),
        // 3.0 is an integer: what made the JSON may not tell them apart.
        ParamType::Integer => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        ParamType::Boolean => value.is_boolean(),
        ParamType::Array => value.is_array(),
        ParamType::Object => value.is_object(),
    }
}

/// The text would be a value of the type without its quotes.
fn of_text(text: &str, kind: ParamType) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| has_type(&value, kind))
}

/// Equal, where 3 equals 3.0.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b).is_eq(),
        _ => a == b,
    }
}

/// An integer without a fraction part, as programs expect one.
#[allow(clippy::cast_possible_truncation)]
fn whole(value: &Value, kind: ParamType) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value.as_f64() {
        Some(number) if kind == ParamType::Integer && value.is_f64() && number.abs() < EXACT => {
            Value::from(number as i64)
        }
        _ => value.clone(),
    }
}
