//! Parsing, with bounds in front of it: whoever may write a pipeline may write any expression, and neither the parser's
//! stack nor the evaluator's time is theirs to use up.

use std::panic::catch_unwind;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators};
use cel::parser::Parser;

use super::quote::QUOTE;
use super::{ExprError, slip};

/// The longest expression in bytes.
const MAX_BYTES: usize = 1024;
/// The deepest nesting of brackets.
const MAX_BRACKETS: usize = 16;
/// The deepest syntax tree: `a + b + c` nests once for each `+`.
const MAX_DEPTH: usize = 64;
/// The most operators and dots in one expression, because each may nest the tree that the parser builds.
const MAX_OPERATORS: usize = 128;

/// Functions that return a CEL int; wrapped, because all numbers here are doubles.
const RETURN_INT: [&str; 3] = ["size", "int", "uint"];

/// Parses an expression. Number literals become doubles, so that `2 * metrics.f1` has a value.
pub fn parse(expression: &str) -> Result<IdedExpr, ExprError> {
    bounded(expression)?;
    let parsed = catch_unwind(|| Parser::new().max_recursion_depth(32).parse(expression))
        .map_err(|_| ExprError::syntax(expression, "the parser gave up: write it more simply"))?;
    let mut tree = parsed.map_err(|errors| {
        if let Some(slip) = slip::found(expression) {
            return ExprError::syntax(expression, slip);
        }
        let first = errors.errors.first().map_or_else(|| "it is not CEL".to_owned(), |error| error.msg.clone());
        ExprError::syntax(expression, first.lines().next().unwrap_or_default())
    })?;
    widen(&mut tree, 0).map_err(|message| ExprError::syntax(expression, message))?;
    Ok(tree)
}

/// Refuses what is too long or too deep before the parser sees it.
fn bounded(expression: &str) -> Result<(), ExprError> {
    if expression.trim().is_empty() {
        return Err(ExprError::syntax(expression, "it is empty: write a CEL expression"));
    }
    if expression.len() > MAX_BYTES {
        let message = format!("it is {} bytes long, and at most {MAX_BYTES} are allowed", expression.len());
        return Err(ExprError::syntax(expression, message));
    }
    let (mut brackets, mut operators, mut run) = (0_usize, 0_usize, 0_usize);
    for byte in expression.bytes() {
        match byte {
            b'(' | b'[' | b'{' => brackets += 1,
            b')' | b']' | b'}' => brackets = brackets.saturating_sub(1),
            b'+' | b'*' | b'/' | b'%' | b'.' | b'<' | b'>' | b'=' | b'&' | b'|' => operators += 1,
            _ => {}
        }
        // A chain of prefixes such as `!!!!` or `----` nests as brackets do.
        run = if matches!(byte, b'!' | b'-') { run + 1 } else { 0 };
        operators += usize::from(matches!(byte, b'-' | b'?'));
        if brackets > MAX_BRACKETS || run > MAX_BRACKETS {
            return Err(ExprError::syntax(expression, "it is nested too deeply: write it more simply"));
        }
        if operators > MAX_OPERATORS {
            let message = format!(
                "it has more than {MAX_OPERATORS} operator signs and dots: compute a part of it in the stage, as a metric or result"
            );
            return Err(ExprError::syntax(expression, message));
        }
    }
    Ok(())
}

/// Makes every number a double, and refuses a tree that is too deep to walk.
fn widen(node: &mut IdedExpr, depth: usize) -> Result<(), &'static str> {
    if depth > MAX_DEPTH {
        return Err("it is nested too deeply: write it more simply");
    }
    let next = depth + 1;
    match &mut node.expr {
        Expr::Literal(literal) => {
            let double = match literal {
                LiteralValue::Int(int) => Some(*int.inner() as f64),
                LiteralValue::UInt(uint) => Some(*uint.inner() as f64),
                _ => None,
            };
            if let Some(double) = double {
                *literal = LiteralValue::Double(double.into());
            }
        }
        Expr::Call(call) => {
            if call.func_name == QUOTE && call.args.iter().any(|argument| holds(argument, is_quote)) {
                return Err("quote() stands inside quote(): write it once");
            }
            if let Some(target) = &mut call.target {
                widen(target, next)?;
            }
            let index = call.func_name == operators::INDEX;
            for (i, argument) in call.args.iter_mut().enumerate() {
                // The index of a list stays an int: `list[0]`.
                if !(index && i == 1 && matches!(argument.expr, Expr::Literal(_))) {
                    widen(argument, next)?;
                }
            }
            if RETURN_INT.contains(&call.func_name.as_str()) {
                let inner = std::mem::take(node);
                let id = inner.id;
                let double = CallExpr { func_name: "double".to_owned(), target: None, args: vec![inner] };
                *node = IdedExpr { id, expr: Expr::Call(double) };
            }
        }
        Expr::Comprehension(each) => {
            // Lists within lists would multiply their lengths.
            if holds(&each.loop_step, is_macro) || holds(&each.loop_cond, is_macro) {
                return Err("a macro such as all() or map() stands inside another: one level is allowed");
            }
            // It makes text longer than what it is given, and a macro does that for each thing that it walks.
            if [&each.iter_range, &each.loop_cond, &each.loop_step].into_iter().any(|part| holds(part, is_quote)) {
                return Err("quote() stands inside a macro such as all() or map(): quote the values one by one");
            }
            let parts =
                [&mut each.iter_range, &mut each.accu_init, &mut each.loop_cond, &mut each.loop_step, &mut each.result];
            for part in parts {
                widen(part, next)?;
            }
        }
        Expr::List(list) => list.elements.iter_mut().try_for_each(|element| widen(element, next))?,
        Expr::Map(map) => map.entries.iter_mut().try_for_each(|entry| widen_entry(&mut entry.expr, next))?,
        Expr::Select(select) => widen(&mut select.operand, next)?,
        Expr::Struct(_) => return Err("messages are not supported: write a map such as {'a': 1}"),
        Expr::Ident(_) | Expr::Unspecified => {}
    }
    Ok(())
}

/// A map's keys stay as they are: a double is no key.
fn widen_entry(entry: &mut EntryExpr, depth: usize) -> Result<(), &'static str> {
    match entry {
        EntryExpr::MapEntry(entry) => widen(&mut entry.value, depth),
        EntryExpr::StructField(field) => widen(&mut field.value, depth),
    }
}

fn is_macro(node: &Expr) -> bool {
    matches!(node, Expr::Comprehension(_))
}

/// The expression calls `quote`.
pub fn quotes(tree: &IdedExpr) -> bool {
    holds(tree, is_quote)
}

fn is_quote(node: &Expr) -> bool {
    matches!(node, Expr::Call(call) if call.func_name == QUOTE)
}

/// What is sought is the node, or stands below it.
fn holds(node: &IdedExpr, sought: fn(&Expr) -> bool) -> bool {
    let below = |node: &IdedExpr| holds(node, sought);
    sought(&node.expr)
        || match &node.expr {
            Expr::Comprehension(each) => {
                let parts = [&each.iter_range, &each.accu_init, &each.loop_cond, &each.loop_step, &each.result];
                parts.into_iter().any(below)
            }
            Expr::Call(call) => call.target.as_deref().is_some_and(below) || call.args.iter().any(below),
            Expr::List(list) => list.elements.iter().any(below),
            Expr::Map(map) => map.entries.iter().any(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => below(&entry.key) || below(&entry.value),
                EntryExpr::StructField(field) => below(&field.value),
            }),
            Expr::Select(select) => below(&select.operand),
            Expr::Struct(_) | Expr::Literal(_) | Expr::Ident(_) | Expr::Unspecified => false,
        }
}
