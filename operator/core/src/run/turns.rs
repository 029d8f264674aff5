//! `concurrency`: which runs of a pipeline may run. Every run decides for itself, from the runs that there are: a slot is nothing but a run
//! that has begun and not ended, and does not only wait for people, so none is ever lost.

use std::cmp::Reverse;

use k8s_openapi::jiff::Timestamp;

use super::{Observed, again, approve, control, hold, locks};
use crate::api::{Concurrency, ConcurrencyPolicy, MLPipeline, MLPipelineRun, MLPipelineRunStatus};

/// A run tells its place up to here; further back it would be a write for every run that ends.
pub const FRONT: usize = 10;
/// So many names are told.
const NAMED: usize = 3;

/// Where a run stands among the runs of its pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Free,
    Waits(String),
    Forbidden(String),
    Replaced(String),
}

/// How a run stands to the slots of its pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// It has not begun.
    Unbegun,
    /// It has begun, and holds none while it only waits for people.
    Left,
    /// It has begun.
    Held,
}

/// Another run of the same pipeline that has not ended, as far as one looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    /// Since when it wants to run.
    pub since: Option<Timestamp>,
    /// Its own, if it has one.
    pub priority: Option<i32>,
    pub slot: Slot,
    /// It would begin, or go on, if there was a place.
    pub wants: bool,
    /// It was checked, and says that it waits.
    pub waits: bool,
    /// It waits for a lock: it does not begin before it has that, although it is first.
    pub locked: bool,
}

impl Peer {
    /// Nothing for a run that has ended.
    #[must_use]
    pub fn of(run: &MLPipelineRun) -> Option<Self> {
        let status = run.status.as_ref();
        let again = again::asked(run).is_some();
        if again::ended(run).is_some() {
            return None;
        }
        let started = status.filter(|status| !again && status.start_time.is_some());
        let slot = match started {
            None => Slot::Unbegun,
            Some(status) if approve::is_parked(&status.stages) => Slot::Left,
            Some(_) => Slot::Held,
        };
        // It is about to say so.
        let since = if again { Some(Timestamp::MAX) } else { since(run) };
        let goes_on =
            |status: &MLPipelineRunStatus| hold::is_queued(status) || approve::is_answered(run, &status.stages);
        let asks = match slot {
            Slot::Unbegun => true,
            Slot::Left => started.is_some_and(goes_on),
            Slot::Held => false,
        };
        let wants = asks && run.spec.cancel.is_none() && !control::is_suspended(run);
        let waits = wants && slot == Slot::Unbegun && !again && status.is_some_and(hold::is_held);
        let name = run.metadata.name.clone().unwrap_or_default();
        let locked = slot == Slot::Unbegun && status.is_some_and(locks::run_waits);
        Some(Self { name, since, priority: run.spec.priority, slot, wants, waits, locked })
    }

    /// It holds a slot.
    #[must_use]
    pub fn begun(&self) -> bool {
        self.slot == Slot::Held
    }

    /// The highest priority is first, then the oldest; of two at the same time the first by name.
    #[must_use]
    pub fn rank(&self, concurrency: Option<&Concurrency>) -> Rank<'_> {
        // Only a queue lets others wait: where newer ones replace older ones, or are refused, age decides.
        let queue = concurrency.filter(|found| found.policy == ConcurrencyPolicy::Queue);
        let priority = queue.map(|found| self.priority.or(found.priority).unwrap_or_default());
        (Reverse(priority.unwrap_or_default()), self.since, &self.name)
    }
}

/// Since when a run wants to run.
pub(super) fn since(run: &MLPipelineRun) -> Option<Timestamp> {
    let retried = run.status.as_ref().and_then(|status| status.retry_time.as_ref());
    retried.or(run.metadata.creation_timestamp.as_ref()).map(|time| time.0)
}

pub type Rank<'a> = (Reverse<i32>, Option<Timestamp>, &'a str);

/// The priority of a run of this pipeline.
#[must_use]
pub fn priority(run: &MLPipelineRun, pipeline: Option<&MLPipeline>) -> i32 {
    let of_pipeline = || pipeline?.spec.concurrency.as_ref()?.priority;
    run.spec.priority.or_else(of_pipeline).unwrap_or_default()
}

/// Whether there is a bound at all.
#[must_use]
pub fn bound(concurrency: Option<&Concurrency>) -> Option<(ConcurrencyPolicy, usize)> {
    let Concurrency { policy, max, priority: _ } = concurrency?;
    let max = usize::try_from(max.unwrap_or(1)).unwrap_or(usize::MAX);
    (*policy != ConcurrencyPolicy::Allow).then_some((*policy, max))
}

/// The place of a run, in one walk over the others.
pub(super) fn place(run: &MLPipelineRun, observed: &Observed) -> Place {
    let pipeline = observed.pipeline.as_deref().filter(|_| run.spec.pipeline_ref.is_some());
    let concurrency = pipeline.and_then(|found| found.spec.concurrency.as_ref());
    let Some((policy, max)) = bound(concurrency) else { return Place::Free };
    let Some(this) = Peer::of(run) else { return Place::Free };
    let mine = this.rank(concurrency);
    let begun: Vec<Rank<'_>> =
        observed.peers.iter().filter(|peer| peer.begun()).map(|peer| peer.rank(concurrency)).collect();
    let back = this.slot == Slot::Left;
    // One that comes back from people may hold the very lock.
    let wants = |peer: &Peer| peer.wants && !(back && peer.locked);
    let mut waiting: Vec<Rank<'_>> =
        observed.peers.iter().filter(|peer| wants(peer)).map(|peer| peer.rank(concurrency)).collect();
    // One that comes back from people has its turn, whatever the policy is: it replaces nobody, and nobody it. Where newer ones replace
    // older ones it comes behind all that wait to begin, or they would take its place as soon as it has one.
    if back && policy == ConcurrencyPolicy::Replace {
        let before = |peer: &&Peer| wants(peer) && (peer.slot == Slot::Unbegun || peer.rank(concurrency) < mine);
        waiting = observed.peers.iter().filter(before).map(|peer| peer.rank(concurrency)).collect();
    } else if policy == ConcurrencyPolicy::Replace {
        // One that may yet be refused takes nobody's place.
        let newer = observed.peers.iter().filter(|peer| (peer.begun() || peer.waits) && peer.rank(concurrency) > mine);
        let mut newer: Vec<_> = newer.map(|peer| peer.rank(concurrency)).collect();
        if newer.len() >= max {
            newer.sort_unstable();
            return Place::Replaced(newer[newer.len() - max].2.to_owned());
        }
        // What is older than the newest ones does not begin either.
        waiting.sort_unstable();
        let stay = max.saturating_sub(1 + newer.len());
        let older = waiting.iter().filter(|rank| **rank < mine).count();
        waiting.retain(|rank| *rank < mine);
        waiting.drain(..older.saturating_sub(stay));
    } else {
        waiting.retain(|rank| *rank < mine);
    }
    let policy = if back { ConcurrencyPolicy::Queue } else { policy };
    if this.begun() || begun.len() + waiting.len() < max {
        return Place::Free;
    }
    let name = pipeline.and_then(|found| found.metadata.name.as_deref()).unwrap_or_default();
    let free = max.saturating_sub(begun.len());
    let place = waiting.len() + 1 - free.min(waiting.len());
    if place > FRONT && policy == ConcurrencyPolicy::Queue {
        return Place::Waits(format!("more than {FRONT} runs of MLPipeline {name} wait before it"));
    }
    waiting.sort_unstable();
    waiting.truncate(free);
    let mut before: Vec<&str> = begun.iter().chain(&waiting).map(|(_, _, name)| *name).collect();
    before.sort_unstable();
    let before = listed(&before);
    match policy {
        ConcurrencyPolicy::Forbid => {
            Place::Forbidden(format!("MLPipeline {name} runs {max} at a time, and there is {before}"))
        }
        ConcurrencyPolicy::Replace => Place::Waits(format!("waits for the end of {before}, which it replaces")),
        ConcurrencyPolicy::Queue | ConcurrencyPolicy::Allow => {
            Place::Waits(format!("place {place} in the queue of MLPipeline {name}: waits for the end of {before}"))
        }
    }
}

pub(super) fn listed(names: &[&str]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let named = names[..names.len() - more].join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::api::MLPipeline;

    /// Runs in the order of their age; the bool says whether it has begun.
    fn places(concurrency: &Value, runs: &[(&str, bool)]) -> Vec<Place> {
        let spec = json!({ "stages": {}, "concurrency": concurrency });
        let pipeline = Arc::new(MLPipeline::new("p", serde_json::from_value(spec).unwrap()));
        let all: Vec<_> = runs
            .iter()
            .enumerate()
            .map(|(n, (name, begun))| {
                let time = format!("2026-01-01T00:00:{n:02}Z");
                let condition = json!({ "type": "Succeeded", "status": "Unknown", "reason": "Queued", "message": "", "lastTransitionTime": time });
                let start = if *begun { json!({ "startTime": time }) } else { json!({ "conditions": [condition] }) };
                let run: MLPipelineRun = serde_json::from_value(json!({
                    "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun",
                    "metadata": { "name": name, "creationTimestamp": time },
                    "spec": { "pipelineRef": { "name": "p" } }, "status": start,
                }))
                .unwrap();
                run
            })
            .collect();
        let others = |run: &MLPipelineRun| {
            all.iter().filter(|other| other.metadata.name != run.metadata.name).filter_map(Peer::of).collect()
        };
        let observed = |run| Observed { pipeline: Some(pipeline.clone()), peers: others(run), ..Observed::default() };
        all.iter().map(|run| place(run, &observed(run))).collect()
    }

    fn waits(place: usize, for_: &str) -> Place {
        Place::Waits(format!("place {place} in the queue of MLPipeline p: waits for the end of {for_}"))
    }

    #[test]
    fn a_queue_lets_the_oldest_begin_and_says_its_place_to_the_others() {
        let queue = |max: u32| json!({ "policy": "Queue", "max": max });
        let runs = [("a", true), ("b", false), ("c", false)];
        assert_eq!(places(&queue(1), &runs), [Place::Free, waits(1, "a"), waits(2, "a")]);
        assert_eq!(places(&queue(2), &runs), [Place::Free, Place::Free, waits(1, "a, b")]);
        assert_eq!(places(&queue(1), &[("b", false), ("a", false)]), [Place::Free, waits(1, "b")]);
        let names: Vec<_> = (0..15).map(|n| format!("r{n:02}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), name == "r00")).collect();
        let found = places(&queue(1), &many);
        assert_eq!(found[10], waits(10, "r00"));
        assert_eq!(found[11], found[14]);
        assert_eq!(found[11], Place::Waits("more than 10 runs of MLPipeline p wait before it".into()));
        let five = places(&queue(5), &[("a", true), ("b", true), ("c", true), ("d", true), ("e", true), ("f", false)]);
        assert_eq!(five[5], waits(1, "a, b, c and 2 more"));
    }

    #[test]
    fn a_queue_lets_the_higher_priority_go_first_and_ends_nothing_that_runs() {
        let peer = |name: &str, second: i64, priority: Option<i32>, slot| Peer {
            name: name.into(),
            since: Some(Timestamp::from_second(second).unwrap()),
            priority,
            slot,
            wants: slot == Slot::Unbegun,
            waits: slot == Slot::Unbegun,
            locked: false,
        };
        let place_of = |policy: &str, own: &Value, peers: &[Peer]| {
            let concurrency = json!({ "policy": policy, "max": 1, "priority": 10 });
            let spec = json!({ "stages": {}, "concurrency": concurrency });
            let pipeline = Some(Arc::new(MLPipeline::new("p", serde_json::from_value(spec).unwrap())));
            let run: MLPipelineRun = serde_json::from_value(json!({
                "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun",
                "metadata": { "name": "mine", "creationTimestamp": "1970-01-01T00:00:05Z" },
                "spec": { "pipelineRef": { "name": "p" }, "priority": own },
            }))
            .unwrap();
            place(&run, &Observed { pipeline, peers: peers.to_vec(), ..Observed::default() })
        };
        let old = || peer("old", 1, Some(10), Slot::Unbegun);
        let (low, high) = (peer("low", 1, Some(9), Slot::Unbegun), peer("high", 9, Some(11), Slot::Unbegun));
        assert_eq!(place_of("Queue", &Value::Null, std::slice::from_ref(&low)), Place::Free, "10 is the pipeline's");
        assert_eq!(place_of("Queue", &Value::Null, &[old(), low, high]), waits(2, "high"));
        assert_eq!(place_of("Queue", &json!(11), &[old()]), Place::Free);
        assert_eq!(place_of("Queue", &json!(99), &[peer("a", 1, None, Slot::Held)]), waits(1, "a"));
        let young = peer("young", 9, Some(-5), Slot::Unbegun);
        assert_eq!(place_of("Replace", &json!(99), &[young]), Place::Replaced("young".into()), "the newest counts");
    }

    #[test]
    fn forbid_ends_what_finds_no_place() {
        let found = places(&json!({ "policy": "Forbid" }), &[("a", true), ("b", false)]);
        assert_eq!(found, [Place::Free, Place::Forbidden("MLPipeline p runs 1 at a time, and there is a".into())]);
    }

    #[test]
    fn one_that_comes_back_from_people_waits_for_all_that_would_replace_it() {
        let spec = json!({ "stages": {}, "concurrency": { "policy": "Replace", "max": 1 } });
        let pipeline = Arc::new(MLPipeline::new("p", serde_json::from_value(spec).unwrap()));
        let run: MLPipelineRun = serde_json::from_value(json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun",
            "metadata": { "name": "a", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "pipelineRef": { "name": "p" }, "approvals": { "ask": { "decision": "Approve", "by": "b" } } },
            "status": { "startTime": "2026-01-01T00:00:01Z", "stages": { "ask": {
                "state": "Pending", "reason": "WaitingForApproval", "startTime": "2026-01-01T00:00:01Z",
                "approval": { "until": "2027-01-01T00:00:00Z" },
            } } },
        }))
        .unwrap();
        assert_eq!(Peer::of(&run).unwrap().slot, Slot::Left);
        let newer = |slot, wants| Peer {
            name: "c".into(),
            since: Some(Timestamp::MAX),
            priority: None,
            slot,
            wants,
            waits: wants,
            locked: false,
        };
        let placed = |peers| place(&run, &Observed { pipeline: Some(pipeline.clone()), peers, ..Observed::default() });
        assert_eq!(placed(vec![]), Place::Free);
        assert_eq!(placed(vec![newer(Slot::Unbegun, true)]), waits(1, "c"));
        assert_eq!(placed(vec![newer(Slot::Held, false)]), waits(1, "c"));
        let locked = Peer { locked: true, ..newer(Slot::Unbegun, true) };
        assert_eq!(placed(vec![locked]), Place::Free, "it may wait for a lock that this one holds");
    }

    #[test]
    fn replace_keeps_the_newest() {
        let replace = |max: u32| json!({ "policy": "Replace", "max": max });
        let by = |name: &str| Place::Replaced(name.to_owned());
        let found = places(&replace(1), &[("a", true), ("b", false), ("c", false)]);
        assert_eq!(found[..2], [by("c"), by("c")]);
        assert_eq!(found[2], Place::Waits("waits for the end of a, which it replaces".into()));
        let found = places(&replace(2), &[("a", true), ("b", true), ("c", false)]);
        assert_eq!(found[0], by("b"));
        assert_eq!(found[1], Place::Free);
        assert_eq!(places(&replace(1), &[("b", false)]), [Place::Free]);
        assert_eq!(
            places(&replace(2), &[("a", false), ("b", false), ("c", false)]),
            [by("b"), Place::Free, Place::Free]
        );
    }
}
