//! CSV text into records, as RFC 4180 has them. It is our own because a file with a quote left open must be refused with
//! its line: the parsers at hand read on to the end of the file, into memory, and give one record.

use super::text::{TextError, Utf8Reader};

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(
        "line {line}: the quote that opens here is never closed; close it, or set csv.quote to a character that the file does not use"
    )]
    OpenQuote { line: u64 },
    #[error("line {line}: text after a closing quote, near '{near}'; a quote inside a quoted field is written twice")]
    AfterQuote { line: u64, near: String },
    #[error("line {line}: a record of more than {} MiB; is a quote left open?", RECORD_LIMIT >> 20)]
    TooLong { line: u64 },
}

/// One record may have this many bytes. It bounds what a wrong quote can cost.
const RECORD_LIMIT: usize = 16 << 20;

/// The fields of one record, one after another.
#[derive(Debug, Default)]
pub struct Record {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// The line where the record begins, from 1.
    pub line: u64,
}

impl Record {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The field at an index. The reader gives only UTF-8 and splits only at ASCII characters.
    pub fn field(&self, index: usize) -> &str {
        let from = if index == 0 { 0 } else { self.ends[index - 1] };
        std::str::from_utf8(&self.bytes[from..self.ends[index]]).unwrap_or_default()
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|index| self.field(index))
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first character of a field.
    Start,
    Plain,
    Quoted,
    /// After a quote inside a quoted field: its end, or the first half of a doubled one.
    Quote,
}

/// Reads records one by one.
pub struct Records {
    input: Utf8Reader,
    delimiter: u8,
    quote: u8,
    chunk: Vec<u8>,
    at: usize,
    line: u64,
}

impl Records {
    pub fn new(input: Utf8Reader, delimiter: u8, quote: u8) -> Self {
        Self { input, delimiter, quote, chunk: Vec::new(), at: 0, line: 1 }
    }

    /// Reads the next record; false at the end. Empty lines are no records.
    pub fn read(&mut self, record: &mut Record) -> Result<bool, RecordError> {
        record.clear();
        record.line = self.line;
        let mut state = State::Start;
        let mut quote_line = self.line;
        loop {
            if self.at == self.chunk.len() {
                self.chunk.clear();
                self.chunk.extend_from_slice(self.input.next()?);
                self.at = 0;
                if self.chunk.is_empty() {
                    return match state {
                        State::Quoted => Err(RecordError::OpenQuote { line: quote_line }),
                        State::Start if record.ends.is_empty() => Ok(false),
                        _ => {
                            end_field(record);
                            Ok(true)
                        }
                    };
                }
            }
            let byte = self.chunk[self.at];
            self.at += 1;
            match state {
                State::Quoted => {
                    if byte == self.quote {
                        state = State::Quote;
                    } else {
                        self.line += u64::from(byte == b'\n');
                        self.at -= 1;
                        self.at += self.copy_until(record, |byte, quote, _| byte == quote || byte == b'\n');
                        if byte == b'\n' {
                            record.bytes.push(b'\n');
                            self.at += 1;
                        }
                    }
                    if record.bytes.len() > RECORD_LIMIT {
                        return Err(RecordError::TooLong { line: quote_line });
                    }
                }
                _ if byte == self.delimiter => {
                    end_field(record);
                    state = State::Start;
                }
                _ if byte == b'\n' => {
                    self.line += 1;
                    // The carriage return of `\r\n` was taken for text.
                    if state != State::Quote && record.bytes.last() == Some(&b'\r') && state == State::Plain {
                        record.bytes.pop();
                        if record.ends.is_empty() && record.bytes.is_empty() {
                            state = State::Start;
                        }
                    }
                    if state == State::Start && record.ends.is_empty() {
                        record.line = self.line;
                        continue;
                    }
                    end_field(record);
                    return Ok(true);
                }
                State::Start if byte == self.quote => {
                    state = State::Quoted;
                    quote_line = self.line;
                }
                State::Quote if byte == self.quote => {
                    record.bytes.push(byte);
                    state = State::Quoted;
                }
                State::Quote if byte == b'\r' => {}
                State::Quote => {
                    let rest = &self.chunk[self.at - 1..self.chunk.len().min(self.at + 20)];
                    let near = crate::say::excerpt(&String::from_utf8_lossy(rest), 20);
                    return Err(RecordError::AfterQuote { line: self.line, near });
                }
                State::Start | State::Plain => {
                    state = State::Plain;
                    self.at -= 1;
                    self.at += self.copy_until(record, |byte, _, delimiter| byte == delimiter || byte == b'\n');
                    if record.bytes.len() > RECORD_LIMIT {
                        return Err(RecordError::TooLong { line: record.line });
                    }
                }
            }
        }
    }

    /// Copies bytes up to the first that `stop` names, or to the chunk's end. How many it copied.
    fn copy_until(&self, record: &mut Record, stop: impl Fn(u8, u8, u8) -> bool) -> usize {
        let rest = &self.chunk[self.at..];
        let count = rest.iter().position(|byte| stop(*byte, self.quote, self.delimiter)).unwrap_or(rest.len());
        record.bytes.extend_from_slice(&rest[..count]);
        count
    }
}

fn end_field(record: &mut Record) {
    record.ends.push(record.bytes.len());
}

#[cfg(test)]
mod tests {
    use super::super::params::Encoding;
    use super::*;

    fn read(text: &str) -> Result<Vec<(u64, Vec<String>)>, String> {
        let input = Utf8Reader::new(Box::new(std::io::Cursor::new(text.to_owned())), Encoding::Utf8);
        let mut records = Records::new(input, b',', b'"');
        let (mut record, mut all) = (Record::default(), Vec::new());
        while records.read(&mut record).map_err(|error| error.to_string())? {
            all.push((record.line, record.iter().map(ToOwned::to_owned).collect()));
        }
        Ok(all)
    }

    fn fields(line: u64, fields: &[&str]) -> (u64, Vec<String>) {
        (line, fields.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn fields_are_split_and_both_line_ends_are_line_ends() {
        let expected = vec![fields(1, &["a", "b"]), fields(2, &["1", ""]), fields(3, &["", ""])];
        assert_eq!(read("a,b\n1,\n,\n").unwrap(), expected);
        assert_eq!(read("a,b\r\n1,\r\n,\r\n").unwrap(), expected);
        assert_eq!(read("a,b\n1,\n,").unwrap(), expected);
    }

    #[test]
    fn quoted_fields_hold_delimiters_quotes_and_line_ends() {
        assert_eq!(
            read("\"a,b\",\"say \"\"hi\"\"\"\r\n\"x\ny\",\"\"\nz,1\n").unwrap(),
            vec![fields(1, &["a,b", "say \"hi\""]), fields(2, &["x\ny", ""]), fields(4, &["z", "1"])]
        );
    }

    #[test]
    fn empty_lines_are_skipped_and_counted() {
        assert_eq!(read("\na\n\r\n\nb\n").unwrap(), vec![fields(2, &["a"]), fields(5, &["b"])]);
    }

    #[test]
    fn a_quote_that_is_never_closed_names_its_line() {
        assert!(read("a,b\n1,\"x\n2,y\n3,z\n").unwrap_err().starts_with("line 2: the quote that opens here"));
    }

    #[test]
    fn text_after_a_closing_quote_names_its_line() {
        let message = read("a\n\"5\" pipe\"\n").unwrap_err();
        assert!(message.starts_with("line 2: text after a closing quote, near ' pipe"), "{message}");
    }

    #[test]
    fn a_quote_inside_a_plain_field_is_text() {
        assert_eq!(read("5\" pipe,1\n").unwrap(), vec![fields(1, &["5\" pipe", "1"])]);
    }

    #[test]
    fn what_the_csv_crate_reads_is_read_alike() {
        let text = "h1,h2,h3\n\"q,1\",plain,\"multi\nline\"\n,,\nlast,\"\"\"\",x";
        let mut other = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        let expected: Vec<Vec<String>> =
            other.records().map(|record| record.unwrap().iter().map(ToOwned::to_owned).collect()).collect();
        let ours: Vec<Vec<String>> = read(text).unwrap().into_iter().map(|(_, fields)| fields).collect();
        assert_eq!(ours, expected);
    }

    #[test]
    fn a_record_without_an_end_is_refused_before_it_fills_memory() {
        let text = format!("a\n\"{}", "x".repeat(RECORD_LIMIT + 10));
        assert!(read(&text).unwrap_err().starts_with("line 2: a record of more than 16 MiB"));
    }
}
