//! Evaluation.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::Expr;
use cel::{Context, Env, IdedExpr};
use serde_json::Value;

use super::quote::{QUOTE, quote};
use super::template::{Piece, pieces};
use super::{ExprError, Scope, bounds, did_you_mean, error, infer, parse, value};

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Evaluates an expression that must be true or false.
pub fn eval_bool(expression: &str, scope: &Scope) -> Result<bool, ExprError> {
    match eval(expression, scope)? {
        Value::Bool(value) => Ok(value),
        other => Err(ExprError::Type {
            expression: error::shown(expression),
            found: value::type_name(&other).to_owned(),
            expected: "true or false",
        }),
    }
}

/// Renders text with `$[[ … ]]` in it. A value that is not text is written as JSON. What was rendered is never looked at
/// again.
pub fn render(text: &str, scope: &Scope) -> Result<String, ExprError> {
    let mut rendered = String::with_capacity(text.len());
    for piece in pieces(text)? {
        match piece {
            Piece::Text(text) => rendered.push_str(text),
            Piece::Expression(expression) => match eval(expression, scope)? {
                Value::String(text) => rendered.push_str(&text),
                other => rendered.push_str(&other.to_string()),
            },
        }
        if rendered.len() > bounds::MAX_RENDERED {
            let message =
                format!("the text would be longer than {} bytes: hand it over as a file", bounds::MAX_RENDERED);
            return Err(ExprError::evaluation(text, message));
        }
    }
    Ok(rendered)
}

/// Renders every text inside a value. Text that is one template and nothing else becomes the template's value, with its
/// type.
pub fn render_value(value: &Value, scope: &Scope) -> Result<Value, ExprError> {
    Ok(match value {
        Value::String(text) => match pieces(text)?.as_slice() {
            [Piece::Expression(expression)] => eval(expression, scope)?,
            _ => Value::String(render(text, scope)?),
        },
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| render_value(item, scope)).collect::<Result<_, _>>()?)
        }
        Value::Object(map) => Value::Object(
            map.iter().map(|(k, v)| Ok((k.clone(), render_value(v, scope)?))).collect::<Result<_, ExprError>>()?,
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

fn eval(expression: &str, scope: &Scope) -> Result<Value, ExprError> {
    let tree = parse::parse(expression)?;
    // A plain name keeps its value to the last digit: no way through doubles.
    if let Some(path) = plain_path(&tree) {
        return lookup(&path, scope).map(value::plain).map_err(|message| ExprError::evaluation(expression, message));
    }
    let used = infer::walk(&tree, None).named();
    let named = used.iter().filter_map(|path| lookup(path, scope).ok());
    bounds::check(&tree, named).map_err(|message| ExprError::evaluation(expression, message))?;
    let evaluated = catch_unwind(AssertUnwindSafe(|| {
        let mut context = Context::with_env(Arc::clone(&ENV));
        // It fails only for a name that the standard library has.
        let _ = context.add_function(QUOTE, quote);
        for (name, value) in &scope.names {
            if used.iter().any(|path| path.first() == Some(name)) {
                context.add_variable_from_value(name.as_str(), value::to_cel(value));
            }
        }
        context.resolve(&tree)
    }))
    .map_err(|_| ExprError::evaluation(expression, "the interpreter gave up on it"))?;
    let found = evaluated.map_err(|error| {
        // A name that is missing explains more than what its absence led to.
        let missing = used.iter().find_map(|path| lookup(path, scope).err());
        ExprError::evaluation(expression, missing.unwrap_or_else(|| error.to_string()))
    })?;
    value::to_json(&found).map_err(|found| ExprError::evaluation(expression, format!("it is {found}")))
}

/// The names of `a.b.c`; nothing for any other expression.
fn plain_path(tree: &IdedExpr) -> Option<Vec<String>> {
    match &tree.expr {
        Expr::Ident(name) => Some(vec![name.clone()]),
        Expr::Select(select) if !select.test => {
            let mut path = plain_path(&select.operand)?;
            path.push(select.field.clone());
            Some(path)
        }
        _ => None,
    }
}

pub(super) fn lookup<'a>(path: &[String], scope: &'a Scope) -> Result<&'a Value, String> {
    let mut names = path.iter();
    let first = names.next().map(String::as_str).unwrap_or_default();
    let known = scope.names.keys().map(String::as_str);
    let mut value =
        scope.names.get(first).ok_or_else(|| format!("`{first}` is unknown: {}", did_you_mean(first, known)))?;
    let mut so_far = first.to_owned();
    for name in names {
        value = match value {
            Value::Object(map) => map.get(name).ok_or_else(|| {
                format!("`{so_far}` has no `{name}`: {}", did_you_mean(name, map.keys().map(String::as_str)))
            })?,
            other => return Err(format!("`{so_far}` is {} and has no `{name}`", value::type_name(other))),
        };
        so_far = format!("{so_far}.{name}");
    }
    Ok(value)
}
