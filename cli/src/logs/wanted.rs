//! Which logs are asked for, and where each is read.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use millrace_contract::WantedLog;
use millrace_core::api::{MLPipelineRunStatus, StageState, StageStatus};

use super::{Logs, Wanted, item_of, stage_of};

/// Where a log is.
#[derive(Clone, Debug)]
pub enum Source {
    Pod(Box<Pod>),
    /// In the store.
    Kept(WantedLog),
}

impl Source {
    pub fn kept(&self) -> Option<&WantedLog> {
        match self {
            Self::Kept(log) => Some(log),
            Self::Pod(_) => None,
        }
    }
}

impl Logs {
    /// The one attempt that is asked for, or why it is none.
    pub(super) fn picked(&self, status: &MLPipelineRunStatus) -> Result<Option<u32>, String> {
        if self.attempt.is_none() && !self.previous {
            return Ok(None);
        }
        let name = self.stage.as_deref().unwrap_or_default();
        let Some(stage) = status.stages.get(name) else { return Err(format!("stage {name} has not begun")) };
        if let Some(items) = &stage.items {
            let (missing, are_runs) = (self.item.is_none(), items.begun > 0);
            let write = match (self.kept || are_runs, missing) {
                (true, false) => None,
                (true, true) => Some("--item"),
                (false, false) => Some("--kept"),
                (false, true) => Some("--kept and --item"),
            };
            if let Some(write) = write {
                return Err(format!(
                    "stage {name} runs over items, and each counts its own attempts: write {write} too"
                ));
            }
        }
        let made = stage.attempts;
        match self.attempt {
            // What an item has tried only its folder knows.
            Some(attempt) if stage.items.is_some() => Ok(Some(attempt)),
            Some(attempt) if (1..=made).contains(&attempt) => Ok(Some(attempt)),
            Some(attempt) => Err(format!("stage {name} has no attempt {attempt}: it was tried {}", times(made))),
            None if made > 1 => Ok(Some(made - 1)),
            None => Err(format!("stage {name} has no attempt before its last: it was tried {}", times(made))),
        }
    }
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// Stage after stage in the order in which they began, each attempt out of its pod where that is there.
pub(super) fn sources(pods: Vec<Pod>, status: &MLPipelineRunStatus, wanted: &Wanted) -> Vec<Source> {
    let began = |name: &str| status.stages.get(name).and_then(|stage| stage.start_time.as_ref().map(|time| time.0));
    let mut all = Vec::new();
    let mine = |name: &str| wanted.stage.as_ref().is_none_or(|wanted| wanted == name);
    for (name, stage) in status.stages.iter().filter(|(name, stage)| mine(name) && stage.job.is_some()) {
        for log in gone(name, stage, &pods, wanted) {
            all.push(((began(name), name.clone(), log.attempt.unwrap_or_default(), None), Source::Kept(log)));
        }
    }
    for pod in pods {
        let (name, attempt) = stage_of(&pod);
        all.push(((began(&name), name, attempt, item_of(&pod)), Source::Pod(Box::new(pod))));
    }
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all.into_iter().map(|(_, source)| source).collect()
}

/// The attempts of a stage whose pods are gone.
fn gone(name: &str, stage: &StageStatus, pods: &[Pod], wanted: &Wanted) -> Vec<WantedLog> {
    let of_stage = || pods.iter().filter(|pod| stage_of(pod).0 == name);
    let log = |attempt| WantedLog { stage: name.to_owned(), attempt };
    if stage.items.as_ref().is_some_and(|items| items.begun > 0) {
        // Its items are runs, and only the agent has run for it.
        return Vec::new();
    }
    if stage.items.is_some() {
        // Ten thousand pods may be there, or all be gone: who wants one item's past asks for it.
        let there = of_stage().any(|pod| item_of(pod).is_some());
        let waits = matches!(stage.state, StageState::Pending);
        return if there || waits { Vec::new() } else { vec![log(wanted.attempt)] };
    }
    let there: BTreeSet<u32> = of_stage().map(|pod| stage_of(pod).1).collect();
    // The attempt that runs, or waits for its pod, has nothing that is gone.
    let over = stage.state.ended() || stage.state == StageState::BackingOff;
    let last = if over || wanted.kept { stage.attempts } else { stage.attempts.saturating_sub(1) };
    let picked = |attempt: &u32| wanted.attempt.is_none_or(|wanted| wanted == *attempt) && !there.contains(attempt);
    (1..=last).filter(picked).map(|attempt| log(Some(attempt))).collect()
}

/// The lines of a log, or the last of them. What is no text is shown as well as it goes.
pub fn lines(text: &[u8], tail: Option<i64>) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<String> = text.split_terminator('\n').map(|line| line.trim_end_matches('\r').to_owned()).collect();
    let first = tail.and_then(|tail| usize::try_from(tail).ok()).map_or(0, |tail| lines.len().saturating_sub(tail));
    lines.into_iter().skip(first).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(stage: &str, attempt: u32, item: Option<u32>) -> Pod {
        let annotations = item.map(|item| json!({ "batch.kubernetes.io/job-completion-index": item.to_string() }));
        serde_json::from_value(json!({ "metadata": {
            "name": format!("{stage}-{attempt}"), "annotations": annotations,
            "labels": { "millrace.dev/stage": stage, "millrace.dev/attempt": attempt.to_string() },
        } }))
        .unwrap()
    }

    fn told(pods: &[Pod], stages: &Value, kept: bool, attempt: Option<u32>) -> Vec<String> {
        let status = serde_json::from_value(json!({ "stages": stages })).unwrap();
        let wanted = Wanted { uid: String::new(), stage: None, item: None, attempt, kept, tail: None, prefix: false };
        let found = sources(pods.to_vec(), &status, &wanted);
        let name = |source: &Source| match source {
            Source::Pod(pod) => format!("pod {}", pod.metadata.name.as_deref().unwrap_or_default()),
            Source::Kept(log) => log.to_string(),
        };
        found.iter().map(name).collect()
    }

    fn stage(state: &str, attempts: u32, second: u32) -> Value {
        let start = format!("2026-01-01T00:00:{second:02}Z");
        json!({ "state": state, "attempts": attempts, "job": { "name": "j" }, "startTime": start })
    }

    #[test]
    fn each_attempt_is_read_once_in_the_order_in_which_stages_began() {
        let stages = json!({
            "z-first": stage("Succeeded", 1, 1), "a-second": stage("Succeeded", 3, 2), "runs": stage("Running", 2, 3),
            "waits": stage("Pending", 1, 4), "asks": { "state": "Succeeded" },
        });
        let pods = [pod("a-second", 3, None), pod("a-second", 1, None), pod("runs", 2, None)];
        let all = ["z-first:1", "pod a-second-1", "a-second:2", "pod a-second-3", "runs:1", "pod runs-2"];
        assert_eq!(told(&pods, &stages, false, None), all);
        assert_eq!(told(&[], &stages, true, Some(2)), ["a-second:2", "runs:2"]);
    }

    #[test]
    fn items_are_in_the_store_once_all_their_pods_are_gone() {
        let mut each = stage("Succeeded", 2, 1);
        each["items"] = json!({ "total": 3 });
        let stages = json!({ "each": each });
        assert_eq!(told(&[pod("each", 2, None)], &stages, false, None), ["each", "pod each-2"]);
        assert_eq!(told(&[pod("each", 1, Some(0))], &stages, false, None), ["pod each-1"]);
        let mut runs = stage("Succeeded", 2, 1);
        runs["items"] = json!({ "total": 3, "begun": 3 });
        assert!(told(&[], &json!({ "runs": runs }), false, None).is_empty(), "its items are runs");
    }

    #[test]
    fn the_last_lines_are_whole_lines() {
        assert_eq!(lines(b"one\ntwo\r\nthree", Some(2)), ["two", "three"]);
        assert_eq!(lines(b"one\n\n", None), ["one", ""]);
        assert_eq!(lines(b"", Some(1)), Vec::<String>::new());
        assert_eq!(lines(b"\xff\n", None), ["\u{fffd}"]);
    }
}
