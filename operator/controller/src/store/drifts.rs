//! What model servers counted of the rows that they were asked for, where drift is watched.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::Timestamp;
use millrace_contract::DriftCounts;
use millrace_core::deployment::Monitored;
use millrace_core::drift::Heard;

use crate::key::Id;

/// A revision of a ModelDeployment.
pub type RevisionId = (Id, String);

/// By revision: one that is promoted is known already where its rollout asked for its drift.
#[derive(Default)]
pub struct Drifts(Mutex<HashMap<RevisionId, Heard>>);

impl Drifts {
    fn lock(&self) -> MutexGuard<'_, HashMap<RevisionId, Heard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pods of this revision are asked.
    pub fn begin(&self, id: &Id, monitored: &Monitored, now: Timestamp) {
        let mut all = self.lock();
        let heard = all.entry(key(id, monitored)).or_insert_with(|| Heard::new(now));
        heard.forget(monitored.window, now);
    }

    /// What the pod of this uid says now.
    pub fn heard(&self, id: &Id, monitored: &Monitored, pod: &str, counts: DriftCounts, now: Timestamp) {
        if let Some(heard) = self.lock().get_mut(&key(id, monitored)) {
            heard.heard(pod, counts, now);
        }
    }

    /// A pod was asked and gave no answer.
    pub fn missed(&self, id: &Id, monitored: &Monitored) {
        if let Some(heard) = self.lock().get_mut(&key(id, monitored)) {
            heard.missed();
        }
    }

    pub fn sum(&self, id: &Id, monitored: &Monitored, now: Timestamp) -> Option<DriftCounts> {
        self.lock().get(&key(id, monitored))?.sum(monitored.window, now)
    }

    /// Forgets all revisions but these.
    pub fn keep(&self, watched: &HashSet<RevisionId>) {
        self.lock().retain(|key, _| watched.contains(key));
    }
}

fn key(id: &Id, monitored: &Monitored) -> RevisionId {
    (id.clone(), monitored.revision.clone())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millrace_core::deployment::Version;

    use super::*;

    fn monitored(revision: &str, version: i64) -> Monitored {
        let window = Duration::from_hours(1);
        Monitored {
            revision: revision.to_owned(),
            model: "m".to_owned(),
            version: Version::Registered(version),
            window,
        }
    }

    #[test]
    fn what_comes_is_counted_beside_what_is_promoted_and_stays_known_when_it_is_promoted() {
        let (drifts, now, id) = (Drifts::default(), Timestamp::UNIX_EPOCH, Id::new("team", "m"));
        let (old, new) = (monitored("m-1", 1), monitored("m-2", 2));
        let rows = |rows| DriftCounts { rows, ..DriftCounts::default() };
        for (monitored, n) in [(&old, 1000), (&new, 50)] {
            drifts.begin(&id, monitored, now);
            drifts.heard(&id, monitored, "pod", rows(n), now);
        }
        let sum = |monitored: &Monitored| drifts.sum(&id, monitored, now).map(|sum| sum.rows);
        assert_eq!((sum(&old), sum(&new)), (Some(1000), Some(50)));
        drifts.keep(&HashSet::from([(id.clone(), "m-2".to_owned())]));
        assert_eq!((sum(&old), sum(&new)), (None, Some(50)));
    }
}
