//! Why a condition is false: the part of it that decides, and the values that it names.

use serde_json::Value;

use super::evaluate::{eval_bool, lookup};
use super::template::each_byte;
use super::{ExprError, Scope, references};

/// A name of an expression, as it is written there, and its value.
pub type Figure = (String, Value);

/// The plain values that an expression names, in the order in which it names them. A name without a value is left out, and
/// so is an object whose members are named too.
pub fn figures(expression: &str, scope: &Scope) -> Result<Vec<Figure>, ExprError> {
    let mut found: Vec<(usize, Figure)> = Vec::new();
    for path in references(expression)? {
        let written = path.join(".");
        match lookup(&path, scope) {
            Ok(Value::Array(_) | Value::Object(_)) | Err(_) => {}
            Ok(value) => {
                let at = expression.find(&written).unwrap_or(expression.len());
                found.push((at, (written, value.clone())));
            }
        }
    }
    found.sort_by(|(a, (x, _)), (b, (y, _))| (a, x).cmp(&(b, y)));
    Ok(found.into_iter().map(|(_, figure)| figure).collect())
}

/// The metrics that an expression names and that have no value, in the order of their names.
pub fn unknown(expression: &str, scope: &Scope) -> Result<Vec<String>, ExprError> {
    let metric = |path: &Vec<String>| path.len() == 2 && path[0] == "metrics" && lookup(path, scope).is_err();
    Ok(references(expression)?.into_iter().filter(metric).map(|path| path.join(".")).collect())
}

/// The part of a false condition that makes it false: the first side of its `&&` that is false by itself.
#[must_use]
pub fn decisive<'a>(condition: &'a str, scope: &Scope) -> &'a str {
    let inner = unwrapped(without_comment(condition));
    if sides(inner, "?").len() > 1 || sides(inner, "||").len() > 1 {
        return inner;
    }
    let sides = sides(inner, "&&");
    if sides.len() == 1 {
        return inner;
    }
    let first = sides.into_iter().find(|side| eval_bool(side, scope) == Ok(false));
    first.map_or(inner, |side| decisive(side, scope))
}

/// Without the comment at its end.
fn without_comment(text: &str) -> &str {
    let mut slash = None;
    each_byte(text, |at, byte| {
        if byte == b'/' && slash.is_none() && text[at..].starts_with("//") && !text[at..].contains('\n') {
            slash = Some(at);
        }
    });
    slash.map_or(text, |at| &text[..at])
}

/// Without the brackets around all of it.
fn unwrapped(text: &str) -> &str {
    let text = text.trim();
    let inside = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    match inside {
        Some(inside) if balanced(inside) => unwrapped(inside),
        _ => text,
    }
}

/// No bracket closes one that is not opened here.
fn balanced(text: &str) -> bool {
    let mut depth = 0_i32;
    let mut least = 0;
    each_byte(text, |_, byte| {
        depth += step(byte);
        least = least.min(depth);
    });
    depth == 0 && least == 0
}

/// The text cut at an operator that stands in no bracket and no string.
fn sides<'a>(text: &'a str, operator: &str) -> Vec<&'a str> {
    let (mut cuts, mut depth, mut begin) = (Vec::new(), 0_i32, 0);
    each_byte(text, |at, byte| {
        depth += step(byte);
        if depth == 0 && at >= begin && text.as_bytes()[at..].starts_with(operator.as_bytes()) {
            cuts.push(text[begin..at].trim());
            begin = at + operator.len();
        }
    });
    cuts.push(text[begin..].trim());
    cuts
}

fn step(byte: u8) -> i32 {
    match byte {
        b'(' | b'[' | b'{' => 1,
        b')' | b']' | b'}' => -1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scope() -> Scope {
        Scope::new()
            .with("metrics", json!({ "f1": 0.5, "rmse": 2, "rest": 1 }))
            .with("params", json!({ "min-f1": 0.4, "name": "a && b" }))
            .with("champion", json!({ "metrics": { "f1": 0.9 }, "modelVersion": "m-v1" }))
    }

    #[test]
    fn the_side_that_is_false_decides() {
        for (condition, part) in [
            ("metrics.f1 > 0.9", "metrics.f1 > 0.9"),
            ("metrics.f1 > 0.4 && metrics.rmse < 1", "metrics.rmse < 1"),
            ("(metrics.f1 > 0.4 && (metrics.rmse < 1))", "metrics.rmse < 1"),
            (
                "metrics.f1 >= params.min_f1 && (champion == null || metrics.f1 >= champion.metrics.f1)",
                "champion == null || metrics.f1 >= champion.metrics.f1",
            ),
            ("metrics.f1 > 1 || metrics.rmse < 1 && true", "metrics.f1 > 1 || metrics.rmse < 1 && true"),
            ("params.name == 'x && y' && true", "params.name == 'x && y'"),
            ("(metrics.f1 > 0.4) && (metrics.rmse < 1)", "metrics.rmse < 1"),
            ("true && metrics.f1 > 0.4 ? false : true", "true && metrics.f1 > 0.4 ? false : true"),
            ("params.name.startsWith(\"(\") && true", "params.name.startsWith(\"(\")"),
            ("!(metrics.f1 > 0.4 && true)", "!(metrics.f1 > 0.4 && true)"),
            ("metrics.f1 > 0.9 // not && enough", "metrics.f1 > 0.9"),
            ("params.name == '//' // no", "params.name == '//'"),
        ] {
            assert_eq!(eval_bool(condition, &scope()), Ok(false), "{condition}");
            assert_eq!(decisive(condition, &scope()), part, "{condition}");
        }
    }

    #[test]
    fn only_what_is_named_is_told_in_the_order_in_which_it_is_named() {
        let told = |condition: &str| {
            let figures = figures(condition, &scope()).unwrap();
            figures.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            told("metrics.f1 >= params.min_f1 && (champion == null || metrics.f1 >= champion.metrics.f1 - 0.01)"),
            "metrics.f1=0.5 params.min_f1=0.4 champion.metrics.f1=0.9"
        );
        let none = scope().with("champion", Value::Null);
        let figures = figures("champion != null && metrics.f1 > champion.metrics.f1", &none).unwrap();
        assert_eq!(figures, [("champion".to_owned(), Value::Null), ("metrics.f1".to_owned(), json!(0.5))]);
    }
}
