//! The types that are known before an expression is evaluated.

use std::collections::BTreeMap;
use std::fmt;

use crate::api::ParamType;

/// Names that an expression may begin with, and their types.
pub type Names = BTreeMap<String, Type>;

/// What is known of a value. Where nothing is, anything goes: evaluation has the last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Any,
    Null,
    Boolean,
    Number,
    Text,
    List,
    /// Members of any name, all of one type.
    Map(Box<Type>),
    /// Exactly these members.
    Record(BTreeMap<String, Type>),
    /// Exactly these members, by the names that people gave them: an expression writes `_` for a hyphen.
    Named(BTreeMap<String, Type>),
    /// The type, or null.
    Optional(Box<Type>),
}

impl Type {
    /// Any name, and each a value of this type.
    #[must_use]
    pub fn map_of(inner: Self) -> Self {
        Self::Map(Box::new(inner))
    }

    /// This type, or null.
    #[must_use]
    pub fn or_null(self) -> Self {
        Self::Optional(Box::new(self))
    }

    /// The type behind an optional one.
    #[must_use]
    pub fn present(&self) -> &Self {
        match self {
            Self::Optional(inner) => inner.present(),
            other => other,
        }
    }

    /// A value of this type may stand where one of that type is needed.
    #[must_use]
    pub fn fits(&self, needed: &Self) -> bool {
        match (self.present(), needed.present()) {
            (Self::Any, _) | (_, Self::Any) => true,
            (a, b) if a.has_members() && b.has_members() => true,
            (Self::Null, _) => matches!(needed, Self::Optional(_) | Self::Null),
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }

    fn has_members(&self) -> bool {
        matches!(self, Self::Map(_) | Self::Record(_) | Self::Named(_))
    }

    /// Two values of these types may be compared by `==`.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        *self == Self::Null || *other == Self::Null || self.fits(other)
    }
}

/// A name as an expression writes it.
#[must_use]
pub fn in_expression(name: &str) -> String {
    name.replace('-', "_")
}

impl From<ParamType> for Type {
    fn from(kind: ParamType) -> Self {
        match kind {
            ParamType::String => Self::Text,
            ParamType::Number | ParamType::Integer => Self::Number,
            ParamType::Boolean => Self::Boolean,
            ParamType::Array => Self::List,
            ParamType::Object => Self::map_of(Self::Any),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.present() {
            Self::Any | Self::Optional(_) => "anything",
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::Text => "text",
            Self::List => "a list",
            Self::Map(_) | Self::Record(_) | Self::Named(_) => "an object",
        })
    }
}
