//! What model servers counted of the rows that they were asked for, where drift is watched.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::Timestamp;
use millrace_contract::DriftCounts;
use millrace_core::deployment::Monitored;
use millrace_core::drift::Heard;

use crate::key::Id;

/// By ModelDeployment.
#[derive(Default)]
pub struct Drifts(Mutex<HashMap<Id, Heard>>);

impl Drifts {
    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Heard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pods of this revision are asked. Another one begins from nothing.
    pub fn begin(&self, id: &Id, monitored: &Monitored, now: Timestamp) {
        let mut all = self.lock();
        let heard = all.entry(id.clone()).or_insert_with(|| Heard::new(&monitored.revision, now));
        if !heard.is_of(&monitored.revision) {
            *heard = Heard::new(&monitored.revision, now);
        }
        heard.forget(monitored.window, now);
    }

    /// What the pod of this uid says now.
    pub fn heard(&self, id: &Id, monitored: &Monitored, pod: &str, counts: DriftCounts, now: Timestamp) {
        if let Some(heard) = self.lock().get_mut(id).filter(|heard| heard.is_of(&monitored.revision)) {
            heard.heard(pod, counts, now);
        }
    }

    /// A pod was asked and gave no answer.
    pub fn missed(&self, id: &Id, monitored: &Monitored) {
        if let Some(heard) = self.lock().get_mut(id).filter(|heard| heard.is_of(&monitored.revision)) {
            heard.missed();
        }
    }

    pub fn sum(&self, id: &Id, monitored: &Monitored, now: Timestamp) -> Option<DriftCounts> {
        self.lock().get(id).filter(|heard| heard.is_of(&monitored.revision))?.sum(monitored.window, now)
    }

    /// Forgets all ModelDeployments but these.
    pub fn keep(&self, watched: &HashSet<&Id>) {
        self.lock().retain(|id, _| watched.contains(id));
    }
}
