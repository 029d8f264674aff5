//! `run.number`: the runs of a pipeline that asks for it are counted from 1, in the order in which they come. Others do not pay for the write
//! that gives a number, and do not wait for it.
//!
//! The pipeline's status has the count, and to whom a number was given; a run takes its own from there before it begins. The status is written only
//! over the one that was seen, so that a pass that is cut short or sees old runs may leave a number out, and never gives one twice.

use std::sync::Arc;

use crate::api::{MLPipelineRun, MLPipelineRunStatus, MLPipelineStatus};
use crate::run::ended;

/// So many runs have a number that they have not taken yet; the others wait a moment.
const AT_ONCE: usize = 64;

/// Gives a number to each run that has none, where the pipeline asks for it.
pub(super) fn give(runs: &[Arc<MLPipelineRun>], asks: impl FnOnce() -> bool, status: &mut MLPipelineStatus) {
    let old = status.run_numbers.as_ref();
    let is_given = |run: &MLPipelineRun| {
        run.metadata.uid.as_ref().is_none_or(|uid| old.is_some_and(|numbers| numbers.given.contains_key(uid)))
    };
    let mut next: Vec<&MLPipelineRun> =
        runs.iter().map(AsRef::as_ref).filter(|run| wants(run) && !is_given(run)).collect();
    if next.is_empty() || !asks() {
        return;
    }
    next.sort_by_key(|run| (run.metadata.creation_timestamp.as_ref().map(|time| time.0), &run.metadata.name));
    let mut numbers = status.run_numbers.clone().unwrap_or_default();
    // Those that have taken theirs, or are gone. It is done only here: a write for itself would be one for each run.
    numbers
        .given
        .retain(|uid, _| runs.iter().any(|run| run.metadata.uid.as_deref() == Some(uid.as_str()) && wants(run)));
    // A pipeline that was made anew, or lost its status, goes on behind the runs that there are.
    let known = runs.iter().filter_map(|run| run.status.as_ref()?.number);
    numbers.last = known.fold(numbers.last, i64::max);
    for run in next.into_iter().take(AT_ONCE.saturating_sub(numbers.given.len())) {
        numbers.last += 1;
        numbers.given.insert(run.metadata.uid.clone().unwrap_or_default(), numbers.last);
    }
    if status.run_numbers.as_ref() != Some(&numbers) {
        status.run_numbers = Some(numbers);
    }
}

/// It has none, and will need one to begin.
fn wants(run: &MLPipelineRun) -> bool {
    let begun = |status: &MLPipelineRunStatus| status.number.is_some() || status.frozen.is_some();
    let has_begun = ended(run).is_some() || run.status.as_ref().is_some_and(begun);
    !has_begun && run.spec.pipeline.is_none() && run.metadata.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::api::RunNumbers;

    fn run(name: &str, created: &str) -> Arc<MLPipelineRun> {
        let mut run = MLPipelineRun::default();
        run.metadata.name = Some(name.into());
        run.metadata.uid = Some(format!("uid-{name}"));
        let created: Timestamp = format!("2026-01-01T00:00:{created}Z").parse().unwrap();
        run.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created));
        Arc::new(run)
    }

    fn given(status: &MLPipelineStatus) -> serde_json::Value {
        json!(status.run_numbers.as_ref().unwrap_or(&RunNumbers::default()).given)
    }

    /// The run takes its number, as its pass does.
    fn take(run: &mut Arc<MLPipelineRun>, status: &MLPipelineStatus) {
        let number = status.run_numbers.as_ref().unwrap().given[run.metadata.uid.as_ref().unwrap()];
        Arc::make_mut(run).status.get_or_insert_default().number = Some(number);
    }

    #[test]
    fn runs_are_counted_in_the_order_in_which_they_came_and_each_once() {
        let mut status = MLPipelineStatus::default();
        let mut runs = vec![run("b", "02"), run("c", "01"), run("a", "02")];
        give(&runs, || true, &mut status);
        assert_eq!(given(&status), json!({ "uid-c": 1, "uid-a": 2, "uid-b": 3 }));
        let mut unasked = MLPipelineStatus::default();
        give(&runs, || false, &mut unasked);
        assert_eq!(unasked, MLPipelineStatus::default());
        let before = status.clone();
        give(&runs, || true, &mut status);
        assert_eq!(status, before, "nobody is new");
        for run in &mut runs {
            take(run, &before);
        }
        give(&runs, || true, &mut status);
        assert_eq!(status, before, "what was taken is forgotten with the next one");
        runs.push(run("d", "03"));
        give(&runs, || true, &mut status);
        assert_eq!(given(&status), json!({ "uid-d": 4 }));
    }

    #[test]
    fn a_number_is_given_once_even_if_its_run_is_gone_or_seen_late() {
        let mut status = MLPipelineStatus::default();
        give(&[run("a", "01"), run("b", "02")], || true, &mut status);
        // Both are deleted, and one of them was only not seen.
        give(&[run("c", "03")], || true, &mut status);
        give(&[run("a", "01"), run("c", "03")], || true, &mut status);
        assert_eq!(given(&status), json!({ "uid-c": 3, "uid-a": 4 }));
        // The pipeline is made again under its name.
        let mut new = MLPipelineStatus::default();
        let mut old = run("c", "03");
        take(&mut old, &status);
        give(&[old, run("e", "05")], || true, &mut new);
        assert_eq!(given(&new), json!({ "uid-e": 4 }));
    }

    /// Passes that see the runs as they were some time ago, in any order, between runs that come, begin and are deleted. The status is only ever written
    /// over the newest one, as the apiserver has it.
    #[test]
    fn in_any_order_and_with_old_looks_no_number_comes_twice() {
        for seed in 1..=200_u64 {
            let mut state = seed;
            let mut draw = |below: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                usize::try_from(state >> 33).unwrap() % below
            };
            let mut status = MLPipelineStatus::default();
            let mut runs: Vec<Arc<MLPipelineRun>> = Vec::new();
            let mut looks = vec![Vec::new()];
            let mut taken: Vec<i64> = Vec::new();
            for step in 0..120 {
                match draw(5) {
                    0 => runs.push(run(&format!("r{step}"), &format!("{:02}", draw(60)))),
                    1 if !runs.is_empty() => drop(runs.remove(draw(runs.len()))),
                    2 if !runs.is_empty() => {
                        let at = draw(runs.len());
                        let numbers = status.run_numbers.clone().unwrap_or_default();
                        let given = numbers.given.get(runs[at].metadata.uid.as_ref().unwrap());
                        let has = runs[at].status.as_ref().is_some_and(|status| status.number.is_some());
                        if let Some(number) = given.filter(|_| !has) {
                            taken.push(*number);
                            take(&mut runs[at], &status);
                        }
                    }
                    _ => {
                        let old = looks.len().saturating_sub(1 + draw(4));
                        give(&looks[old], || true, &mut status);
                    }
                }
                looks.push(runs.clone());
            }
            let all = taken.len();
            taken.sort_unstable();
            taken.dedup();
            assert_eq!(taken.len(), all, "seed {seed}");
        }
    }

    #[test]
    fn what_began_before_there_were_numbers_ended_or_is_written_in_place_has_none() {
        let changed = |change: &dyn Fn(&mut MLPipelineRun)| {
            let mut run = MLPipelineRun::clone(&run("a", "01"));
            change(&mut run);
            let mut status = MLPipelineStatus::default();
            give(&[Arc::new(run)], || true, &mut status);
            status.run_numbers
        };
        let time = || run("a", "01").metadata.creation_timestamp.clone();
        assert_eq!(changed(&|run| run.status.get_or_insert_default().frozen = Some("f".into())), None);
        assert_eq!(changed(&|run| run.status.get_or_insert_default().completion_time = time()), None);
        assert_eq!(changed(&|run| run.spec.pipeline = Some(crate::api::MLPipelineSpec::default())), None);
        assert_eq!(changed(&|run| run.metadata.deletion_timestamp = time()), None);
        assert!(changed(&|run| run.status.get_or_insert_default().start_time = None).is_some());
    }

    #[test]
    fn many_get_theirs_bit_by_bit() {
        let mut status = MLPipelineStatus::default();
        let mut runs: Vec<_> = (0..150).map(|n| run(&format!("r{n:03}"), "01")).collect();
        for _ in 0..3 {
            give(&runs, || true, &mut status);
            let numbers = status.run_numbers.clone().unwrap();
            assert!(numbers.given.len() <= AT_ONCE);
            runs.iter_mut()
                .filter(|run| numbers.given.contains_key(run.metadata.uid.as_ref().unwrap()))
                .for_each(|run| take(run, &status));
        }
        let numbers: Vec<_> = runs.iter().map(|run| run.status.as_ref().unwrap().number.unwrap()).collect();
        assert_eq!(numbers, (1..=150).collect::<Vec<_>>());
    }
}
