//! Until when something is waited for, and how a message says so.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::tz::TimeZone;

use super::pass::after;

/// The message with the time at which whoever waits since `start` gives up, behind its first line, because that is the line that
/// a run tells of its stages. A message that has it already stays as it is.
pub(super) fn with(message: &str, start: Option<&Time>, limit: Duration) -> String {
    let Some(words) = words(start, limit) else { return message.to_owned() };
    let message = without(message, start, limit);
    match message.split_once('\n') {
        Some((first, rest)) => format!("{first}{words}\n{rest}"),
        None => format!("{message}{words}"),
    }
}

/// The message without that time: when it is over it is no news.
pub(super) fn without(message: &str, start: Option<&Time>, limit: Duration) -> String {
    words(start, limit).map_or_else(|| message.to_owned(), |words| message.replace(&words, ""))
}

/// It depends on nothing that passes, so that it is the same in each pass.
fn words(start: Option<&Time>, limit: Duration) -> Option<String> {
    let start = start?.0;
    let at = |time: k8s_openapi::jiff::Timestamp| time.to_zoned(TimeZone::UTC);
    let (begin, end) = (at(start), at(after(start, limit)));
    let format = if begin.date() == end.date() { "%H:%MZ" } else { "%Y-%m-%d %H:%MZ" };
    Some(format!(" (gives up at {})", end.strftime(format)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_says_when_it_is_over_and_says_it_once() {
        let start = Time("2026-01-01T09:21:40Z".parse().unwrap());
        let hour = Duration::from_hours(1);
        let said = with("no node\nmore", Some(&start), hour);
        assert_eq!(said, "no node (gives up at 10:21Z)\nmore");
        assert_eq!(with(&said, Some(&start), hour), said);
        assert_eq!(without(&said, Some(&start), hour), "no node\nmore");
        assert_eq!(with("x", Some(&start), hour * 24), "x (gives up at 2026-01-02 09:21Z)");
        assert_eq!(with("x", None, hour), "x");
    }
}
