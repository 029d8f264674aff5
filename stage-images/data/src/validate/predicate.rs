//! Checks that look at single rows, as expressions that are true for the rows that break them.

use arrow::datatypes::DataType;
use datafusion::logical_expr::{Expr, ident, lit};
use datafusion::prelude::{cast, in_list, regexp_like};
use datafusion::scalar::ScalarValue;
use serde_json::Value;

use super::check::Rule;
use crate::ingest::values;
use crate::params::kind;
use crate::types::{ColumnType, word};

/// The expression for a rule's broken rows. None for rules that do not look at single rows; an error if the rule does
/// not go with the column's type, in words for the report.
pub fn broken_rows(rule: &Rule, arrow: &DataType) -> Result<Option<Expr>, String> {
    Ok(match rule {
        Rule::Nulls { column, .. } => Some(ident(column).is_null()),
        Rule::Range { column, min, max } => {
            let below = min.as_ref().map(|min| Ok::<_, String>(ident(column).lt(literal("min", min, arrow)?)));
            let above = max.as_ref().map(|max| Ok::<_, String>(ident(column).gt(literal("max", max, arrow)?)));
            match (below.transpose()?, above.transpose()?) {
                (Some(below), Some(above)) => Some(below.or(above)),
                (one, other) => one.or(other),
            }
        }
        Rule::Allowed { column, values } => {
            let list = values.iter().map(|value| literal("allowed", value, arrow)).collect::<Result<_, _>>()?;
            Some(in_list(ident(column), list, true))
        }
        Rule::Matches { column, pattern } => {
            let text = cast(ident(column), DataType::Utf8);
            Some(Expr::Not(Box::new(regexp_like(text, lit(pattern.as_str()), None))))
        }
        Rule::Type { .. }
        | Rule::Unique { .. }
        | Rule::Rows { .. }
        | Rule::Freshness { .. }
        | Rule::Columns(_)
        | Rule::Sql { .. } => None,
    })
}

/// A value of the parameters as a literal of the column's own type, so that nothing is compared as text by accident.
fn literal(key: &str, value: &Value, arrow: &DataType) -> Result<Expr, String> {
    let wrong = |expected: &str| {
        let found = kind(value);
        format!("{key}: found {found} ({value}), but the column is of type {}: write {expected}", word(arrow))
    };
    match (ColumnType::of(arrow), value) {
        (Some(ColumnType::Integer | ColumnType::Number), Value::Number(number)) => {
            match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Ok(lit(integer)),
                (None, Some(number)) => Ok(lit(number)),
                (None, None) => Err(wrong("a number")),
            }
        }
        (Some(ColumnType::Integer | ColumnType::Number), _) => Err(wrong("a number")),
        (Some(ColumnType::String), Value::String(text)) => Ok(lit(text.as_str())),
        (Some(ColumnType::String), _) => Err(wrong("a text in quotes")),
        (Some(ColumnType::Boolean), Value::Bool(boolean)) => Ok(lit(*boolean)),
        (Some(ColumnType::Boolean), _) => Err(wrong("true or false")),
        (Some(ColumnType::Date), Value::String(text)) => match values::date(text) {
            Some(days) => Ok(lit(ScalarValue::Date32(Some(days)))),
            None => Err(wrong("a date like \"2026-11-21\"")),
        },
        (Some(ColumnType::Date), _) => Err(wrong("a date like \"2026-11-21\"")),
        (Some(ColumnType::Timestamp), Value::String(text)) => {
            let zone = if let DataType::Timestamp(_, zone) = arrow { zone.clone() } else { None };
            match values::timestamp(text) {
                Some(instant) => Ok(lit(ScalarValue::TimestampMicrosecond(Some(instant), zone))),
                None => Err(wrong("a timestamp like \"2026-11-21T12:00:00Z\"")),
            }
        }
        (Some(ColumnType::Timestamp), _) => Err(wrong("a timestamp like \"2026-11-21T12:00:00Z\"")),
        (None, _) => Err(wrong("a check of another kind; this type has no order")),
    }
}
