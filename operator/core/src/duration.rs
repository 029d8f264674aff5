//! Durations as people write them: `90s`, `1h30m`, `7d`.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

/// Reads a duration. `None` if it is not one; the schema's pattern keeps such text out of objects.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let milliseconds = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        rest = &rest[letters..];
        total = total.checked_add(Duration::from_millis(number.checked_mul(milliseconds)?))?;
    }
    Some(total)
}

/// Time from `start` to `now`; zero if a clock was set back.
#[must_use]
pub fn since(start: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(start).try_into().unwrap_or(Duration::ZERO)
}

/// Writes a duration in whole seconds, as `1h2m3s`.
#[must_use]
pub fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (h, m, s) {
        (0, 0, s) => format!("{s}s"),
        (0, m, 0) => format!("{m}m"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, 0, 0) => format!("{h}h"),
        (h, m, 0) => format!("{h}h{m}m"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_written() {
        for (text, milliseconds) in [("90s", 90_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("250ms", 250)] {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "s", "5x", "1.5h", "-3s", "99999999999999999999s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn whole_seconds_are_written_back_in_their_largest_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m"), (3661, "1h1m1s"), (7200, "2h")] {
            assert_eq!(format(Duration::from_secs(seconds)), text);
        }
    }
}
