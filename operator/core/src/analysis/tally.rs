//! What the routers counted of a rollout's two revisions since a step is in force: constant memory, however long it takes.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use millrace_routes::Stats;

use super::{Answers, Asks, Counts};
use crate::api::AnalysisMetric;
use crate::duration::since;

/// Counts are in two parts of this length at least: the older one is dropped when the newer one says enough by itself.
const PART: Duration = Duration::from_mins(5);

/// More routers than a namespace has: anybody may label a pod as one.
const ROUTERS: usize = 64;

/// Of what is counted. What was counted of another one says nothing of this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The generation of the routes with the step's weights.
    pub generation: u64,
    pub step: i32,
    pub candidate: String,
    pub stable: String,
    pub asked: Vec<Asked>,
    /// What is asked of Prometheus, by analysis.
    pub asks: BTreeMap<String, Asks>,
}

/// What a part has to have to say enough by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub metric: AnalysisMetric,
    pub samples: u64,
    /// Of the promoted revision as well.
    pub compares: bool,
}

impl Asked {
    fn is_met(&self, [candidate, stable]: &Pair) -> bool {
        let enough = |counts: &Counts| counts.samples(self.metric) >= self.samples;
        enough(candidate) && (!self.compares || enough(stable))
    }
}

/// Sums over all routers.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    pub step: Step,
    /// Since when they are counted: an operator that has just begun knows of nothing before.
    pub since: Timestamp,
    pub candidate: Counts,
    pub stable: Counts,
    /// What Prometheus said, by query.
    pub answers: Answers,
}

/// The sums of one rollout, and what is needed to take differences.
#[derive(Clone, Debug)]
pub struct Tally {
    step: Step,
    since: Timestamp,
    routers: BTreeMap<String, Last>,
    began: Timestamp,
    older: Pair,
    newer: Pair,
    answers: Answers,
}

type Pair = [Counts; 2];

/// What a router said last.
#[derive(Clone, Debug)]
struct Last {
    boot: u64,
    at_us: u64,
    counts: Pair,
}

impl Tally {
    #[must_use]
    pub fn new(step: Step, now: Timestamp) -> Self {
        let [older, newer] = Default::default();
        Self { step, since: now, routers: BTreeMap::new(), began: now, older, newer, answers: Answers::default() }
    }

    #[must_use]
    pub fn is_of(&self, step: &Step) -> bool {
        self.step == *step
    }

    /// A router's report. The first one with the routes of this step is where its differences begin.
    pub fn heard(&mut self, router: &str, model: &str, stats: &Stats, now: Timestamp) {
        let said = stats.models.get(model).filter(|said| said.generation == self.step.generation);
        let Some(said) = said else {
            self.routers.remove(router);
            return;
        };
        for id in self.step.asks.values().flat_map(Asks::ids) {
            self.answers.heard(router, id, said.queries.get(id), self.since, now);
        }
        if self.routers.len() >= ROUTERS {
            self.routers.clear();
        }
        let of = |revision: &String| said.revisions.get(revision).map(Counts::of).unwrap_or_default();
        let counts = [of(&self.step.candidate), of(&self.step.stable)];
        let last = Last { boot: stats.boot, at_us: stats.at_us, counts };
        let before = self.routers.insert(router.to_owned(), last.clone());
        let Some(before) = before.filter(|before| before.boot == last.boot && before.at_us <= last.at_us) else {
            return;
        };
        if since(self.began, now) >= PART && self.step.asked.iter().all(|asked| asked.is_met(&self.newer)) {
            self.older = std::mem::take(&mut self.newer);
            self.began = now;
        }
        for ((sum, new), old) in self.newer.iter_mut().zip(&last.counts).zip(&before.counts) {
            sum.add(&new.since(old));
        }
    }

    #[must_use]
    pub fn measured(&self) -> Measured {
        let [mut candidate, mut stable] = self.older.clone();
        candidate.add(&self.newer[0]);
        stable.add(&self.newer[1]);
        Measured { step: self.step.clone(), since: self.since, candidate, stable, answers: self.answers.clone() }
    }
}
