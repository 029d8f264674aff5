//! `quote(text)`: text as one word of a POSIX shell; `quote(list)`: each text of a list as a word.

use std::sync::Arc;

use cel::{ExecutionError, Value};

use super::bounds::MAX_RENDERED;

/// The name in expressions.
pub const QUOTE: &str = "quote";

/// Each text in single quotes, each single quote in it written `'\''`: nothing of it has a meaning for the shell. Between the
/// words of a list stands a space.
// The interpreter hands arguments over by value, and takes its own error.
#[allow(clippy::needless_pass_by_value, clippy::result_large_err)]
pub fn quote(value: Value) -> Result<Arc<String>, ExecutionError> {
    let mut words = String::new();
    match &value {
        Value::String(text) => word(text, &mut words)?,
        Value::List(items) => {
            for item in items.iter() {
                let Value::String(text) = item else {
                    let message = "the list holds something that is no text: write string(x) for each";
                    return Err(ExecutionError::function_error(QUOTE, message));
                };
                if !words.is_empty() {
                    words.push(' ');
                }
                word(text, &mut words)?;
            }
        }
        _ => return Err(ExecutionError::function_error(QUOTE, "this is neither text nor a list of texts")),
    }
    Ok(Arc::new(words))
}

#[allow(clippy::result_large_err)]
fn word(text: &str, words: &mut String) -> Result<(), ExecutionError> {
    if text.contains('\0') {
        return Err(ExecutionError::function_error(QUOTE, "the text has a NUL byte, which no shell can hold"));
    }
    words.push('\'');
    words.push_str(&text.replace('\'', r"'\''"));
    words.push('\'');
    if words.len() > MAX_RENDERED {
        let message = format!("the quoted text would be longer than {MAX_RENDERED} bytes: hand it over as a file");
        return Err(ExecutionError::function_error(QUOTE, message));
    }
    Ok(())
}
