//! Values as text: which texts are booleans, numbers, dates, timestamps, and what they mean.

use std::fmt::Write;

use jiff::civil;

/// Bytes that are no text: `\x` and hex digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("\\x");
    for byte in bytes {
        // A text takes whatever is written.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

pub fn boolean(value: &str) -> Option<bool> {
    match value {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

pub fn integer(value: &str) -> Option<i64> {
    value.parse().ok()
}

/// A decimal number. The words that a double can also have (`inf`, `nan`) are no numbers in a table.
pub fn number(value: &str) -> Option<f64> {
    let decimal = value.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E'));
    if decimal { value.parse().ok().filter(|number: &f64| number.is_finite()) } else { None }
}

/// `2026-11-21`, as days since 1970.
pub fn date(value: &str) -> Option<i32> {
    let bytes = value.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let day: civil::Date = value.parse().ok()?;
    let epoch = civil::date(1970, 1, 1);
    day.since((jiff::Unit::Day, epoch)).ok().map(|span| span.get_days())
}

/// `2026-11-21T12:00:00Z` and its kin, as microseconds since 1970. Without an offset it is UTC.
pub fn timestamp(value: &str) -> Option<i64> {
    let bytes = value.as_bytes();
    if bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    if let Ok(instant) = value.parse::<jiff::Timestamp>() {
        return Some(instant.as_microsecond());
    }
    let local: civil::DateTime = value.parse().ok()?;
    local.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_their_hex_digits() {
        assert_eq!(hex(&[0, 255, 16]), "\\x00ff10");
        assert_eq!(hex(&[]), "\\x");
    }

    #[test]
    fn times_are_counted_from_1970_in_utc() {
        assert_eq!(date("1970-01-02"), Some(1));
        assert_eq!(date("1969-12-31"), Some(-1));
        assert_eq!(timestamp("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(timestamp("1970-01-01 00:00:01.5"), Some(1_500_000));
    }

    #[test]
    fn dates_that_are_not_in_the_calendar_are_none() {
        assert_eq!((date("2026-02-30"), date("2026-2-3"), timestamp("2026-02-30T00:00:00Z")), (None, None, None));
    }

    #[test]
    fn the_words_of_a_double_are_no_numbers() {
        assert_eq!((number("inf"), number("nan"), number("1e999"), number("")), (None, None, None, None));
        assert_eq!(number("-1.5e3"), Some(-1500.0));
    }
}
