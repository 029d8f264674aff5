//! Answers of Prometheus that break a limit and are let pass, as Argo's `failureLimit` has it. How many there were is in the status: an operator
//! that starts anew goes on counting.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::{Measured, Rows, judge};
use crate::api::{Analysis, AnalysisStatus, Verdict};
use crate::deployment::Live;
use crate::duration::since;

/// Each router asks every ten seconds; when one was asked is known to a second.
const APART: Duration = Duration::from_secs(9);

/// Judges every analysis, as [`judge`] does, and lets pass what may: `before` is what the status has of the same step.
#[must_use]
pub fn verdicts(
    analyses: &BTreeMap<String, Analysis>,
    before: &[AnalysisStatus],
    measured: Option<&Measured>,
    live: Live<'_>,
    rows: &Rows<'_>,
) -> Vec<AnalysisStatus> {
    forgive(analyses, before, measured, judge(analyses, measured, live, rows))
}

fn forgive(
    analyses: &BTreeMap<String, Analysis>,
    before: &[AnalysisStatus],
    measured: Option<&Measured>,
    judged: Vec<AnalysisStatus>,
) -> Vec<AnalysisStatus> {
    let one = |judged: AnalysisStatus| {
        let limit = analyses.get(&judged.name).and_then(|analysis| analysis.failure_limit).unwrap_or_default();
        let old = before.iter().find(|old| old.name == judged.name);
        let asked = measured.and_then(|measured| {
            let asks = measured.step.asks.get(&judged.name)?;
            measured.answers.of(&asks.candidate).asked
        });
        if limit == 0 { judged } else { counted(judged, old, asked, limit) }
    };
    judged.into_iter().map(one).collect()
}

/// `asked`: when the newest answer was asked for.
fn counted(
    judged: AnalysisStatus,
    old: Option<&AnalysisStatus>,
    asked: Option<Timestamp>,
    limit: u32,
) -> AnalysisStatus {
    let mut failures = old.and_then(|old| old.failures).unwrap_or_default();
    let mut last_failure = old.and_then(|old| old.last_failure.clone());
    let passes = |failures: i32| u32::try_from(failures).is_ok_and(|failures| failures <= limit);
    let Some(asked) = asked.filter(|_| judged.verdict == Verdict::Failed) else {
        return AnalysisStatus { failures: Some(failures), last_failure, ..judged };
    };
    // What is over the limit needs no more counting: a rollout may wait for a person for days.
    if passes(failures) && last_failure.as_ref().is_none_or(|last| since(last.0, asked) >= APART) {
        failures += 1;
        last_failure = Some(Time(asked));
    }
    let message = format!("{}; such answers in this step: {failures}, failureLimit: {limit}", judged.message);
    let verdict = if passes(failures) { Verdict::Passed } else { Verdict::Failed };
    AnalysisStatus { verdict, message, failures: Some(failures), last_failure, ..judged }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::jiff::SignedDuration;
    use millrace_routes::QueryStats;
    use serde_json::json;

    use super::*;
    use crate::analysis::{Answers, Asks, Counts, Step};

    fn at(millis: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1) + SignedDuration::from_millis(millis)
    }

    /// The newest answer was asked for then.
    fn measured(asked: i64) -> Measured {
        let asks = BTreeMap::from([("a".to_owned(), Asks { candidate: "c".to_owned(), stable: None })]);
        let step =
            Step { generation: 1, step: 1, candidate: "new".to_owned(), stable: "old".to_owned(), asked: vec![], asks };
        let mut answers = Answers::default();
        let said = QueryStats { value: Some(9.0), age_ms: Some(0), ..QueryStats::default() };
        answers.heard("r", "c", Some(&said), at(0), at(asked));
        Measured { step, since: at(0), candidate: Counts::default(), stable: Counts::default(), answers }
    }

    fn judged(verdict: Verdict) -> Vec<AnalysisStatus> {
        vec![AnalysisStatus {
            name: "a".to_owned(),
            verdict,
            message: "too much".to_owned(),
            ..AnalysisStatus::default()
        }]
    }

    #[test]
    fn as_many_answers_as_it_says_are_let_pass_and_each_counts_once() {
        let analysis = json!({ "prometheus": { "address": "http://p", "query": "q" }, "max": 5, "failureLimit": 2 });
        let analyses = BTreeMap::from([("a".to_owned(), serde_json::from_value(analysis).unwrap())]);
        let mut before = Vec::new();
        for (asked, verdict, failures, expected) in [
            (1_000, Verdict::Passed, 0, Verdict::Passed),
            (11_000, Verdict::Failed, 1, Verdict::Passed),
            (11_900, Verdict::Failed, 1, Verdict::Passed),
            (16_000, Verdict::Failed, 1, Verdict::Passed),
            (21_000, Verdict::Inconclusive, 1, Verdict::Inconclusive),
            (31_000, Verdict::Failed, 2, Verdict::Passed),
            (41_000, Verdict::Passed, 2, Verdict::Passed),
            (51_000, Verdict::Failed, 3, Verdict::Failed),
            (61_000, Verdict::Failed, 3, Verdict::Failed),
        ] {
            before = forgive(&analyses, &before, Some(&measured(asked)), judged(verdict));
            assert_eq!((before[0].failures, before[0].verdict), (Some(failures), expected), "{asked}");
        }
        assert_eq!(before[0].message, "too much; such answers in this step: 3, failureLimit: 2");
    }

    #[test]
    fn without_it_the_first_fails() {
        let analysis = json!({ "prometheus": { "address": "http://p", "query": "q" }, "max": 5 });
        let analyses = BTreeMap::from([("a".to_owned(), serde_json::from_value(analysis).unwrap())]);
        assert_eq!(forgive(&analyses, &[], Some(&measured(1_000)), judged(Verdict::Failed)), judged(Verdict::Failed));
    }
}
