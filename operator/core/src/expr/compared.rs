//! The texts that an expression compares a name with: a text that the name never has is a slip that nothing else would show.

use std::collections::BTreeSet;

use cel::IdedExpr;
use cel::common::ast::{Expr, LiteralValue, operators as op};

use super::{ExprError, parse};

/// The texts in `name == 'text'`, `name != 'text'` and `name in ['text', …]`, wherever they stand outside of macros. The name may be one with
/// members, as `run.status` is.
pub fn compared(expression: &str, name: &str) -> Result<BTreeSet<String>, ExprError> {
    let tree = parse::parse(expression)?;
    let mut found = BTreeSet::new();
    walk(&tree, name, &mut found);
    Ok(found)
}

fn walk(node: &IdedExpr, name: &str, found: &mut BTreeSet<String>) {
    match &node.expr {
        Expr::Call(call) => {
            let named = |node: &IdedExpr| dotted(node).is_some_and(|node| node == name);
            match (call.func_name.as_str(), call.args.as_slice()) {
                (op::EQUALS | op::NOT_EQUALS, [left, right]) if named(left) || named(right) => {
                    found.extend([left, right].into_iter().filter_map(text));
                }
                (op::IN, [left, right]) if named(left) => {
                    if let Expr::List(list) = &right.expr {
                        found.extend(list.elements.iter().filter_map(text));
                    }
                }
                _ => {}
            }
            call.target.iter().map(AsRef::as_ref).chain(&call.args).for_each(|part| walk(part, name, found));
        }
        Expr::List(list) => list.elements.iter().for_each(|element| walk(element, name, found)),
        Expr::Select(select) => walk(&select.operand, name, found),
        Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Struct(_)
        | Expr::Unspecified => {}
    }
}

fn dotted(node: &IdedExpr) -> Option<String> {
    match &node.expr {
        Expr::Ident(ident) => Some(ident.clone()),
        Expr::Select(select) if !select.test => Some(format!("{}.{}", dotted(&select.operand)?, select.field)),
        _ => None,
    }
}

fn text(node: &IdedExpr) -> Option<String> {
    match &node.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_that_a_name_is_compared_with_are_found() {
        let found = |expression: &str| compared(expression, "reason").unwrap().into_iter().collect::<Vec<_>>();
        assert_eq!(found("reason == 'OOM' || exitCode > 2.0 && !('Error' != reason)"), ["Error", "OOM"]);
        assert_eq!(found("attempt < 3 ? reason in ['A', 'B'] : other == 'C'"), ["A", "B"]);
        assert!(found("reason.startsWith('OOM') || other == 'x' || a.reason == 'y'").is_empty());
        let of = |name: &str| compared("stages.a.status != 'X' || run.status == 'Y'", name).unwrap();
        assert_eq!(of("stages.a.status"), ["X".to_owned()].into());
        assert_eq!((of("run.status"), of("status")), (["Y".to_owned()].into(), BTreeSet::new()));
    }
}
