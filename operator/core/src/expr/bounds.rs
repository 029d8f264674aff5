//! What an evaluation may cost. The length of an expression is bounded, its values are not: `l.map(x, l)` squares a list,
//! and a run that takes the operator's memory takes everybody's.

use cel::IdedExpr;
use cel::common::ast::{EntryExpr, Expr};
use serde_json::Value;

/// The most values that one evaluation may make.
const MAX_VALUES: f64 = 1e6;
/// A pattern is compiled each time it is used: inside a macro it counts as so many values.
const PATTERN: usize = 900;
/// This many bytes of text count as one value.
const TEXT: usize = 16;
/// The most bytes that one text with templates may become.
pub const MAX_RENDERED: usize = 256 * 1024;

/// What of an expression multiplies.
#[derive(Clone, Copy, Default)]
struct Shape {
    /// Names and literals.
    leaves: usize,
    macros: usize,
    patterns: usize,
    /// Macros that walk what another macro made.
    depth: usize,
}

impl Shape {
    fn with(self, other: Self) -> Self {
        Self {
            leaves: self.leaves + other.leaves,
            macros: self.macros + other.macros,
            patterns: self.patterns + other.patterns,
            depth: self.depth.max(other.depth),
        }
    }
}

/// What is advised; who has no stages advises something else.
pub const IN_A_STAGE: &str = "compute it in a stage";

/// Refuses an evaluation that could make too many values of those that it names.
///
/// The bound: a step of a macro makes at most everything that the expression names, once for each thing that the macro
/// walks; so `d` macros in a row make at most `size^(d + 1)`, where `size` counts names, literals and the values named.
pub fn check<'a>(tree: &IdedExpr, named: impl Iterator<Item = &'a Value>) -> Result<(), String> {
    let shape = shape(tree);
    let named: usize = named.map(size).sum();
    let size = (shape.leaves + named) as f64;
    let values = if shape.depth == 0 {
        size * shape.leaves as f64
    } else {
        (size + (PATTERN * shape.patterns) as f64).powi(i32::try_from(shape.depth + 1).unwrap_or(i32::MAX))
            * shape.macros as f64
    };
    if values <= MAX_VALUES {
        return Ok(());
    }
    Err(format!("it could make more than {MAX_VALUES} values of the {named} that it names: {IN_A_STAGE}"))
}

fn size(value: &Value) -> usize {
    1 + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len() / TEXT,
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() / TEXT + size(value)).sum(),
    }
}

fn shape(node: &IdedExpr) -> Shape {
    let leaf = Shape { leaves: 1, ..Shape::default() };
    let all = |nodes: &[IdedExpr]| nodes.iter().map(shape).fold(Shape::default(), Shape::with);
    match &node.expr {
        Expr::Ident(_) | Expr::Literal(_) => leaf,
        Expr::Select(select) => shape(&select.operand),
        Expr::Call(call) => {
            let patterns = usize::from(call.func_name == "matches");
            let called = Shape { patterns, ..Shape::default() };
            called.with(call.target.as_deref().map(shape).unwrap_or_default()).with(all(&call.args))
        }
        Expr::List(list) => leaf.with(all(&list.elements)),
        Expr::Map(map) => map.entries.iter().map(|entry| entry_shape(&entry.expr)).fold(leaf, Shape::with),
        Expr::Comprehension(each) => {
            let parts = [&each.iter_range, &each.accu_init, &each.loop_cond, &each.loop_step, &each.result];
            let parts = parts.map(shape).into_iter().fold(Shape::default(), Shape::with);
            Shape { macros: parts.macros + 1, depth: parts.depth + 1, ..parts }
        }
        Expr::Struct(_) | Expr::Unspecified => Shape::default(),
    }
}

fn entry_shape(entry: &EntryExpr) -> Shape {
    match entry {
        EntryExpr::MapEntry(entry) => shape(&entry.key).with(shape(&entry.value)),
        EntryExpr::StructField(field) => shape(&field.value),
    }
}
