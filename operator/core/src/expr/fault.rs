//! Why an expression is refused before it is evaluated.

use super::{ExprError, Type};

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Syntax(#[from] ExprError),
    /// `root` is the name that the path begins with.
    #[error("`{path}` is unknown: {hint}")]
    UnknownName { root: String, path: String, hint: String },
    /// A name with a hyphen, which was read as a minus. `written` is how an expression has to write it.
    #[error("a hyphen is written `_` in an expression: write {written}")]
    Hyphen { root: String, written: String },
    /// The same of a metric or a result.
    #[error(
        "the name of a metric or result has no hyphen, which is a minus here: report it as {written}, and write that"
    )]
    FactHyphen { written: String },
    #[error("`{path}` is {found} and has no `{member}`")]
    NoMember { path: String, found: Type, member: String },
    #[error("{operation} is between {left} and {right}: write both sides with the same type")]
    Mismatch { operation: String, left: Type, right: Type },
    #[error("{operation} needs {needed}, and this is {found}")]
    Operand { operation: String, needed: Type, found: Type },
    #[error("`{expression}` is {found}, but {needed} is needed here")]
    Result { expression: String, found: Type, needed: Type },
    /// `quote` with another number of arguments, or behind a dot.
    #[error("`quote()` takes one text, or a list of texts, in its brackets: write quote(params.name)")]
    Arguments,
    /// Text that is quoted already stands where its quotes do not hold.
    #[error("`{expression}` stands {place}: {remedy}")]
    Misplaced { expression: String, place: &'static str, remedy: &'static str },
    #[error("`{name}()` is no function: {hint}")]
    UnknownFunction { name: String, hint: String },
}
