//! What the pods of a revision counted, added up. One that has gone counts with its last answer until the window has passed over it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use millrace_contract::{Counted, DriftCounts};

use crate::duration::since;

/// Answers that are kept at most: each is up to some hundred KiB, and the pods are a tenant's.
const PODS: usize = 16;

/// What was heard of one revision.
#[derive(Clone, Debug)]
pub struct Heard {
    began: Timestamp,
    pods: BTreeMap<String, (Timestamp, DriftCounts)>,
    answered: bool,
    /// Pods were asked, and none has ever answered.
    silent: bool,
}

impl Heard {
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { began: now, pods: BTreeMap::new(), answered: false, silent: false }
    }

    /// What the pod of this uid says now.
    pub fn heard(&mut self, pod: &str, counts: DriftCounts, now: Timestamp) {
        if self.pods.len() >= PODS && !self.pods.contains_key(pod) {
            let oldest = self.pods.iter().min_by_key(|(_, (at, _))| *at).map(|(pod, _)| pod.clone());
            self.pods.remove(&oldest.unwrap_or_default());
        }
        self.silent = false;
        self.answered = true;
        self.pods.insert(pod.to_owned(), (now, counts));
    }

    /// A pod was asked and gave no answer.
    pub fn missed(&mut self) {
        self.silent = !self.answered;
    }

    /// Forgets what is older than the window.
    pub fn forget(&mut self, window: Duration, now: Timestamp) {
        self.pods.retain(|_, (at, _)| since(*at, now) < window);
    }

    /// The sum over all pods. `None`: none has answered, and it is too early to say that none has counted anything, or pods
    /// were asked in vain.
    #[must_use]
    pub fn sum(&self, window: Duration, now: Timestamp) -> Option<DriftCounts> {
        let fresh = || self.pods.values().filter(|(at, _)| since(*at, now) < window);
        let Some((_, newest)) = fresh().max_by_key(|(at, _)| *at) else {
            return (!self.silent && since(self.began, now) >= window).then(DriftCounts::default);
        };
        let mut others = fresh().map(|(_, counts)| counts).filter(|counts| !std::ptr::eq(*counts, newest));
        let mut sum = newest.clone();
        // Pods of a revision have one profile. What has another one cannot be added.
        others.by_ref().filter(|other| fits(newest, other)).for_each(|other| add(&mut sum, other));
        Some(sum)
    }
}

fn fits(a: &DriftCounts, b: &DriftCounts) -> bool {
    let same = |a: &Counted, b: &Counted| {
        a.name == b.name
            && a.kind == b.kind
            && a.reference == b.reference
            && a.partial == b.partial
            && a.reference_probabilities == b.reference_probabilities
    };
    let predictions = match (&a.predictions, &b.predictions) {
        (None, None) => true,
        (Some(a), Some(b)) => same(a, b),
        _ => false,
    };
    predictions
        && a.nothing == b.nothing
        && a.features.len() == b.features.len()
        && a.features.iter().zip(&b.features).all(|(a, b)| same(a, b))
}

fn add(sum: &mut DriftCounts, other: &DriftCounts) {
    sum.rows = sum.rows.saturating_add(other.rows);
    sum.outliers = sum.outliers.saturating_add(other.outliers);
    let all = sum.features.iter_mut().chain(&mut sum.predictions);
    for (sum, other) in all.zip(other.features.iter().chain(&other.predictions)) {
        sum.strange = sum.strange.saturating_add(other.strange);
        let counts = sum.counts.iter_mut().zip(&other.counts);
        let probabilities = sum.probabilities.iter_mut().zip(&other.probabilities);
        counts.chain(probabilities).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
    }
}
