//! Text with `$[[ … ]]` in it, cut into its pieces. What was rendered is never cut again.

use super::ExprError;

const OPEN: &str = "$[[";
const CLOSE: &str = "]]";

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Text(&'a str),
    /// What stands between the brackets.
    Expression(&'a str),
}

/// The text holds a template.
#[must_use]
pub fn has_template(text: &str) -> bool {
    text.contains(OPEN)
}

/// Cuts a text into its pieces.
pub fn pieces(text: &str) -> Result<Vec<Piece<'_>>, ExprError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(OPEN) {
        if start > 0 {
            pieces.push(Piece::Text(&rest[..start]));
        }
        let inside = &rest[start + OPEN.len()..];
        let end = end(inside).ok_or_else(|| {
            ExprError::syntax(&rest[start..], "`$[[` has no `]]`: write $[[ expression ]]".to_owned())
        })?;
        pieces.push(Piece::Expression(&inside[..end]));
        rest = &inside[end + CLOSE.len()..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

/// Where the first `]]` lies that neither stands in a string literal nor closes an index or list of the expression. If
/// quotes do not match there is none; then the first `]]` ends it, and the parser says what is wrong.
fn end(inside: &str) -> Option<usize> {
    balanced_end(inside).or_else(|| inside.find(CLOSE))
}

fn balanced_end(inside: &str) -> Option<usize> {
    let bytes = inside.as_bytes();
    let (mut i, mut depth) = (0, 0_usize);
    while i < bytes.len() {
        match bytes[i] {
            b'"' | b'\'' => {
                i = skip_string(bytes, i)?;
                continue;
            }
            b'[' => depth += 1,
            b']' if depth > 0 => depth -= 1,
            b']' if bytes.get(i + 1) == Some(&b']') => return Some(i),
            _ => {}
        }
        i += 1;
    }
    None
}

/// Every byte outside of string literals, and where it stands.
pub(super) fn each_byte(text: &str, mut see: impl FnMut(usize, u8)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if let Some(end) = skip_string(bytes, at) {
            at = end;
            continue;
        }
        see(at, bytes[at]);
        at += 1;
    }
}

/// The index behind the string literal that begins at `start`; nothing if none begins there, or it has no end.
fn skip_string(bytes: &[u8], start: usize) -> Option<usize> {
    let quote = *bytes.get(start).filter(|byte| matches!(byte, b'"' | b'\''))?;
    let raw = start > 0 && matches!(bytes[start - 1], b'r' | b'R');
    let triple = [quote; 3];
    let close: &[u8] = if bytes[start..].starts_with(&triple) { &triple } else { &triple[..1] };
    let mut i = start + close.len();
    while i < bytes.len() {
        if bytes[i] == b'\\' && !raw {
            i += 2;
        } else if bytes[i..].starts_with(close) {
            return Some(i + close.len());
        } else {
            i += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_its_templates() {
        let cut = pieces("a $[[ x ]] b$[[y]]").unwrap();
        assert_eq!(cut, [Piece::Text("a "), Piece::Expression(" x "), Piece::Text(" b"), Piece::Expression("y")]);
        assert_eq!(pieces("$HOME $(x) [[ y ]]").unwrap(), [Piece::Text("$HOME $(x) [[ y ]]")]);
        assert_eq!(pieces("").unwrap(), []);
    }

    #[test]
    fn brackets_of_the_expression_do_not_end_it() {
        for inside in ["a[b[0]]", "[[1], [2]]", "']]'", "\"a]]\\\"]]\"", "r'\\]]'", "'''it's ]]'''", "a[b[c['x']]]"] {
            let text = format!("<$[[{inside}]]>");
            assert_eq!(pieces(&text).unwrap()[1], Piece::Expression(inside), "{text}");
        }
    }

    #[test]
    fn a_template_without_its_end_is_refused() {
        assert!(pieces("a $[[ x ]").unwrap_err().to_string().contains("has no `]]`"));
    }
}
