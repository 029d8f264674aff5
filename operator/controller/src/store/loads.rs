//! What routers counted of each revision whose pods follow it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::Timestamp;
use millrace_core::api::ScaleMetric;
use millrace_core::autoscale::{Counted, History, Window};

use crate::key::Id;

/// By ModelDeployment: the one revision that is followed, and its history.
#[derive(Default)]
pub struct Loads(Mutex<HashMap<Id, (String, History)>>);

impl Loads {
    fn lock(&self) -> MutexGuard<'_, HashMap<Id, (String, History)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the router of this uid says of the revision.
    pub fn heard(&self, id: &Id, revision: &str, router: &str, counted: Counted, now: Timestamp) {
        self.of(id, revision, now, |history| history.heard(router, counted, now));
    }

    /// The load of the revision as it is seen now. `wanted` is how many pods the cluster has it have, `running` are the routers' uids.
    pub fn look(
        &self,
        id: &Id,
        (revision, metric): (&str, ScaleMetric),
        wanted: i32,
        running: &BTreeSet<&str>,
        now: Timestamp,
    ) -> Window {
        self.of(id, revision, now, |history| {
            history.saw(wanted, now);
            history.keep(running);
            history.window(metric, running, now)
        })
    }

    fn of<T>(&self, id: &Id, revision: &str, now: Timestamp, look: impl FnOnce(&mut History) -> T) -> T {
        let mut all = self.lock();
        let new = || (revision.to_owned(), History::new(now));
        let held = all.entry(id.clone()).or_insert_with(new);
        if held.0 != revision || held.1.is_ahead(now) {
            *held = new();
        }
        look(&mut held.1)
    }

    /// Forgets all ModelDeployments but these.
    pub fn keep(&self, followed: &HashSet<Id>) {
        self.lock().retain(|id, _| followed.contains(id));
    }
}
