//! `quote(text)`: text as one word of a POSIX shell.

use std::sync::Arc;

use cel::ExecutionError;

use super::bounds::MAX_RENDERED;

/// The name in expressions.
pub const QUOTE: &str = "quote";

/// The text in single quotes, each single quote in it written `'\''`: nothing of it has a meaning for the shell.
// The interpreter hands arguments over by value, and takes its own error.
#[allow(clippy::needless_pass_by_value, clippy::result_large_err)]
pub fn quote(text: Arc<String>) -> Result<Arc<String>, ExecutionError> {
    if text.contains('\0') {
        return Err(ExecutionError::function_error(QUOTE, "the text has a NUL byte, which no shell can hold"));
    }
    let quoted = format!("'{}'", text.replace('\'', r"'\''"));
    // Each quoting of what is quoted triples the quotes.
    if quoted.len() > MAX_RENDERED {
        let message = format!("the quoted text would be longer than {MAX_RENDERED} bytes: hand it over as a file");
        return Err(ExecutionError::function_error(QUOTE, message));
    }
    Ok(Arc::new(quoted))
}
