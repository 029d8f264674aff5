//! What routers counted of the revisions of each rollout that is judged by it.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::Timestamp;
use millrace_core::analysis::{Measured, Step, Tally};
use millrace_routes::Stats;

use crate::key::Id;

/// By ModelDeployment.
#[derive(Default)]
pub struct Tallies(Mutex<HashMap<Id, Tally>>);

impl Tallies {
    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Tally>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the router of this uid says. Another step begins from nothing.
    pub fn heard(&self, id: &Id, step: &Step, router: &str, stats: &Stats, now: Timestamp) {
        let mut all = self.lock();
        let new = || Tally::new(step.clone(), now);
        let tally = all.entry(id.clone()).or_insert_with(new);
        if !tally.is_of(step) {
            *tally = new();
        }
        tally.heard(router, &id.name, stats, now);
    }

    pub fn measured(&self, id: &Id) -> Option<Measured> {
        self.lock().get(id).map(Tally::measured)
    }

    /// Forgets all ModelDeployments but these.
    pub fn keep(&self, watched: &HashSet<Id>) {
        self.lock().retain(|id, _| watched.contains(id));
    }
}
