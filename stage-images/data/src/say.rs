//! What a stage prints: its own output, which the agent copies to the pod's log. Nothing else in this program prints.

use std::error::Error;
use std::io::Write;

/// Prints one line. A reader that has gone away is no reason for a stage to fail.
pub fn line(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stdout().lock(), "{}", text.as_ref());
}

/// Prints the error and its causes as one line, so that the tail of a log shows all of it.
pub fn error(error: &dyn Error) {
    let _ = writeln!(std::io::stderr().lock(), "error: {}", one_line(error));
}

/// An error and its causes, joined by colons. Line ends become spaces.
pub fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Some libraries print their cause themselves.
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most `limit` characters of a text, with control characters made visible: for content that a message quotes.
pub fn excerpt(text: &str, limit: usize) -> String {
    let mut short: String = text.chars().take(limit).flat_map(char::escape_debug).collect();
    if text.chars().nth(limit).is_some() {
        short.push('…');
    }
    short
}

/// Names in a message: `a, b, c`, at most twenty of them.
pub fn names<S: AsRef<str>>(all: impl IntoIterator<Item = S>) -> String {
    let all: Vec<String> = all.into_iter().map(|name| excerpt(name.as_ref(), 60)).collect();
    if all.len() <= 20 { all.join(", ") } else { format!("{}, … ({} in all)", all[..20].join(", "), all.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to read\nthe file")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn an_error_and_its_cause_become_one_line() {
        let error = Outer(std::io::Error::other("disk is gone"));
        assert_eq!(one_line(&error), "failed to read the file: disk is gone");
    }

    #[test]
    fn long_content_is_cut_and_control_characters_are_visible() {
        assert_eq!(excerpt("a\tb", 10), "a\\tb");
        assert_eq!(excerpt("abcdef", 3), "abc…");
    }

    #[test]
    fn many_names_are_counted() {
        let many: Vec<String> = (0..30).map(|i| format!("c{i}")).collect();
        assert!(names(&many).ends_with("c19, … (30 in all)"));
    }
}
