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

/// As much of an expression as a message shows.
const SHOWN: usize = 120;

impl ExprError {
    pub(super) fn syntax(expression: &str, message: impl Into<String>) -> Self {
        Self::Syntax { expression: shown(expression), message: message.into() }
    }

    pub(super) fn evaluation(expression: &str, message: impl Into<String>) -> Self {
        Self::Evaluation { expression: shown(expression), message: message.into() }
    }
}

/// An expression, cut to what a message shows.
pub(super) fn shown(expression: &str) -> String {
    let expression = expression.trim();
    if expression.chars().count() <= SHOWN {
        return expression.to_owned();
    }
    expression.chars().take(SHOWN).chain(['…']).collect()
}
