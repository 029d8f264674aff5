//! The text form of PostgreSQL's COPY: a line a row, tabs between fields, `\N` for no value, and escapes.

/// Cuts what comes into rows. A row may come in several pieces, and a piece may have several rows.
#[derive(Debug, Default)]
pub struct Copied {
    rest: Vec<u8>,
}

impl Copied {
    /// Adds what came; each row that is whole now is given to `row`.
    pub fn take<E>(&mut self, bytes: &[u8], mut row: impl FnMut(&[Option<String>]) -> Result<(), E>) -> Result<(), E> {
        self.rest.extend_from_slice(bytes);
        let mut from = 0;
        // A line end in a value is escaped.
        while let Some(length) = self.rest[from..].iter().position(|byte| *byte == b'\n') {
            row(&fields(&self.rest[from..from + length]))?;
            from += length + 1;
        }
        self.rest.drain(..from);
        Ok(())
    }
}

fn fields(line: &[u8]) -> Vec<Option<String>> {
    line.split(|byte| *byte == b'\t').map(field).collect()
}

fn field(bytes: &[u8]) -> Option<String> {
    if bytes == br"\N" {
        return None;
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut bytes = bytes.iter().copied();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 11,
                Some(other) => other,
                None => b'\\',
            },
            other => other,
        });
    }
    // The session's encoding is UTF-8.
    Some(String::from_utf8(plain).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_same_however_they_are_cut() {
        let text = b"1\ta\\tb\\\\N\\n\t\\N\n2\t\t\xc3\xa4\n";
        let expected = [
            vec![Some("1".to_owned()), Some("a\tb\\N\n".to_owned()), None],
            vec![Some("2".to_owned()), Some(String::new()), Some("ä".to_owned())],
        ];
        for size in 1..text.len() {
            let (mut copied, mut rows) = (Copied::default(), Vec::new());
            for piece in text.chunks(size) {
                copied
                    .take(piece, |row| {
                        rows.push(row.to_vec());
                        Ok::<(), ()>(())
                    })
                    .unwrap();
            }
            assert_eq!(rows, expected, "{size}");
        }
    }
}
