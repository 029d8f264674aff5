//! Text into lines, of bounded length.

use super::text::{TextError, Utf8Reader};

#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error(transparent)]
    Text(#[from] TextError),
    #[error("line {line} has more than {} MiB", LINE_LIMIT >> 20)]
    TooLong { line: u64 },
}

const LINE_LIMIT: usize = 16 << 20;

/// Reads lines one by one and counts them from 1.
pub struct Lines {
    input: Utf8Reader,
    chunk: Vec<u8>,
    at: usize,
    line: u64,
}

impl Lines {
    pub fn new(input: Utf8Reader) -> Self {
        Self { input, chunk: Vec::new(), at: 0, line: 0 }
    }

    /// Reads the next line that is not blank into `text`, without its end. Its number; none at the end.
    pub fn next(&mut self, text: &mut Vec<u8>) -> Result<Option<u64>, LineError> {
        text.clear();
        loop {
            let rest = &self.chunk[self.at..];
            let end = rest.iter().position(|byte| *byte == b'\n');
            text.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
            if text.len() > LINE_LIMIT {
                return Err(LineError::TooLong { line: self.line + 1 });
            }
            if let Some(end) = end {
                self.at += end + 1;
                self.line += 1;
                if !text.trim_ascii().is_empty() {
                    return Ok(Some(self.line));
                }
                text.clear();
                continue;
            }
            self.chunk.clear();
            self.chunk.extend_from_slice(self.input.next()?);
            self.at = 0;
            if self.chunk.is_empty() {
                self.line += 1;
                return Ok((!text.trim_ascii().is_empty()).then_some(self.line));
            }
        }
    }
}
