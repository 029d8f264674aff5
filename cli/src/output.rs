//! Standard output and standard error. Colours are taken out where there is no terminal, and where NO_COLOR is set.

use std::io::Write;

use clap::ValueEnum;

use crate::error::Error;

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
}

/// Writes a text as it is.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes a line.
pub fn line(text: &str) -> Result<(), Error> {
    print(&format!("{text}\n"))
}

/// Writes a value as JSON, for programs.
pub fn json(value: &impl serde::Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(std::io::Error::from)?;
    line(&text)
}

/// Writes a line to standard error. Where that is closed nobody can be told.
pub fn warn(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}
