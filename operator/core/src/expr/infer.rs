//! The walk over a tree that finds the names it uses and the type it has.

use std::collections::{BTreeMap, BTreeSet};

use cel::IdedExpr;
use cel::common::ast::{EntryExpr, Expr, LiteralValue, operators as op};

use super::quote::QUOTE;
use super::slip;
use super::{Checked, Fault, Names, Type, did_you_mean, in_expression, list, nearest};

/// CEL's standard functions, besides operators and macros, and `quote`.
const FUNCTIONS: [&str; 28] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "double",
    "int",
    "uint",
    "bytes",
    "bool",
    "type",
    "dyn",
    "duration",
    "timestamp",
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
    "has",
    "all",
    QUOTE,
];
/// Names of types are values, as in `type(x) == string`.
const TYPE_NAMES: [&str; 10] = ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];

/// Walks a tree. Without names nothing is unknown, and only the references are of use.
pub(super) fn walk(tree: &IdedExpr, names: Option<&Names>) -> Checked {
    let mut walk = Walk { names, locals: Vec::new(), references: BTreeSet::new(), faults: Vec::new() };
    let (kind, path) = walk.infer(tree);
    walk.used(path);
    Checked { kind, references: vec![walk.references], faults: walk.faults }
}

struct Walk<'a> {
    names: Option<&'a Names>,
    /// Variables of macros.
    locals: Vec<String>,
    references: BTreeSet<Vec<String>>,
    faults: Vec<Fault>,
}

type Path = Option<Vec<String>>;

impl Walk<'_> {
    fn used(&mut self, path: Path) {
        self.references.extend(path);
    }

    /// The type of a part that stands for itself: its path ends here.
    fn kind(&mut self, node: &IdedExpr) -> Type {
        let (kind, path) = self.infer(node);
        self.used(path);
        kind
    }

    /// The type of a part, and the path if it is a name that may go on.
    fn infer(&mut self, node: &IdedExpr) -> (Type, Path) {
        match &node.expr {
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => {
                let (kind, path) = self.infer(&select.operand);
                let (kind, path) = self.member(&kind, path, &select.field);
                if select.test {
                    self.used(path);
                    return (Type::Boolean, None);
                }
                (kind, path)
            }
            Expr::Call(call) if call.func_name == op::INDEX && call.args.len() == 2 => {
                if let Expr::Literal(LiteralValue::String(name)) = &call.args[1].expr {
                    let (kind, path) = self.infer(&call.args[0]);
                    return self.member(&kind, path, name.inner());
                }
                self.kind(&call.args[0]);
                self.kind(&call.args[1]);
                (Type::Any, None)
            }
            Expr::Call(call) => {
                if call.func_name == QUOTE && (call.target.is_some() || call.args.len() != 1) {
                    self.faults.push(Fault::Arguments);
                }
                if let Some(target) = &call.target {
                    self.kind(target);
                }
                let kinds: Vec<Type> = call.args.iter().map(|argument| self.kind(argument)).collect();
                (self.call(&call.func_name, &kinds), None)
            }
            Expr::Literal(literal) => {
                let kind = match literal {
                    LiteralValue::Boolean(_) => Type::Boolean,
                    LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => Type::Number,
                    LiteralValue::Null => Type::Null,
                    LiteralValue::String(_) => Type::Text,
                    LiteralValue::Bytes(_) => Type::Any,
                };
                (kind, None)
            }
            Expr::List(list) => {
                for element in &list.elements {
                    self.kind(element);
                }
                (Type::List, None)
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.kind(&entry.key);
                        self.kind(&entry.value);
                    }
                }
                (Type::map_of(Type::Any), None)
            }
            Expr::Comprehension(each) => {
                self.kind(&each.iter_range);
                self.kind(&each.accu_init);
                let outer = self.locals.len();
                self.locals.extend([each.iter_var.clone(), each.accu_var.clone()]);
                self.locals.extend(each.iter_var2.clone());
                self.kind(&each.loop_cond);
                self.kind(&each.loop_step);
                self.kind(&each.result);
                self.locals.truncate(outer);
                (Type::Any, None)
            }
            Expr::Struct(_) | Expr::Unspecified => (Type::Any, None),
        }
    }

    fn ident(&mut self, name: &str) -> (Type, Path) {
        if self.locals.iter().any(|local| local == name) {
            return (Type::Any, None);
        }
        let path = Some(vec![name.to_owned()]);
        let Some(names) = self.names else { return (Type::Any, path) };
        match names.get(name) {
            Some(kind) => (kind.clone(), path),
            None if TYPE_NAMES.contains(&name) => (Type::Any, None),
            None => {
                let hint = did_you_mean(name, names.keys().map(String::as_str));
                self.unknown(&[name.to_owned()], hint);
                (Type::Any, None)
            }
        }
    }

    fn member(&mut self, of: &Type, path: Path, name: &str) -> (Type, Path) {
        let longer = path.clone().map(|mut path| {
            path.push(name.to_owned());
            path
        });
        match of.present() {
            Type::Any | Type::Optional(_) => (Type::Any, longer),
            Type::Map(inner) => (inner.as_ref().clone(), longer),
            Type::Record(members) => {
                if let Some(kind) = members.get(name) {
                    return (kind.clone(), longer);
                }
                let hint = did_you_mean(name, members.keys().map(String::as_str));
                self.unknown(&longer.unwrap_or_else(|| vec![name.to_owned()]), hint);
                (Type::Any, None)
            }
            Type::Named(members) => {
                if let Some((_, kind)) = members.iter().find(|(given, _)| in_expression(given) == name) {
                    return (kind.clone(), longer);
                }
                self.unknown(&longer.unwrap_or_else(|| vec![name.to_owned()]), hint(name, members));
                (Type::Any, None)
            }
            found @ (Type::Null | Type::Boolean | Type::Number | Type::Text | Type::List) => {
                let path = path.map_or_else(|| "this".to_owned(), |path| path.join("."));
                self.faults.push(Fault::NoMember { path, found: found.clone(), member: name.to_owned() });
                (Type::Any, None)
            }
        }
    }

    fn unknown(&mut self, path: &[String], hint: String) {
        let root = path.first().cloned().unwrap_or_default();
        let fault = Fault::UnknownName { root, path: path.join("."), hint };
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    fn call(&mut self, name: &str, kinds: &[Type]) -> Type {
        match (name, kinds) {
            (op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT, kinds) => {
                self.operands(name, kinds, &Type::Boolean);
                Type::Boolean
            }
            (op::EQUALS | op::NOT_EQUALS, [left, right]) => {
                if !left.meets(right) {
                    self.mismatch(name, left, right);
                }
                Type::Boolean
            }
            (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [left, right]) => {
                if !left.fits(right) {
                    self.mismatch(name, left, right);
                }
                Type::Boolean
            }
            (op::ADD, [left, right]) => {
                if !left.fits(right) {
                    self.mismatch(name, left, right);
                }
                if *left.present() == Type::Any { right.present().clone() } else { left.present().clone() }
            }
            (op::MULTIPLY | op::DIVIDE | op::MODULO | op::SUBSTRACT | op::NEGATE, kinds) => {
                self.operands(name, kinds, &Type::Number);
                if kinds.iter().all(|kind| *kind.present() == Type::Number) { Type::Number } else { Type::Any }
            }
            (op::CONDITIONAL, [condition, yes, no]) => {
                self.operands(name, std::slice::from_ref(condition), &Type::Boolean);
                if yes == no { yes.clone() } else { Type::Any }
            }
            ("size" | "double" | "int" | "uint", _) => Type::Number,
            ("string", _) => Type::Text,
            (QUOTE, kinds) => {
                for found in kinds.iter().filter(|kind| !kind.fits(&Type::Text) && !kind.fits(&Type::List)) {
                    let operation = "`quote()`".to_owned();
                    self.faults.push(Fault::Operand { operation, needed: Type::Text, found: found.clone() });
                }
                Type::Text
            }
            ("bool" | "matches" | "contains" | "startsWith" | "endsWith" | op::IN, _) => Type::Boolean,
            (name, _) => {
                // Operators and the parser's own functions have names that nobody can write.
                if name.starts_with(|c: char| c.is_ascii_alphabetic()) && !FUNCTIONS.contains(&name) {
                    let hint = if slip::WORDS.contains(&name) {
                        slip::OPERATORS.to_owned()
                    } else {
                        did_you_mean(name, FUNCTIONS)
                    };
                    self.faults.push(Fault::UnknownFunction { name: name.to_owned(), hint });
                }
                Type::Any
            }
        }
    }

    fn mismatch(&mut self, name: &str, left: &Type, right: &Type) {
        let operation = operation(name);
        self.faults.push(Fault::Mismatch { operation, left: left.clone(), right: right.clone() });
    }

    fn operands(&mut self, name: &str, kinds: &[Type], needed: &Type) {
        for found in kinds.iter().filter(|kind| !kind.fits(needed)) {
            let operation = operation(name);
            self.faults.push(Fault::Operand { operation, needed: needed.clone(), found: found.clone() });
        }
    }
}

/// What was meant, as an expression writes it, and what there is, as it was declared.
fn hint(name: &str, members: &BTreeMap<String, Type>) -> String {
    let written: Vec<String> = members.keys().map(|given| in_expression(given)).collect();
    let list = list(members.keys().map(String::as_str));
    let hyphen = if list.contains('-') { " (a hyphen is written `_` in an expression)" } else { "" };
    match nearest(name, written.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`? There is {list}{hyphen}"),
        None if members.is_empty() => "there is none".to_owned(),
        None => format!("there is {list}{hyphen}"),
    }
}

/// `_&&_` as people write it.
fn operation(name: &str) -> String {
    match name {
        op::CONDITIONAL => "the condition of `? :`".to_owned(),
        name => format!("`{}`", name.replace('_', "")),
    }
}
