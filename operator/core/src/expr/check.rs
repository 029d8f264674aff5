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
    /// Member paths of each expression, as in `["stages", "fit", "metrics", "r2"]`.
    pub references: Vec<BTreeSet<Vec<String>>>,
    pub faults: Vec<Fault>,
}

impl Checked {
    /// The member paths of all expressions.
    #[must_use]
    pub fn named(self) -> BTreeSet<Vec<String>> {
        self.references.into_iter().flatten().collect()
    }
}

/// Checks a bare expression whose value must have the type `needed`.
#[must_use]
pub fn check(expression: &str, names: &Names, needed: &Type) -> Checked {
    let tree = match parse::parse(expression) {
        Ok(tree) => tree,
        Err(error) => {
            return Checked { kind: Type::Any, references: Vec::new(), faults: vec![Fault::Syntax(error)] };
        }
    };
    let mut checked = walk(&tree, Some(names));
    if !checked.faults.is_empty() {
        let mut misread = misread(expression, names);
        misread.extend(facts(expression, &checked.faults));
        checked.faults.retain(|fault| !misread.iter().any(|name| follows(fault, name)));
        let hyphens = misread.into_iter().map(|Misread { of, name, fact }| {
            let root = of.split('.').next().unwrap_or_default().to_owned();
            let written = format!("{of}.{}", in_expression(&name));
            if fact { Fault::FactHyphen { written } } else { Fault::Hyphen { root, written } }
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

/// A name with a hyphen, which was read as a minus.
struct Misread {
    /// The path in front of the name, as it is written.
    of: String,
    name: String,
    /// A metric or result, which never has a hyphen.
    fact: bool,
}

/// Names that stand in the expression with the hyphen that they have where they are declared.
fn misread(expression: &str, names: &Names) -> Vec<Misread> {
    let mut declared = Vec::new();
    for (root, kind) in names {
        hyphened(root, kind, &mut declared);
    }
    declared.retain(|Misread { of, name, .. }| {
        let path = format!("{of}.{name}");
        let end = expression.find(&path).map(|at| at + path.len());
        end.is_some_and(|end| !expression[end..].starts_with(in_name))
    });
    declared
}

/// Every declared name with a hyphen, at any depth.
fn hyphened(of: &str, kind: &Type, found: &mut Vec<Misread>) {
    match kind.present() {
        Type::Named(members) => {
            for (name, kind) in members {
                if name.contains('-') {
                    found.push(Misread { of: of.to_owned(), name: name.clone(), fact: false });
                }
                hyphened(&format!("{of}.{}", in_expression(name)), kind, found);
            }
        }
        Type::Record(members) => {
            for (name, kind) in members {
                hyphened(&format!("{of}.{name}"), kind, found);
            }
        }
        _ => {}
    }
}

/// Metrics and results that stand in the expression with a hyphen: `metrics.f1-score`, whose `score` nobody knows.
fn facts(expression: &str, faults: &[Fault]) -> Vec<Misread> {
    let unknown = faults.iter().filter_map(|fault| match fault {
        Fault::UnknownName { root, path, .. } if root == path => Some(root),
        _ => None,
    });
    let found = unknown.filter_map(|half| {
        let behind = format!("-{half}");
        let at = expression
            .match_indices(&behind)
            .map(|(at, _)| at)
            .find(|at| !expression[at + behind.len()..].starts_with(in_name))?;
        let path = &expression[..at];
        let begin = path.rfind(|c: char| !(in_name(c) || c == '.')).map_or(0, |at| at + 1);
        let (of, first) = path[begin..].rsplit_once('.')?;
        let fact = of.ends_with("metrics") || of.ends_with("results");
        fact.then(|| Misread { of: of.to_owned(), name: format!("{first}-{half}"), fact })
    });
    found.collect()
}

fn in_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The fault only says that the halves of a misread name are unknown, or that they cannot be subtracted.
fn follows(fault: &Fault, Misread { of, name, .. }: &Misread) -> bool {
    let mut halves = name.split('-');
    let first = format!("{of}.{}", halves.next().unwrap_or_default());
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
    let mut all = Checked { kind: Type::Text, references: Vec::new(), faults: Vec::new() };
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
    let mut all = Checked { kind, references: Vec::new(), faults: Vec::new() };
    for child in children {
        let one = check_value(child, names);
        all.references.extend(one.references);
        all.faults.extend(one.faults);
    }
    all
}
