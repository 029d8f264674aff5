//! How often a stage is tried and after which failures, and how long it waits before it is tried again.

use std::time::Duration;

use serde_json::json;

use crate::api::Retry;
use crate::expr::{self, Scope};
use crate::{duration, names};

/// Attempts that the infrastructure may end before the stage fails: their own bound, so that a node that kills whatever
/// runs on it cannot make a run endless.
pub(super) const MAX_DISRUPTIONS: u32 = 10;

/// `exitCode` of an attempt whose program did not end, or never began.
const NO_EXIT_CODE: i32 = -1;

const INITIAL: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_mins(5);
const FACTOR: f64 = 2.0;
/// The jitter is a part of this many thousandths: ±10 %.
const JITTER: u64 = 200;

/// The wait before the next attempt after `failures` of them, or `None` if there are no more.
///
/// The jitter is drawn from `seed`, so that the same pass decided twice comes to the same time.
pub(super) fn wait(retry: &Retry, failures: u32, seed: &str) -> Option<Duration> {
    if failures > retry.limit {
        return None;
    }
    let backoff = retry.backoff.as_ref();
    let read = |text: Option<&String>| text.and_then(|text| duration::parse(text));
    let initial = read(backoff.and_then(|b| b.initial.as_ref())).unwrap_or(INITIAL);
    let max = read(backoff.and_then(|b| b.max.as_ref())).unwrap_or(MAX);
    let factor = backoff.and_then(|b| b.factor).unwrap_or(FACTOR);
    let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
    let seconds = (initial.as_secs_f64() * factor.powi(exponent)).min(max.as_secs_f64());
    let draw = u64::from_str_radix(&names::sha256_hex(seed.as_bytes())[..8], 16).unwrap_or(0) % (JITTER + 1);
    Some(Duration::from_secs_f64((seconds * (900.0 + draw as f64) / 1000.0).max(0.0)))
}

/// Why `retry.when` lets there be no other attempt, if it does not. Without a value it cannot say yes. `scope` has the names that it may use
/// besides those of the attempt.
pub(crate) fn refused(
    when: Option<&String>,
    exit_code: Option<i32>,
    reason: &str,
    attempt: u32,
    scope: Scope,
) -> Option<String> {
    let when = when?;
    let code = exit_code.unwrap_or(NO_EXIT_CODE);
    let values = [("exitCode", json!(code)), ("reason", json!(reason)), ("attempt", json!(attempt))];
    let scope = values.into_iter().fold(scope, |scope, (name, value)| scope.with(name, value));
    let figures = format!("exitCode {code}, reason {reason}, attempt {attempt}");
    match expr::eval_bool(when, &scope) {
        Ok(true) => None,
        Ok(false) => Some(format!("no other attempt: retry.when is false ({figures})")),
        Err(error) => Some(format!("no other attempt: retry.when has no value ({figures}): {error}")),
    }
}

/// The wait before the attempt after `disruptions` of them: none after the first, because the work may be done and the
/// next agent finds its manifest; then as after failures, because a node that refuses one pod refuses the next.
pub(super) fn after_disruption(disruptions: u32, seed: &str) -> Duration {
    let plain = Retry { limit: u32::MAX, ..Retry::default() };
    disruptions.checked_sub(1).filter(|n| *n > 0).and_then(|n| wait(&plain, n, seed)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Backoff;

    fn retry(limit: u32, backoff: Option<(&str, f64, &str)>) -> Retry {
        let backoff = backoff.map(|(initial, factor, max)| Backoff {
            initial: Some(initial.into()),
            factor: Some(factor),
            max: Some(max.into()),
        });
        Retry { limit, backoff, ..Retry::default() }
    }

    #[test]
    fn the_wait_grows_by_its_factor_up_to_its_maximum() {
        let policy = retry(9, Some(("1s", 3.0, "20s")));
        for (failures, seconds) in [(1, 1.0), (2, 3.0), (3, 9.0), (4, 20.0), (9, 20.0)] {
            let found = wait(&policy, failures, "seed").unwrap().as_secs_f64();
            assert!((found / seconds - 1.0).abs() <= 0.1 + 1e-9, "{failures}: {found} s instead of {seconds} s");
        }
        let found = wait(&retry(1, None), 1, "seed").unwrap().as_secs_f64();
        assert!((9.0..=11.0).contains(&found), "{found}");
    }

    #[test]
    fn there_is_an_attempt_for_each_failure_within_the_limit() {
        assert!(wait(&retry(2, None), 2, "s").is_some());
        assert_eq!(wait(&retry(2, None), 3, "s"), None);
        assert_eq!(wait(&retry(0, None), 1, "s"), None);
    }

    #[test]
    fn the_first_disruption_costs_no_wait_and_the_next_ones_do() {
        assert_eq!(after_disruption(1, "s"), Duration::ZERO);
        assert!((9.0..=11.0).contains(&after_disruption(2, "s").as_secs_f64()));
        assert!(after_disruption(10, "s") > Duration::from_mins(4));
    }

    #[test]
    fn a_condition_says_which_failures_are_worth_another_attempt() {
        let refused = |text: &str, code, reason| {
            let scope = Scope::new().with("params", json!({ "patient": true }));
            super::refused(Some(&text.to_owned()), code, reason, 2, scope)
        };
        assert_eq!(super::refused(None, Some(1), "Error", 1, Scope::new()), None);
        assert_eq!(refused("params.patient && exitCode == 1", Some(1), "Error"), None);
        assert_eq!(refused("exitCode != 2 && attempt < 3", Some(1), "Error"), None);
        let no = "no other attempt: retry.when is false (exitCode 2, reason Error, attempt 2)";
        assert_eq!(refused("exitCode != 2", Some(2), "Error").as_deref(), Some(no));
        assert_eq!(refused("reason == 'OOMKilled' && exitCode < 0", None, "OOMKilled"), None);
        let unclear = refused("exitCode / 0 > 1 && reason[5] == 'x'", Some(1), "Error").unwrap();
        assert!(unclear.starts_with("no other attempt: retry.when"), "{unclear}");
    }

    #[test]
    fn the_jitter_is_the_same_for_the_same_seed_and_differs_between_seeds() {
        let policy = retry(1, None);
        assert_eq!(wait(&policy, 1, "a"), wait(&policy, 1, "a"));
        let different: std::collections::BTreeSet<_> = (0..20).map(|n| wait(&policy, 1, &n.to_string())).collect();
        assert!(different.len() > 10, "{different:?}");
    }
}
