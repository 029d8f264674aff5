//! Bytes of a text file as UTF-8, chunk by chunk: the byte order mark goes, Latin-1 is translated, and what is no text is
//! refused with the line and the byte where it is.

use std::io::Read;

use super::params::Encoding;

#[derive(Debug, thiserror::Error)]
pub enum TextError {
    #[error("failed to read")]
    Read(#[source] std::io::Error),
    #[error(
        "line {line}: byte {offset} (0x{byte:02X}) is not UTF-8; if the file is Latin-1 (ISO 8859-1) set csv.encoding: latin1, else convert it to UTF-8"
    )]
    NotUtf8 { line: u64, offset: u64, byte: u8 },
    #[error(
        "it is UTF-16 (it begins with a UTF-16 byte order mark); convert it to UTF-8, as with `iconv -f UTF-16 -t UTF-8`"
    )]
    Utf16,
    #[error("line {line}: byte {offset} is NUL: this is no text file; set format if it is another format")]
    Nul { line: u64, offset: u64 },
}

const CHUNK: usize = 1 << 16;

/// Reads chunks of whole characters.
pub struct Utf8Reader {
    input: Box<dyn Read + Send>,
    encoding: Encoding,
    raw: Vec<u8>,
    /// Bytes of `raw` that hold the beginning of a character whose end is not read yet.
    carried: usize,
    chunk: Vec<u8>,
    /// Bytes of the file before this chunk, and line ends in them.
    offset: u64,
    lines: u64,
}

impl Utf8Reader {
    pub fn new(input: Box<dyn Read + Send>, encoding: Encoding) -> Self {
        Self { input, encoding, raw: vec![0; CHUNK], carried: 0, chunk: Vec::with_capacity(CHUNK), offset: 0, lines: 0 }
    }

    /// The next chunk; an empty one at the end.
    pub fn next(&mut self) -> Result<&[u8], TextError> {
        self.chunk.clear();
        loop {
            let first = self.offset == 0 && self.carried == 0;
            let mut filled = self.carried;
            // At the beginning enough for a byte order mark, however small the reads are.
            loop {
                let read = self.input.read(&mut self.raw[filled..]).map_err(TextError::Read)?;
                filled += read;
                if read == 0 || !first || filled >= 4 {
                    break;
                }
            }
            let ended = filled == self.carried;
            let mut from = 0;
            if first {
                if matches!(self.raw.get(..2), Some([0xFF, 0xFE] | [0xFE, 0xFF])) && filled >= 2 {
                    return Err(TextError::Utf16);
                }
                if filled >= 3 && self.raw[..3] == [0xEF, 0xBB, 0xBF] {
                    from = 3;
                }
            }
            let whole = self.accept(from, filled, ended)?;
            self.raw.copy_within(whole..filled, 0);
            self.carried = filled - whole;
            self.offset += whole as u64;
            if ended || !self.chunk.is_empty() {
                self.lines += occurrences(b'\n', &self.chunk);
                return Ok(&self.chunk);
            }
        }
    }

    /// Appends `raw[from..to]` to the chunk. How many bytes of `raw` are done with.
    fn accept(&mut self, from: usize, to: usize, ended: bool) -> Result<usize, TextError> {
        let bytes = &self.raw[from..to];
        if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
            return Err(TextError::Nul { line: self.line_at(from, at), offset: self.offset + (from + at) as u64 });
        }
        match self.encoding {
            Encoding::Latin1 => {
                for byte in bytes {
                    let mut utf8 = [0; 2];
                    self.chunk.extend_from_slice(char::from(*byte).encode_utf8(&mut utf8).as_bytes());
                }
                Ok(to)
            }
            Encoding::Utf8 => match std::str::from_utf8(bytes) {
                Ok(text) => {
                    self.chunk.extend_from_slice(text.as_bytes());
                    Ok(to)
                }
                Err(error) if error.error_len().is_none() && !ended => {
                    self.chunk.extend_from_slice(&bytes[..error.valid_up_to()]);
                    Ok(from + error.valid_up_to())
                }
                Err(error) => {
                    let at = error.valid_up_to();
                    Err(TextError::NotUtf8 {
                        line: self.line_at(from, at),
                        offset: self.offset + (from + at) as u64,
                        byte: bytes[at],
                    })
                }
            },
        }
    }

    fn line_at(&self, from: usize, at: usize) -> u64 {
        self.lines + occurrences(b'\n', &self.raw[from..from + at]) + 1
    }
}

#[allow(clippy::naive_bytecount, reason = "the compiler vectorises it")]
fn occurrences(needle: u8, bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == needle).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time, as a network does.
    struct Slow(Vec<u8>, usize);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    fn read(bytes: &[u8], step: usize, encoding: Encoding) -> Result<String, TextError> {
        let mut reader = Utf8Reader::new(Box::new(Slow(bytes.to_vec(), step)), encoding);
        let mut all = Vec::new();
        loop {
            let chunk = reader.next()?;
            if chunk.is_empty() {
                return Ok(String::from_utf8(all).unwrap());
            }
            all.extend_from_slice(chunk);
        }
    }

    #[test]
    fn characters_that_lie_across_chunks_stay_whole() {
        let text = "a€ü𝄞z\n".repeat(5);
        for step in 1..7 {
            assert_eq!(read(text.as_bytes(), step, Encoding::Utf8).unwrap(), text);
        }
    }

    #[test]
    fn a_byte_order_mark_is_dropped() {
        for step in 1..5 {
            assert_eq!(read(b"\xEF\xBB\xBFname", step, Encoding::Utf8).unwrap(), "name");
        }
    }

    #[test]
    fn latin1_is_translated() {
        assert_eq!(read(b"Gr\xFC\xDFe", 2, Encoding::Latin1).unwrap(), "Grüße");
    }

    #[test]
    fn a_wrong_encoding_names_line_and_byte() {
        for step in [1, 3, 100] {
            let message = read(b"name\nanna\nJos\xE9,1\n", step, Encoding::Utf8).unwrap_err().to_string();
            assert!(message.starts_with("line 3: byte 13 (0xE9) is not UTF-8"), "{message}");
        }
    }

    #[test]
    fn a_character_that_the_file_end_cuts_is_no_utf8() {
        assert!(matches!(read(b"ab\xE2\x82", 100, Encoding::Utf8), Err(TextError::NotUtf8 { line: 1, offset: 2, .. })));
    }

    #[test]
    fn utf16_and_binary_files_are_told_apart_from_text() {
        assert!(matches!(read(b"\xFF\xFEa\0", 4, Encoding::Utf8), Err(TextError::Utf16)));
        assert!(matches!(read(b"a\nb\0", 4, Encoding::Utf8), Err(TextError::Nul { line: 2, offset: 3 })));
    }
}
