//! Operators of other languages, which CEL's parser only calls unexpected.

use super::template::each_byte;

/// Operators in words.
pub const WORDS: [&str; 6] = ["and", "or", "not", "AND", "OR", "NOT"];
/// What to write instead.
pub const OPERATORS: &str = "CEL writes &&, ||, ! and ==";

/// What to write instead, if an expression that cannot be parsed has such an operator.
pub fn found(expression: &str) -> Option<String> {
    let mut first = None;
    each_byte(expression, |at, _| first = first.or_else(|| slip(expression.as_bytes(), at)));
    first.map(|slip| format!("`{slip}` is no operator: {OPERATORS}"))
}

fn slip(bytes: &[u8], at: usize) -> Option<&'static str> {
    let before = at.checked_sub(1).map(|before| bytes[before]);
    let behind = |length: usize| bytes.get(at + length).copied();
    let in_name =
        |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.');
    if bytes[at] == b'=' {
        let single = !matches!(before, Some(b'=' | b'!' | b'<' | b'>')) && behind(1) != Some(b'=');
        return single.then_some("=");
    }
    WORDS
        .into_iter()
        .find(|word| bytes[at..].starts_with(word.as_bytes()) && !in_name(before) && !in_name(behind(word.len())))
}
