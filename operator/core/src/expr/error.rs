//! Why an expression has no value.

/// An expression that cannot be parsed or evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExprError {
    /// The text is no CEL, or a `$[[` has no `]]`.
    #[error("`{expression}` cannot be parsed: {message}")]
    Syntax { expression: String, message: String },
    /// It has no value: an unknown name, a wrong type, a division by zero.
    #[error("`{expression}` has no value: {message}")]
    Evaluation { expression: String, message: String },
    /// It has a value of another type than is needed here.
    #[error("`{expression}` is {found}, but {expected} is needed here")]
    Type { expression: String, found: String, expected: &'static str },
}
