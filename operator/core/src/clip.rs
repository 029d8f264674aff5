//! Text that fits where it is written.

/// The text in at most `limit` bytes, and so in at most that many characters. What is too long loses its middle: it begins with
/// what went wrong, and ends with what a program said last.
#[must_use]
pub fn clip(text: &str, limit: usize) -> String {
    const GAP: char = '…';
    let text = text.trim();
    if text.len() <= limit {
        return text.to_owned();
    }
    // Two thirds for the beginning, which says what it is about.
    let end = limit / 3;
    let begin = limit.saturating_sub(end + GAP.len_utf8());
    let (head, tail) = (text.floor_char_boundary(begin), text.ceil_char_boundary(text.len() - end));
    format!("{}{GAP}{}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end_between_characters() {
        assert_eq!(clip(" short\n", 1024), "short");
        assert_eq!(clip(&"ü".repeat(512), 1024), "ü".repeat(512));
        for limit in [1024, 1500] {
            for middle in ["x", "ü", "😀"] {
                let text = format!("the beginning{}the end", middle.repeat(5000));
                let clipped = clip(&text, limit);
                assert!(clipped.starts_with("the beginning") && clipped.ends_with("the end"), "{clipped}");
                assert!(clipped.len() <= limit && clipped.len() > limit - 8, "{}", clipped.len());
            }
        }
    }
}
