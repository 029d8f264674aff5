//! Which folders of runs are taken out. Pure: what is known of them from before, what is needed now, and the time.

use std::collections::{BTreeMap, BTreeSet};

use millrace_contract::SweepTask;
use serde::{Deserialize, Serialize};

/// The folders of a pipeline's runs in which something is left, by their names. It lies in the store between two pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Folders {
    #[serde(default)]
    pub folders: BTreeMap<String, Known>,
}

/// What is known of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// Its run is gone: since when nothing more of it is needed than what is held. Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unneeded_since: Option<u64>,
    /// The look that found it so. Another pod of the same task has no other eyes.
    #[serde(default)]
    pub look: u64,
    /// What is needed, below the folder of the runs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub held: BTreeSet<String>,
    /// There is nothing in it but what is held.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cleared: bool,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// Folders of which goes what is not held.
    pub clear: Vec<String>,
    /// Seconds until the time of the next one comes.
    pub next: Option<u64>,
}

/// Notes which folders there are and which are needed. Only one that an earlier look found unneeded, and long enough ago, is cleared.
pub fn decide(known: &mut Folders, task: &SweepTask) -> Decided {
    let (now, mut decided) = (task.now, Decided::default());
    // Who may write in the store may have written this too.
    known.folders.retain(|folder, _| is_name(folder));
    for folder in &task.kept {
        known.folders.insert(folder.clone(), Known::default());
    }
    let Some(artifacts) = &task.artifacts else { return decided };
    let kept: BTreeSet<&str> = task.kept.iter().map(String::as_str).collect();
    for (folder, known) in known.folders.iter_mut().filter(|(folder, _)| !kept.contains(folder.as_str())) {
        let held: BTreeSet<String> = task.held.iter().filter(|path| meets(path, folder)).cloned().collect();
        let grace = artifacts.grace_seconds;
        let left = match known.unneeded_since {
            // What was needed until now has its time too. A time that is to come, or a look, is of another count: it begins anew.
            Some(since) if known.held.is_subset(&held) && since <= now && known.look <= task.look => {
                grace.saturating_sub(now - since)
            }
            _ => {
                *known = Known { unneeded_since: Some(now), look: task.look, held, cleared: false };
                decided.next = decided.next.into_iter().chain([grace]).min();
                continue;
            }
        };
        known.held = held;
        if known.cleared {
            continue;
        }
        if left == 0 && known.look < task.look {
            decided.clear.push(folder.clone());
        } else {
            decided.next = decided.next.into_iter().chain([left]).min();
        }
    }
    decided
}

/// The name of a folder of a run, and no way to another one.
fn is_name(folder: &str) -> bool {
    !matches!(folder, "" | "." | "..") && !folder.contains(['/', '\0'])
}

/// A file is needed: it is held, or lies in what is held. The manifest of a stage stays with its outputs: it says what they are.
pub fn is_held<'a>(held: impl IntoIterator<Item = &'a String>, file: &str) -> bool {
    let stage = file.strip_suffix("/manifest.json");
    held.into_iter().any(|path| is_within(file, path) || stage.is_some_and(|stage| is_within(path, stage)))
}

/// One of them lies in the other, or they are the same.
fn meets(path: &str, folder: &str) -> bool {
    is_within(path, folder) || is_within(folder, path)
}

fn is_within(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use millrace_contract::SweepArtifacts;

    use super::*;

    const GRACE: u64 = 100;

    /// Every second is a look of its own.
    fn task(now: u64, kept: &[&str], held: &[&str]) -> SweepTask {
        let all = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let artifacts = Some(SweepArtifacts { grace_seconds: GRACE, dry_run: false });
        SweepTask { look: now, now, kept: all(kept), held: all(held), artifacts, ..SweepTask::default() }
    }

    /// What each look clears, when what is kept and held at these times is this.
    fn cleared(looks: &[(u64, &[&str], &[&str])]) -> Vec<Vec<String>> {
        let mut known = Folders::default();
        looks.iter().map(|(now, kept, held)| decide(&mut known, &task(*now, kept, held)).clear).collect()
    }

    #[test]
    fn only_what_was_found_unneeded_before_and_long_enough_ago_is_cleared() {
        let none: Vec<Vec<String>> = vec![vec![], vec![], vec![]];
        let last = |name: &str| vec![vec![], vec![], vec![name.to_owned()]];
        for (why, looks, expected) in [
            (
                "its run is there",
                [(0, &["a"] as &[&str], &[] as &[&str]), (500, &["a"], &[]), (900, &["a"], &[])],
                none.clone(),
            ),
            ("its time is over", [(0, &["a"], &[]), (10, &[], &[]), (110, &[], &[])], last("a")),
            ("its time is not over", [(0, &["a"], &[]), (10, &[], &[]), (109, &[], &[])], none.clone()),
            ("it was not known before", [(0, &[], &[]), (10, &[], &[]), (500, &[], &[])], none.clone()),
            ("the run came back into sight", [(0, &["a"], &[]), (10, &[], &[]), (500, &["a"], &[])], none.clone()),
            ("a part of it is held", [(0, &["a"], &[]), (10, &[], &["a/s/m"]), (110, &[], &["a/s/m"])], last("a")),
            ("a part was held until now", [(0, &["a"], &[]), (10, &[], &["a/s/m"]), (110, &[], &[])], none.clone()),
            ("a clock was put back", [(0, &["a"], &[]), (200, &[], &[]), (110, &[], &[])], none.clone()),
        ] {
            assert_eq!(cleared(&looks), expected, "{why}");
        }
    }

    #[test]
    fn what_is_cleared_but_for_what_is_held_is_looked_at_again_when_that_is_not_needed_any_more() {
        let mut known = Folders::default();
        decide(&mut known, &task(0, &["a"], &[]));
        decide(&mut known, &task(10, &[], &["a/s/m"]));
        known.folders.get_mut("a").unwrap().cleared = true;
        assert_eq!(decide(&mut known, &task(500, &[], &["a/s/m", "b/x"])), Decided::default());
        // A run took it from the cache, and the ModelVersion went.
        assert_eq!(decide(&mut known, &task(600, &[], &["a/s/m", "a/t"])), Decided::default());
        assert_eq!(decide(&mut known, &task(700, &[], &[])), Decided { clear: vec![], next: Some(GRACE) });
        assert_eq!(decide(&mut known, &task(750, &[], &[])), Decided { clear: vec![], next: Some(50) });
        assert_eq!(decide(&mut known, &task(800, &[], &[])).clear, ["a"]);
    }

    #[test]
    fn two_pods_of_one_task_are_one_look() {
        let mut known = Folders::default();
        decide(&mut known, &task(0, &["a"], &[]));
        let mut told = task(10, &[], &[]);
        told.artifacts = Some(SweepArtifacts { grace_seconds: 0, dry_run: false });
        // The first one is evicted before it says anything, and another one is told the same.
        for _ in 0..3 {
            assert_eq!(decide(&mut known, &told), Decided { clear: vec![], next: Some(0) });
        }
        let next = SweepTask { look: 11, ..told };
        assert_eq!(decide(&mut known, &next).clear, ["a"]);
    }

    #[test]
    fn a_time_that_is_to_come_and_a_look_that_was_not_yet_begin_anew() {
        for (look, since) in [(1, 5000), (7, 1)] {
            let marked = Known { unneeded_since: Some(since), look, ..Known::default() };
            let mut known = Folders { folders: [("a".to_owned(), marked)].into() };
            let told = SweepTask { look: 5, ..task(1000, &[], &[]) };
            assert_eq!(decide(&mut known, &told), Decided { clear: vec![], next: Some(GRACE) });
            let anew = Known { unneeded_since: Some(1000), look: 5, ..Known::default() };
            assert_eq!(known.folders["a"], anew);
        }
    }

    #[test]
    fn what_is_no_name_of_a_folder_is_forgotten() {
        let marked = || Known { unneeded_since: Some(0), ..Known::default() };
        let names = ["", ".", "..", "a/b", "../other", "/", "a\0", "a"];
        let mut known = Folders { folders: names.map(|name| (name.to_owned(), marked())).into() };
        assert_eq!(decide(&mut known, &task(1000, &[], &[])).clear, ["a"]);
        assert_eq!(known.folders.len(), 1);
    }

    #[test]
    fn without_artifacts_it_is_only_noted_which_folders_there_are() {
        let mut known = Folders::default();
        for now in [0, 1000, 2000] {
            let only = SweepTask { artifacts: None, ..task(now, &["a"], &[]) };
            assert_eq!(decide(&mut known, &SweepTask { kept: vec![], ..only.clone() }), Decided::default());
            decide(&mut known, &only);
        }
        assert_eq!(known.folders, BTreeMap::from([("a".to_owned(), Known::default())]));
    }

    #[test]
    fn a_file_is_held_with_its_folder_and_a_manifest_with_what_it_tells_of() {
        for (held, file, expected) in [
            ("a/s/outputs/m", "a/s/outputs/m", true),
            ("a/s/outputs/m", "a/s/outputs/m/model.onnx", true),
            ("a/s/outputs/m", "a/s/outputs/more", false),
            ("a/s/outputs/m", "a/s/attempts/1/log/0", false),
            ("a/s/outputs/m", "a/s/manifest.json", true),
            ("a/s/items/3/outputs/m", "a/s/items/3/manifest.json", true),
            ("a/s/outputs/m", "a/t/manifest.json", false),
            ("a/s", "a/s/attempts/1/checkpoint/x", true),
            ("a", "a/s/x", true),
            ("", "a/s/x", true),
        ] {
            assert_eq!(is_held([&held.to_owned()], file), expected, "{held} {file}");
        }
    }
}
