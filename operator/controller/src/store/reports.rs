//! What each router said last, by the uid of its pod.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use millrace_core::routing::Report;

#[derive(Default)]
pub struct Reports(RwLock<HashMap<String, Arc<Report>>>);

impl Reports {
    pub fn get(&self, uid: &str) -> Option<Arc<Report>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// Puts a report in the place of what was there, or takes that away. What was there.
    pub fn replace(&self, uid: &str, report: Option<Arc<Report>>) -> Option<Arc<Report>> {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match report {
            Some(report) => all.insert(uid.to_owned(), report),
            None => all.remove(uid),
        }
    }

    /// Forgets all routers but these.
    pub fn keep(&self, uids: &HashSet<String>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| uids.contains(uid));
    }
}
