//! The last lines that a command printed, in bounded memory.

/// The report's tail is at most this many bytes of text.
pub const LIMIT: usize = 1024;

/// Keeps the last bytes of a stream.
#[derive(Debug, Default)]
pub struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    pub fn push(&mut self, chunk: &[u8]) {
        let kept = &chunk[chunk.len().saturating_sub(LIMIT)..];
        let too_many = (self.bytes.len() + kept.len()).saturating_sub(LIMIT).min(self.bytes.len());
        self.cut |= too_many > 0 || kept.len() < chunk.len();
        self.bytes.drain(..too_many);
        self.bytes.extend_from_slice(kept);
    }

    /// As text of at most [`LIMIT`] bytes: whole lines where there is more than one, what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        let mut cut = self.cut;
        if text.len() > LIMIT {
            text = text.split_off(text.ceil_char_boundary(text.len() - LIMIT));
            cut = true;
        }
        let body = text.trim_end_matches('\n');
        match body.find('\n') {
            Some(first_line_end) if cut => body[first_line_end + 1..].to_owned(),
            _ => body.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_output_is_kept_whole() {
        let mut tail = Tail::default();
        tail.push(b"one\n");
        tail.push(b"two\n");
        assert_eq!(tail.text(), "one\ntwo");
    }

    #[test]
    fn of_long_output_the_last_whole_lines_are_kept() {
        let mut tail = Tail::default();
        for line in 0..1000 {
            tail.push(format!("line {line}\n").as_bytes());
        }
        let text = tail.text();
        assert!(text.len() <= LIMIT && text.len() > LIMIT - 20, "{}", text.len());
        assert!(text.starts_with("line ") && text.ends_with("line 999"), "{text}");
    }

    #[test]
    fn bytes_that_are_no_text_stay_within_the_limit() {
        let mut tail = Tail::default();
        tail.push(&[0xff; 5000]);
        assert!(tail.text().len() <= LIMIT && !tail.text().is_empty());
    }
}
