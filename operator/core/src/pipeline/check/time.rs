//! Durations and retries.

use std::time::Duration;

use super::{Problems, base_names};
use crate::api::{History, MLPipelineSpec, Retry};
use crate::duration as text;
use crate::expr::Names;

/// The longest time between two looks for data.
const WEEK: Duration = Duration::from_hours(7 * 24);

/// The durations of a pipeline outside its stages.
pub(super) fn pipeline(spec: &MLPipelineSpec, problems: &mut Problems) {
    duration(spec.timeout.as_deref(), "spec.timeout", problems);
    if let Some(history) = &spec.history {
        duration(history.ttl.as_deref(), "spec.history.ttl", problems);
        archive(history, problems);
    }
    for (name, trigger) in spec.triggers.iter().flat_map(|triggers| &triggers.on_model) {
        let at = format!("spec.triggers.onModel.{name}");
        checked(trigger.for_.as_deref(), &format!("{at}.for"), 0, problems);
        checked(trigger.cooldown.as_deref(), &format!("{at}.cooldown"), 0, problems);
    }
    for (name, trigger) in spec.triggers.iter().flat_map(|triggers| &triggers.on_data) {
        let at = format!("spec.triggers.onData.{name}");
        for (field, value, least) in [("poll", &trigger.poll, 1000), ("settle", &trigger.settle, 0)] {
            let at = format!("{at}.{field}");
            checked(value.as_deref(), &at, least, problems);
            if let Some(value) = value.as_deref().filter(|value| text::parse(value) > Some(WEEK)) {
                problems.add(at, "InvalidDuration", format!("`{value}` is more than a week: write at most 7d"));
            }
        }
    }
    if let Some(defaults) = &spec.defaults {
        duration(defaults.timeout.as_deref(), "spec.defaults.timeout", problems);
        duration(defaults.pending_timeout.as_deref(), "spec.defaults.pendingTimeout", problems);
        retry(defaults.retry.as_ref(), "spec.defaults.retry", &base_names(&spec.params), problems);
        let age = defaults.cache.as_ref().and_then(|cache| cache.max_age.as_deref());
        duration(age, "spec.defaults.cache.maxAge", problems);
    }
}

/// How often a pod looks at the store, and how long it lets artifacts be.
fn archive(history: &History, problems: &mut Problems) {
    const DAY: Duration = Duration::from_hours(24);
    let every = history.archive.as_ref().and_then(|archive| archive.every.as_deref());
    let grace = history.artifacts.as_ref().and_then(|artifacts| artifacts.grace_period.as_deref());
    for (at, value, least, most) in [
        ("spec.history.archive.every", every, Duration::from_secs(10), 30 * DAY),
        ("spec.history.artifacts.gracePeriod", grace, Duration::ZERO, 1000 * DAY),
    ] {
        checked(value, at, 0, problems);
        let Some((value, parsed)) = value.and_then(|value| Some((value, text::parse(value)?))) else { continue };
        if parsed < least || parsed > most {
            let (least, days) = (least.as_secs(), most.as_secs() / DAY.as_secs());
            let message = format!("`{value}` is out of bounds: write {least}s to {days}d");
            problems.add(at, "InvalidDuration", message);
        }
    }
}

/// A duration of at least a second.
pub(super) fn duration(value: Option<&str>, path: &str, problems: &mut Problems) {
    checked(value, path, 1000, problems);
}

fn checked(value: Option<&str>, path: &str, least_ms: u128, problems: &mut Problems) {
    let Some(value) = value else { return };
    match text::parse(value) {
        None => {
            problems.add(
                path,
                "InvalidDuration",
                format!("`{value}` is no duration: write one such as 90s, 1h30m or 7d"),
            );
        }
        Some(parsed) if parsed.as_millis() < least_ms => {
            problems.add(path, "InvalidDuration", format!("`{value}` is less than a second: write at least 1s"));
        }
        // Past this a point in time can no longer be computed.
        Some(parsed) if parsed.as_secs() > 100 * 366 * 86_400 => {
            problems.add(
                path,
                "InvalidDuration",
                format!("`{value}` is more than a hundred years: write a shorter one"),
            );
        }
        Some(_) => {}
    }
}

/// A retry: its backoff's durations and factor. `names` is what its `when` may use besides the attempt's own.
pub(super) fn retry(retry: Option<&Retry>, path: &str, names: &Names, problems: &mut Problems) {
    let Some(retry) = retry else { return };
    if retry.limit > 100 {
        problems.add(
            format!("{path}.limit"),
            "OutOfBounds",
            format!("{} is out of bounds: write 0 to 100", retry.limit),
        );
    }
    super::retry::check(retry, path, names, problems);
    let Some(backoff) = &retry.backoff else { return };
    let at = format!("{path}.backoff");
    checked(backoff.initial.as_deref(), &format!("{at}.initial"), 0, problems);
    checked(backoff.max.as_deref(), &format!("{at}.max"), 0, problems);
    if let Some(factor) = backoff.factor
        && !(1.0..=10.0).contains(&factor)
    {
        problems.add(format!("{at}.factor"), "OutOfBounds", format!("{factor} is out of bounds: write 1 to 10"));
    }
    let parsed = |value: &Option<String>| value.as_deref().and_then(text::parse);
    if let (Some(initial), Some(max)) = (parsed(&backoff.initial), parsed(&backoff.max))
        && initial > max
    {
        let message = format!("initial is longer than max: write at most {}", text::format(max));
        problems.add(format!("{at}.initial"), "OutOfBounds", message);
    }
}
