//! What can be said of an expression before it is evaluated: which names it uses, whether they exist, and whether their
//! types go together.

use std::collections::BTreeSet;

use serde_json::Value;

use super::error::shown;
use super::infer::walk;
use super::template::{Piece, pieces};
use super::{Fault, Names, Type, in_expression, parse};

/// What was found out about an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub kind: Type,
    /// Member paths, as in `["stages", "fit", "metrics", "r2"]`.
    pub references: BTreeSet<Vec<String>>,
    pub faults: Vec<Fault>,
}

/// Checks a bare expression whose value must have the type `needed`.
#[must_use]
pub fn check(expression: &str, names: &Names, needed: &Type) -> Checked {
    let tree = match parse::parse(expression) {
        Ok(tree) => tree,
        Err(error) => {
            return Checked { kind: Type::Any, references: BTreeSet::new(), faults: vec![Fault::Syntax(error)] };
        }
    };
    let mut checked = walk(&tree, Some(names));
    if !checked.faults.is_empty() {
        let misread = misread(expression, names);
        checked.faults.retain(|fault| !misread.iter().any(|name| follows(fault, name)));
        let hyphens = misread.into_iter().map(|(root, name)| Fault::Hyphen {
            root: root.to_owned(),
            written: format!("{root}.{}", in_expression(name)),
        });
        checked.faults.splice(..0, hyphens);
    }
    if checked.faults.is_empty() && !checked.kind.fits(needed) {
        checked.faults.push(Fault::Result {
            expression: shown(expression),
            found: checked.kind.clone(),
            needed: needed.clone(),
        });
    }
    checked
}

/// Names that stand in the expression with the hyphen that they have where they are declared, each with its root.
fn misread<'a>(expression: &str, names: &'a Names) -> Vec<(&'a str, &'a str)> {
    let declared = names.iter().filter_map(|(root, kind)| match kind.present() {
        Type::Named(members) => Some(members.keys().map(move |name| (root.as_str(), name.as_str()))),
        _ => None,
    });
    let stands = |(root, name): &(&str, &str)| {
        let path = format!("{root}.{name}");
        let end = expression.find(&path).map(|at| at + path.len());
        let whole = end.is_some_and(|end| !expression[end..].starts_with(|c: char| c.is_alphanumeric() || c == '_'));
        name.contains('-') && whole
    };
    declared.flatten().filter(stands).collect()
}

/// The fault only says that the halves of a misread name are unknown, or that they cannot be subtracted.
fn follows(fault: &Fault, (root, name): &(&str, &str)) -> bool {
    let mut halves = name.split('-');
    let first = format!("{root}.{}", halves.next().unwrap_or_default());
    let begins =
        |path: &str, with: &str| path.strip_prefix(with).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    match fault {
        Fault::UnknownName { path, .. } | Fault::NoMember { path, .. } => {
            begins(path, &first) || halves.any(|half| begins(path, half))
        }
        Fault::Operand { operation, .. } => operation == "`-`",
        _ => false,
    }
}

/// Checks every template in a text. The type is the template's if the text is one template and nothing else.
#[must_use]
pub fn check_text(text: &str, names: &Names) -> Checked {
    let mut all = Checked { kind: Type::Text, references: BTreeSet::new(), faults: Vec::new() };
    let pieces = match pieces(text) {
        Ok(pieces) => pieces,
        Err(error) => {
            all.faults.push(Fault::Syntax(error));
            return all;
        }
    };
    let whole = matches!(pieces.as_slice(), [Piece::Expression(_)]);
    for piece in pieces {
        if let Piece::Expression(expression) = piece {
            let one = check(expression, names, &Type::Any);
            if whole {
                all.kind = one.kind;
            }
            all.references.extend(one.references);
            all.faults.extend(one.faults);
        }
    }
    all
}

/// Checks every text inside a value.
#[must_use]
pub fn check_value(value: &Value, names: &Names) -> Checked {
    let (kind, children): (Type, Vec<&Value>) = match value {
        Value::String(text) => return check_text(text, names),
        Value::Null => (Type::Null, Vec::new()),
        Value::Bool(_) => (Type::Boolean, Vec::new()),
        Value::Number(_) => (Type::Number, Vec::new()),
        Value::Array(items) => (Type::List, items.iter().collect()),
        Value::Object(map) => (Type::map_of(Type::Any), map.values().collect()),
    };
    let mut all = Checked { kind, references: BTreeSet::new(), faults: Vec::new() };
    for child in children {
        let one = check_value(child, names);
        all.references.extend(one.references);
        all.faults.extend(one.faults);
    }
    all
}
