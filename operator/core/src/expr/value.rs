//! JSON to CEL and back. All numbers are doubles in between; a whole one goes back without a fraction.

use std::collections::HashMap;
use std::sync::Arc;

use cel::objects::{Key, Map};
use serde_json::{Number, Value};

use super::bounds::MAX_RENDERED;

/// Doubles hold every integer up to here.
const EXACT: f64 = 9_007_199_254_740_992.0;

pub fn to_cel(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(b) => cel::Value::Bool(*b),
        Value::Number(n) => cel::Value::Float(n.as_f64().unwrap_or(f64::NAN)),
        Value::String(s) => cel::Value::String(Arc::new(s.clone())),
        Value::Array(items) => cel::Value::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(map) => {
            let entries = map.iter().map(|(k, v)| (Key::String(Arc::new(k.clone())), to_cel(v)));
            cel::Value::Map(Map { map: Arc::new(entries.collect::<HashMap<_, _>>()) })
        }
    }
}

/// What JSON cannot say comes back as an error: the name of its type. So does what is too long: one text may stand a thousand
/// times in a list of CEL, and would be copied as often.
pub fn to_json(value: &cel::Value) -> Result<Value, String> {
    let mut left = MAX_RENDERED;
    copied(value, &mut left)
}

fn copied(value: &cel::Value, left: &mut usize) -> Result<Value, String> {
    spend(left, 1)?;
    Ok(match value {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(b) => Value::Bool(*b),
        cel::Value::Int(i) => Value::from(*i),
        cel::Value::UInt(u) => Value::from(*u),
        cel::Value::Float(f) => number(*f).ok_or_else(|| format!("the number {f}, which JSON does not have"))?,
        cel::Value::String(s) => {
            spend(left, s.len())?;
            Value::String(s.as_ref().clone())
        }
        cel::Value::List(items) => Value::Array(items.iter().map(|item| copied(item, left)).collect::<Result<_, _>>()?),
        cel::Value::Map(map) => {
            let entries = map.map.iter().map(|(k, v)| {
                let key = key(k);
                spend(left, key.len())?;
                Ok((key, copied(v, left)?))
            });
            Value::Object(entries.collect::<Result<_, String>>()?)
        }
        other => return Err(format!("a {}, which JSON does not have", other.type_of())),
    })
}

fn spend(left: &mut usize, bytes: usize) -> Result<(), String> {
    let long = || format!("longer than {MAX_RENDERED} bytes: hand it over as a file");
    *left = left.checked_sub(bytes).ok_or_else(long)?;
    Ok(())
}

fn key(key: &Key) -> String {
    match key {
        Key::Int(i) => i.to_string(),
        Key::Uint(u) => u.to_string(),
        Key::Bool(b) => b.to_string(),
        Key::String(s) => s.as_ref().clone(),
    }
}

#[allow(clippy::cast_possible_truncation)]
fn number(double: f64) -> Option<Value> {
    if double.fract() == 0.0 && double.abs() < EXACT {
        return Some(Value::from(double as i64));
    }
    Number::from_f64(double).map(Value::Number)
}

/// A value of the scope as it is rendered: `3.0` is written `3`, as it is after a computation.
pub fn plain(value: &Value) -> Value {
    match value {
        Value::Number(n) if n.is_f64() => n.as_f64().and_then(number).unwrap_or_else(|| value.clone()),
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), plain(v))).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// A value's type as messages name it.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
