//! The verdict on a figure that Prometheus gives. As Argo Rollouts has it: a limit that does not hold fails, no number is inconclusive, and
//! more than four questions in a row without an answer are an error.

use super::answers::Answer;
use super::judge::rounded;
use super::{Asks, Measured};
use crate::api::{Analysis, AnalysisStatus, Verdict};

/// Argo's `consecutiveErrorLimit` is 4: the fifth is too many.
const TOO_MANY: u64 = 5;

pub(super) fn judge(name: &str, analysis: &Analysis, measured: Option<&Measured>) -> AnalysisStatus {
    let samples = measured.map_or(0, |measured| measured.candidate.ended);
    let asks = measured.and_then(|measured| Some((measured, measured.step.asks.get(name)?)));
    let of = |id: fn(&Asks) -> Option<&String>| {
        asks.and_then(|(measured, asks)| Some(measured.answers.of(id(asks)?))).unwrap_or_default()
    };
    let (candidate, stable) = (of(|asks| Some(&asks.candidate)), of(|asks| asks.stable.as_ref()));
    let compares = analysis.compares();
    let (verdict, message) = verdict(analysis, &candidate, &stable, samples, "Prometheus says");
    AnalysisStatus {
        name: name.to_owned(),
        verdict,
        value: candidate.value.map(rounded),
        stable: stable.value.filter(|_| compares).map(rounded),
        samples: i64::try_from(samples).unwrap_or(i64::MAX),
        message,
        ..AnalysisStatus::default()
    }
}

/// `says`: how the message begins.
pub(super) fn verdict(
    analysis: &Analysis,
    candidate: &Answer,
    stable: &Answer,
    samples: u64,
    says: &str,
) -> (Verdict, String) {
    let compares = analysis.compares();
    let asked = [Some(("", candidate)), compares.then_some((" of the promoted revision", stable))];
    for (whose, answer) in asked.iter().flatten() {
        let words = answer.problem.as_deref().unwrap_or("the routers have not asked yet");
        if answer.errors >= TOO_MANY {
            return (Verdict::Error, format!("Prometheus gave no figure{whose} {TOO_MANY} times in a row: {words}"));
        }
        if answer.value.is_none() {
            return (Verdict::Inconclusive, format!("no figure{whose}: {words}"));
        }
    }
    let needed = analysis.min_samples.map_or(0, u64::from);
    let Some(figure) = candidate.value.filter(|_| samples >= needed) else {
        return (Verdict::Inconclusive, format!("{samples} of {needed} requests"));
    };
    let head = format!("{says} {}", rounded(figure));
    if let Some(max) = analysis.max.filter(|max| figure > *max) {
        return (Verdict::Failed, format!("{head}, more than max {max}"));
    }
    if let Some(min) = analysis.min.filter(|min| figure < *min) {
        return (Verdict::Failed, format!("{head}, less than min {min}"));
    }
    let mut held = Vec::new();
    held.extend(analysis.max.map(|max| format!("max {max}")));
    held.extend(analysis.min.map(|min| format!("min {min}")));
    if let Some(stable) = stable.value.filter(|_| compares) {
        let beside = |ratio: f64| format!("{ratio} times the promoted revision's {}", rounded(stable));
        if stable < 0.0 {
            return (
                Verdict::Inconclusive,
                format!("{head}, and the promoted revision's {} is no measure", rounded(stable)),
            );
        }
        let (max, min) = (analysis.max_ratio_to_stable, analysis.min_ratio_to_stable);
        if let Some(ratio) = max.filter(|ratio| figure > ratio * stable) {
            return (Verdict::Failed, format!("{head}, more than {}", beside(ratio)));
        }
        if let Some(ratio) = min.filter(|ratio| figure < ratio * stable) {
            return (Verdict::Failed, format!("{head}, less than {}", beside(ratio)));
        }
        held.extend(max.map(|ratio| format!("at most {}", beside(ratio))));
        held.extend(min.map(|ratio| format!("at least {}", beside(ratio))));
    }
    (Verdict::Passed, format!("{head} ({})", held.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::jiff::{SignedDuration, Timestamp};
    use millrace_routes::{ModelStats, QueryStats, RevisionStats, Stats};
    use serde_json::json;

    use crate::analysis::{Asks, Rows, Step, Tally, judge};
    use crate::api::{Analysis, Verdict};
    use crate::deployment::Live;

    fn said(value: Option<f64>, age_s: Option<u64>, errors: u64) -> QueryStats {
        let problem = (errors > 0 || value.is_none()).then(|| "words".to_owned());
        QueryStats { value, age_ms: age_s.map(|age| age * 1000), errors, problem }
    }

    fn start() -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1)
    }

    fn tally() -> Tally {
        let asks = Asks { candidate: "c".to_owned(), stable: Some("s".to_owned()) };
        let asks = BTreeMap::from([("a".to_owned(), asks)]);
        let step =
            Step { generation: 7, step: 1, candidate: "new".to_owned(), stable: "old".to_owned(), asked: vec![], asks };
        Tally::new(step, start())
    }

    fn hear(tally: &mut Tally, router: &str, second: i64, queries: &[(&str, QueryStats)]) {
        let queries = queries.iter().map(|(id, said)| ((*id).to_owned(), said.clone())).collect();
        let revisions = BTreeMap::from([("new".to_owned(), RevisionStats::default())]);
        let model = ModelStats { generation: 7, revisions, queries, ..ModelStats::default() };
        let models = BTreeMap::from([("m".to_owned(), model)]);
        let stats = Stats { pod: "r".to_owned(), boot: 1, at_us: u64::try_from(second).unwrap(), models };
        tally.heard(router, "m", &stats, start() + SignedDuration::from_secs(second));
    }

    fn verdict(tally: &Tally, analysis: &serde_json::Value) -> (Verdict, String) {
        let mut whole = json!({ "prometheus": { "address": "http://p", "query": "q" } });
        whole.as_object_mut().unwrap().extend(analysis.as_object().unwrap().clone());
        let analysis: Analysis = serde_json::from_value(whole).unwrap();
        let analyses = BTreeMap::from([("a".to_owned(), analysis)]);
        let judged = judge(&analyses, Some(&tally.measured()), Live::default(), &Rows::default()).remove(0);
        (judged.verdict, judged.message)
    }

    #[test]
    fn a_limit_that_does_not_hold_fails_and_one_that_is_met_exactly_passes() {
        for (value, analysis, expected, words) in [
            (5.0, json!({ "max": 5 }), Verdict::Passed, "Prometheus says 5 (max 5)"),
            (5.1, json!({ "max": 5 }), Verdict::Failed, "Prometheus says 5.1, more than max 5"),
            (-3.0, json!({ "min": -3 }), Verdict::Passed, "Prometheus says -3 (min -3)"),
            (-4.0, json!({ "min": -3 }), Verdict::Failed, "Prometheus says -4, less than min -3"),
            (5.0, json!({ "max": 9, "minSamples": 1 }), Verdict::Inconclusive, "0 of 1 requests"),
        ] {
            let mut tally = tally();
            hear(&mut tally, "r", 10, &[("c", said(Some(value), Some(2), 0))]);
            assert_eq!(verdict(&tally, &analysis), (expected, words.to_owned()));
        }
    }

    #[test]
    fn the_promoted_revision_is_asked_the_same() {
        let of = |candidate: f64, stable: Option<f64>| {
            let mut tally = tally();
            let stable = said(stable, Some(2), 0);
            hear(&mut tally, "r", 10, &[("c", said(Some(candidate), Some(2), 0)), ("s", stable)]);
            verdict(&tally, &json!({ "maxRatioToStable": 1.5 }))
        };
        assert_eq!(of(3.0, Some(2.0)).0, Verdict::Passed);
        let words = "Prometheus says 3.1, more than 1.5 times the promoted revision's 2";
        assert_eq!(of(3.1, Some(2.0)), (Verdict::Failed, words.to_owned()));
        assert_eq!(of(0.0, Some(0.0)).0, Verdict::Passed);
        assert_eq!(of(3.0, Some(-1.0)).0, Verdict::Inconclusive);
        assert_eq!(of(3.0, None), (Verdict::Inconclusive, "no figure of the promoted revision: words".to_owned()));
    }

    #[test]
    fn an_answer_from_before_the_step_and_no_number_say_nothing() {
        let limit = || json!({ "max": 1 });
        let mut tally = tally();
        assert_eq!(verdict(&tally, &limit()).1, "no figure: the routers have not asked yet");
        hear(&mut tally, "r", 10, &[("c", said(Some(9.0), Some(11), 0))]);
        assert_eq!(verdict(&tally, &limit()).0, Verdict::Inconclusive);
        hear(&mut tally, "r", 11, &[("c", said(None, Some(1), 0))]);
        assert_eq!(verdict(&tally, &limit()), (Verdict::Inconclusive, "no figure: words".to_owned()));
        hear(&mut tally, "r", 20, &[("c", said(Some(9.0), Some(1), 0))]);
        assert_eq!(verdict(&tally, &limit()).0, Verdict::Failed);
    }

    #[test]
    fn the_newest_answer_of_all_routers_counts_and_without_any_the_fifth_time_is_an_error() {
        let limit = || json!({ "max": 1 });
        let mut tally = tally();
        hear(&mut tally, "a", 10, &[("c", said(Some(9.0), Some(8), 0))]);
        hear(&mut tally, "b", 10, &[("c", said(Some(1.0), Some(2), 0))]);
        assert_eq!(verdict(&tally, &limit()).0, Verdict::Passed);
        hear(&mut tally, "a", 30, &[("c", said(None, None, 9))]);
        hear(&mut tally, "b", 30, &[("c", said(Some(1.0), Some(22), 4))]);
        assert_eq!(verdict(&tally, &limit()).0, Verdict::Passed, "the last answer holds for a while");
        hear(&mut tally, "b", 40, &[("c", said(Some(1.0), Some(32), 5))]);
        let (verdict_now, words) = verdict(&tally, &limit());
        assert_eq!(verdict_now, Verdict::Error);
        assert_eq!(words, "Prometheus gave no figure 5 times in a row: words");
        // A router that is gone keeps nothing up.
        hear(&mut tally, "c", 80, &[("c", said(Some(1.0), Some(1), 0))]);
        assert_eq!(verdict(&tally, &limit()).0, Verdict::Passed);
    }
}
