//! Expressions: CEL, and text with `$[[ CEL ]]` in it. Evaluation on one side; on the other what can be said of an
//! expression before it is evaluated: the names it uses and the types they have.

mod bounds;
mod check;
mod compared;
mod error;
mod evaluate;
mod explain;
mod fault;
mod infer;
mod nearest;
mod parse;
mod quote;
mod scope;
mod shell;
mod slip;
mod template;
mod types;
mod value;

#[cfg(test)]
mod tests;

pub use bounds::IN_A_STAGE;
pub use check::{Checked, check, check_text, check_value};
pub use compared::compared;
pub use error::ExprError;
pub use evaluate::{eval_bool, render, render_value};
pub use explain::{Figure, decisive, figures, unknown};
pub use fault::Fault;
pub use nearest::{did_you_mean, list, nearest};
pub use scope::Scope;
pub use shell::check_script;
pub use template::has_template;
pub use types::{Names, Type, in_expression};

use std::collections::BTreeSet;

use serde_json::Value;
use template::Piece;

/// The member paths that an expression names: `["params", "rows"]`, `["stages", "fit", "metrics", "r2"]`.
pub fn references(expression: &str) -> Result<BTreeSet<Vec<String>>, ExprError> {
    let parsed = parse::parse(expression)?;
    Ok(infer::walk(&parsed, None).named())
}

/// As [`references`], of every template in every text inside a value. What cannot be read names nothing.
pub fn references_in(value: &Value) -> BTreeSet<Vec<String>> {
    match value {
        Value::String(text) => {
            let pieces = template::pieces(text).unwrap_or_default();
            let named = pieces.into_iter().filter_map(|piece| match piece {
                Piece::Expression(expression) => references(expression).ok(),
                Piece::Text(_) => None,
            });
            named.flatten().collect()
        }
        Value::Array(values) => values.iter().flat_map(references_in).collect(),
        Value::Object(map) => map.values().flat_map(references_in).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => BTreeSet::new(),
    }
}
