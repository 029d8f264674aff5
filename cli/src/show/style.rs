//! The few colours: what is well, what waits, what is wrong, what is beside the point.

use anstyle::{AnsiColor, Style};

pub const PLAIN: Style = Style::new();
pub const GOOD: Style = AnsiColor::Green.on_default();
pub const BAD: Style = AnsiColor::Red.on_default();
pub const WAITS: Style = AnsiColor::Yellow.on_default();
pub const MOVES: Style = AnsiColor::Cyan.on_default();
pub const DIM: Style = Style::new().dimmed();
pub const STRONG: Style = Style::new().bold();

/// The text in a colour.
pub fn paint(text: &str, style: Style) -> String {
    if text.is_empty() { String::new() } else { format!("{style}{text}{style:#}") }
}

/// The text as a pipe gets it.
#[cfg(test)]
pub fn stripped(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}
