//! Expressions: CEL, and text with `$[[ CEL ]]` in it.

mod error;
mod evaluate;
mod scope;

pub use error::ExprError;
pub use evaluate::{eval_bool, render, render_value};
pub use scope::Scope;
