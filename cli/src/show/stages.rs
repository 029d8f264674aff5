//! The stages of a run as a tree: each under the last of those that it comes after.

use std::collections::BTreeMap;
use std::fmt::Write;

use anstyle::Style;
use k8s_openapi::jiff::Timestamp;
use millrace_core::api::{MLPipelineRun, StageState, StageStatus, StageUsage};
use millrace_core::duration;
use millrace_core::pipeline::Frozen;

use super::style::{BAD, DIM, GOOD, MOVES, STRONG, WAITS, paint};
use super::table::{Cell, table};
use super::{brief, condition, lasted};
use crate::advise::mebibytes;

/// The longest reason in a row.
const WHY: usize = 140;
/// Reason of a stage that waits for a person.
const ASKS: &str = "WaitingForApproval";
/// Reasons of a run that begins nothing yet.
const HELD: [&str; 2] = ["Queued", "Suspended"];

/// Name under name, by what the run was frozen with. Without that it is a list in the order of time. `options` are those that a command which is told
/// takes to find the run.
pub fn tree(run: &MLPipelineRun, frozen: Option<&Frozen>, now: Timestamp, options: &str) -> String {
    let status = run.status.clone().unwrap_or_default();
    let mut text = head(run, now);
    if status.stages.is_empty() {
        return text;
    }
    let order = Order::new(&status.stages, frozen);
    let mut rows = Vec::new();
    order.rows(None, false, "", &mut rows);
    let last = rows.len();
    order.rows(None, true, "", &mut rows);
    let cells = rows.iter().enumerate().map(|(index, (prefix, name))| {
        let stage = &status.stages[*name];
        let (mark, style) = mark(stage.state);
        let after = if index >= last { " (finally)" } else { "" };
        let tries = Some(tries(stage)).filter(|tries| *tries > 1).map(|tries| tries.to_string()).unwrap_or_default();
        let time = lasted(stage.start_time.as_ref(), stage.completion_time.as_ref(), now);
        let why = Cell::new(
            why(stage, &order.waits_for(name), run.spec.suspend, now),
            if stage.state == StageState::Failed { BAD } else { DIM },
        );
        [
            format!("{prefix}{mark} {name}{after}").into(),
            Cell::new(format!("{:?}", stage.state), style),
            time.into(),
            tries.into(),
            why,
        ]
    });
    text.push_str(&table("", ["STAGE", "STATE", "TIME", "TRIES", "WHY"], cells));
    if let Some(used) = &status.usage {
        let _ = writeln!(text, "{}", paint(&used_in_words(used), DIM));
    }
    let asked = status.stages.iter().filter(|(_, stage)| stage.reason.as_deref() == Some(ASKS));
    for (name, _) in asked.filter(|(_, stage)| !stage.state.ended()) {
        let run = run.metadata.name.as_deref().unwrap_or_default();
        let _ = writeln!(text, "{}", ask(run, name, options));
    }
    text
}

/// How to answer a stage that waits for a person.
fn ask(run: &str, stage: &str, options: &str) -> String {
    format!("{} kubectl millrace approve {run} {stage}{options}   or reject", paint("?", WAITS))
}

/// How often a stage was tried. What collects the results of items counts as an attempt of the stage, and is none of its items.
fn tries(stage: &StageStatus) -> u32 {
    let collects = stage.items.as_ref().is_some_and(|items| items.collecting);
    stage.attempts.saturating_sub(u32::from(collects))
}

/// What a run used: `used 0.25 CPU hours, 3.20 h of nvidia.com/gpu; a pod had 812Mi at most`.
fn used_in_words(used: &StageUsage) -> String {
    let devices = used.device_seconds.iter().map(|(name, seconds)| format!(", {:.2} h of {name}", seconds / 3600.0));
    let cpu = used.cpu_seconds;
    let cpu = if cpu < 360.0 { format!("{cpu:.1} CPU seconds") } else { format!("{:.2} CPU hours", cpu / 3600.0) };
    let memory = mebibytes(used.peak_memory_bytes as f64);
    format!("used {cpu}{}; a pod had {memory} at most", devices.collect::<String>())
}

/// One stage in a line.
pub fn line(name: &str, stage: &StageStatus) -> String {
    let (mark, style) = mark(stage.state);
    let tries =
        Some(tries(stage)).filter(|tries| *tries > 1).map(|tries| format!(", attempt {tries}")).unwrap_or_default();
    let why = said(stage, |text| text.lines().next().unwrap_or_default().trim().to_owned());
    let why = if why.is_empty() { why } else { format!(": {why}") };
    format!("{mark} {name} {}{tries}{why}", paint(&format!("{:?}", stage.state), style))
}

/// What the stages of a run wait for, each with its name, and what the run itself waits for, with none: lines for whoever follows it.
pub fn waits(run: &MLPipelineRun, options: &str) -> Vec<(String, String)> {
    let Some(status) = &run.status else { return Vec::new() };
    let name = run.metadata.name.as_deref().unwrap_or_default();
    let held = condition(&status.conditions, "Succeeded").filter(|c| HELD.contains(&c.reason.as_str()));
    let held = held.map(|c| {
        let message = c.message.lines().next().unwrap_or_default();
        let why = if message.is_empty() { String::new() } else { format!(": {message}") };
        (String::new(), format!("{} {name} {}{why}", paint("◌", WAITS), c.reason))
    });
    let stages = status.stages.iter().filter(|(_, stage)| match stage.state {
        StageState::Waiting | StageState::Pending | StageState::BackingOff => stage.reason.is_some(),
        StageState::Running | StageState::Succeeded | StageState::Failed | StageState::Skipped => false,
    });
    let stages = stages.map(|(stage, status)| {
        let asks = status.reason.as_deref() == Some(ASKS);
        let how = if asks { format!("\n{}", ask(name, stage, options)) } else { String::new() };
        (stage.clone(), format!("{}{how}", line(stage, status)))
    });
    held.into_iter().chain(stages).collect()
}

fn head(run: &MLPipelineRun, now: Timestamp) -> String {
    let status = run.status.clone().unwrap_or_default();
    let name = paint(run.metadata.name.as_deref().unwrap_or_default(), STRONG);
    let succeeded = condition(&status.conditions, "Succeeded");
    let style = match succeeded.map(|c| c.status.as_str()) {
        Some("True") => GOOD,
        Some("False") => BAD,
        _ => MOVES,
    };
    let word = paint(succeeded.map_or("the operator has not seen it yet", |c| c.reason.as_str()), style);
    let progress = status.progress.unwrap_or_default();
    let time = lasted(status.start_time.as_ref(), status.completion_time.as_ref(), now);
    let of = run.spec.pipeline_ref.as_ref().map(|of| format!("of pipeline {}", of.name)).unwrap_or_default();
    let parts = [name, of, word, progress, time];
    let mut text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ");
    text.push('\n');
    if let Some(said) = succeeded.filter(|c| c.status == "False" || status.stages.is_empty()).map(|c| &c.message) {
        for line in said.lines().take(8) {
            let _ = writeln!(text, "  {line}");
        }
    }
    // A control that nothing can be done with: the run itself goes on.
    let goes_on = !status.stages.is_empty() && succeeded.is_some_and(|c| c.status != "False");
    let accepted = condition(&status.conditions, "Accepted").filter(|c| c.status == "False");
    if let Some(said) = accepted.filter(|_| goes_on) {
        for line in said.message.lines().take(8) {
            let _ = writeln!(text, "  {}", paint(line, BAD));
        }
    }
    text
}

fn mark(state: StageState) -> (&'static str, Style) {
    match state {
        StageState::Waiting => ("○", DIM),
        StageState::Pending => ("◌", WAITS),
        StageState::Running => ("●", MOVES),
        StageState::BackingOff => ("↻", WAITS),
        StageState::Succeeded => ("✔", GOOD),
        StageState::Failed => ("✖", BAD),
        StageState::Skipped => ("–", DIM),
    }
}

fn why(stage: &StageStatus, waits_for: &[&str], suspended: bool, now: Timestamp) -> String {
    let said = said(stage, |text| brief(text, WHY));
    let next = stage.next_attempt_time.as_ref().filter(|_| stage.state == StageState::BackingOff);
    let next = next.map(|at| format!("next attempt in {}", duration::format(duration::since(now, at.0))));
    let waits = (stage.state == StageState::Waiting && said.is_empty() && !waits_for.is_empty())
        .then(|| format!("after {}", waits_for.join(", ")));
    let idle = matches!(stage.state, StageState::Waiting | StageState::Pending) && said.is_empty() && waits.is_none();
    let held = (idle && suspended).then(|| "the run is suspended: nothing new begins".to_owned());
    [next.unwrap_or_default(), waits.or(held).unwrap_or_default(), said]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

/// Reason and message, or what it made.
fn said(stage: &StageStatus, first: impl Fn(&str) -> String) -> String {
    let reason = stage.reason.as_deref().unwrap_or_default();
    let message = first(stage.message.as_deref().unwrap_or_default());
    match (reason, message.as_str()) {
        ("", "") => stage.model_version.clone().unwrap_or_default(),
        ("", message) => match stage.model_version.as_ref().filter(|_| stage.state == StageState::Succeeded) {
            Some(version) => format!("{version}; {message}"),
            None => message.to_owned(),
        },
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

/// Who stands under whom.
struct Order<'a> {
    stages: &'a BTreeMap<String, StageStatus>,
    frozen: Option<&'a Frozen>,
    /// How many stand above it at most.
    depths: BTreeMap<&'a str, usize>,
    parents: BTreeMap<&'a str, Option<&'a str>>,
}

impl<'a> Order<'a> {
    fn new(stages: &'a BTreeMap<String, StageStatus>, frozen: Option<&'a Frozen>) -> Self {
        let mut order = Self { stages, frozen, depths: BTreeMap::new(), parents: BTreeMap::new() };
        for name in stages.keys() {
            order.measure(name);
        }
        order.parents = stages.keys().map(|name| (name.as_str(), order.parent(name))).collect();
        order
    }

    fn needs(&self, name: &str) -> &'a [String] {
        self.frozen.and_then(|frozen| frozen.stages.get(name)).map(|stage| stage.needs.as_slice()).unwrap_or_default()
    }

    fn finally(&self, name: &str) -> bool {
        self.frozen.and_then(|frozen| frozen.stages.get(name)).is_some_and(|stage| stage.finally)
    }

    /// Of what it needs, that which itself comes last.
    fn parent(&self, name: &str) -> Option<&'a str> {
        let beside = self.needs(name).iter().filter(|need| self.finally(need) == self.finally(name));
        beside
            .filter(|need| self.stages.contains_key(*need))
            .max_by_key(|need| self.depths.get(need.as_str()))
            .map(String::as_str)
    }

    /// A pipeline has no circles. Each is measured once: there may be many ways to the same one.
    fn measure(&mut self, name: &'a str) -> usize {
        if let Some(depth) = self.depths.get(name) {
            return *depth;
        }
        let depth = self.needs(name).iter().map(|need| 1 + self.measure(need)).max().unwrap_or_default();
        self.depths.insert(name, depth);
        depth
    }

    fn waits_for(&self, name: &str) -> Vec<&'a str> {
        let open = |need: &&String| self.stages.get(*need).is_some_and(|stage| !stage.state.ended());
        self.needs(name).iter().filter(open).map(String::as_str).collect()
    }

    fn rows(&self, parent: Option<&str>, finally: bool, prefix: &str, rows: &mut Vec<(String, &'a str)>) {
        let under = self.parents.iter().filter(|(name, above)| **above == parent && self.finally(name) == finally);
        let mut children: Vec<&str> = under.map(|(name, _)| *name).collect();
        let begun = |name: &&str| self.stages[*name].start_time.as_ref().map(|time| time.0);
        children.sort_by_key(|name| (begun(name).is_none(), begun(name), *name));
        for (index, name) in children.iter().enumerate() {
            let last = index + 1 == children.len();
            let (branch, below) = match (parent.is_none(), last) {
                (true, _) => ("", ""),
                (false, true) => ("└─ ", "   "),
                (false, false) => ("├─ ", "│  "),
            };
            rows.push((format!("{prefix}{branch}"), name));
            self.rows(Some(name), finally, &format!("{prefix}{below}"), rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::style::stripped;
    use super::*;

    fn run() -> MLPipelineRun {
        serde_json::from_value(json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun", "metadata": { "name": "r" },
            "spec": { "pipelineRef": { "name": "p" } },
            "status": {
                "startTime": "2026-01-01T00:00:00Z", "progress": "2/6",
                "conditions": [{
                    "type": "Succeeded", "status": "Unknown", "reason": "Running", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"
                }],
                "stages": {
                    "ingest": { "state": "Succeeded", "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:04Z", "attempts": 1 },
                    "validate": { "state": "Succeeded", "startTime": "2026-01-01T00:00:05Z", "completionTime": "2026-01-01T00:00:07Z", "attempts": 1 },
                    "prepare": {
                        "state": "BackingOff", "startTime": "2026-01-01T00:00:04Z", "attempts": 2, "nextAttemptTime": "2026-01-01T00:00:30Z",
                        "reason": "Error", "message": "no such column\nmore",
                    },
                    "train": { "state": "Waiting" },
                    "report": { "state": "Waiting" },
                    "tell": { "state": "Waiting" },
                },
            },
        }))
        .unwrap()
    }

    fn frozen() -> Frozen {
        let stage = |needs: &[&str], finally: bool| json!({ "needs": needs, "finally": finally, "kind": { "register": { "model": "m", "from": "a.b" } } });
        serde_json::from_value(json!({ "params": {}, "stages": {
            "ingest": stage(&[], false), "validate": stage(&["ingest"], false), "prepare": stage(&["ingest"], false),
            "train": stage(&["prepare"], false), "report": stage(&["ingest", "train", "validate"], false), "tell": stage(&["train"], true),
        } }))
        .unwrap()
    }

    #[test]
    fn a_stage_stands_under_the_last_of_those_that_it_comes_after() {
        let now = "2026-01-01T00:00:20Z".parse().unwrap();
        let text = stripped(&tree(&run(), Some(&frozen()), now, ""));
        let expected = "\
r  of pipeline p  Running  2/6  20s
STAGE                  STATE        TIME   TRIES   WHY
✔ ingest               Succeeded    4s
├─ ↻ prepare           BackingOff   16s    2       next attempt in 10s; Error: no such column
│  └─ ○ train          Waiting                     after prepare
│     └─ ○ report      Waiting                     after train
└─ ✔ validate          Succeeded    2s
○ tell (finally)       Waiting                     after train
";
        assert_eq!(
            text.split_whitespace().collect::<Vec<_>>(),
            expected.split_whitespace().collect::<Vec<_>>(),
            "{text}"
        );
        assert!(text.contains("\n├─ ↻ prepare"), "{text}");
        assert!(text.contains("\n│     └─ ○ report"), "{text}");
    }

    #[test]
    fn a_version_is_told_with_what_became_of_older_ones() {
        let stage = |message: Option<&str>| StageStatus {
            state: StageState::Succeeded,
            model_version: Some("m-v7".into()),
            message: message.map(str::to_owned),
            ..StageStatus::default()
        };
        assert_eq!(said(&stage(None), str::to_owned), "m-v7");
        assert_eq!(
            said(&stage(Some("older versions are deleted: m-v1")), str::to_owned),
            "m-v7; older versions are deleted: m-v1"
        );
    }

    #[test]
    fn a_stage_that_waits_for_a_person_says_how_to_answer() {
        let mut run = run();
        let asked = json!({
            "state": "Pending", "reason": "WaitingForApproval", "approval": {},
            "message": "Ship it? (gives up at 10:21Z)\nkubectl millrace approve r train -n ns, or reject",
        });
        run.status.as_mut().unwrap().stages.insert("train".into(), serde_json::from_value(asked).unwrap());
        let text = stripped(&tree(&run, Some(&frozen()), "2026-01-01T00:00:20Z".parse().unwrap(), " -n ns"));
        assert!(text.contains("WaitingForApproval: Ship it? (gives up at 10:21Z)\n"), "{text}");
        assert!(text.ends_with("? kubectl millrace approve r train -n ns   or reject\n"), "{text}");
        let accepted = json!({
            "type": "Accepted", "status": "False", "reason": "UnknownApproval", "message": "spec.approvals.trian: no",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        run.status.as_mut().unwrap().conditions.push(serde_json::from_value(accepted).unwrap());
        let text = stripped(&tree(&run, None, "2026-01-01T00:00:20Z".parse().unwrap(), ""));
        assert_eq!(text.lines().nth(1), Some("  spec.approvals.trian: no"));
    }

    #[test]
    fn whoever_follows_is_told_what_is_waited_for_and_how_to_answer() {
        let mut run = run();
        let mut wait = |stage: serde_json::Value| {
            run.status.as_mut().unwrap().stages.insert("train".into(), serde_json::from_value(stage).unwrap());
            let waits = waits(&run, " -n ns").into_iter();
            waits.filter(|(stage, _)| stage == "train").map(|(_, line)| stripped(&line)).collect::<Vec<_>>()
        };
        let claim = r#"persistentvolumeclaim "nope" not found (gives up at 09:47Z)"#;
        let unplaced = json!({ "state": "Pending", "reason": "Unschedulable", "message": claim });
        assert_eq!(wait(unplaced), [format!("◌ train Pending: Unschedulable: {claim}")]);
        assert!(wait(json!({ "state": "Pending" })).is_empty(), "its pod comes");
        assert!(wait(json!({ "state": "Running", "reason": "r", "message": "m" })).is_empty());
        let asked = json!({ "state": "Pending", "reason": "WaitingForApproval", "message": "Ship it?\nmore" });
        let told = wait(asked).concat();
        assert!(told.ends_with("Ship it?\n? kubectl millrace approve r train -n ns   or reject"), "{told}");
        let status = run.status.as_mut().unwrap();
        (status.conditions[0].reason, status.conditions[0].message) = ("Queued".into(), "r-1 goes first".into());
        assert_eq!(stripped(&waits(&run, "")[0].1), "◌ r Queued: r-1 goes first");
    }

    #[test]
    fn what_collects_is_no_try_of_the_items() {
        let of = |attempts: u32, collecting: bool| {
            let items = json!({ "total": 3, "collecting": collecting });
            tries(&serde_json::from_value(json!({ "state": "Running", "attempts": attempts, "items": items })).unwrap())
        };
        assert_eq!((of(1, false), of(2, true), of(2, false), of(3, true), of(0, true)), (1, 1, 2, 2, 0));
    }

    #[test]
    fn without_the_order_it_is_a_list_by_time() {
        let text = stripped(&tree(&run(), None, "2026-01-01T00:00:20Z".parse().unwrap(), ""));
        let names: Vec<_> = text.lines().skip(2).filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(names, ["ingest", "prepare", "validate", "report", "tell", "train"]);
    }

    #[test]
    fn a_run_that_was_refused_says_why() {
        let mut run = run();
        let status = run.status.as_mut().unwrap();
        status.stages.clear();
        status.conditions[0].status = "False".into();
        status.conditions[0].reason = "UnknownTemplate".into();
        status.conditions[0].message = "spec.stages.a.uses: no StageTemplate".into();
        let text = stripped(&tree(&run, None, "2026-01-01T00:00:20Z".parse().unwrap(), ""));
        assert_eq!(text.lines().nth(1), Some("  spec.stages.a.uses: no StageTemplate"));
    }
}
