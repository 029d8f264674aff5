//! What routers counted of each model whose pods follow it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::Timestamp;
use millrace_core::autoscale::{Counted, Follow, History, Timed, Window};
use millrace_core::deployment::DeploymentView;
use millrace_routes::QueryStats;

use crate::key::Id;

/// By ModelDeployment.
#[derive(Default)]
pub struct Loads(Mutex<HashMap<Id, History>>);

impl Loads {
    fn lock(&self) -> MutexGuard<'_, HashMap<Id, History>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the router of this uid says of the model.
    pub fn heard(&self, id: &Id, router: &str, counted: Counted, now: Timestamp) {
        self.of(id, now, |history| history.heard(router, counted, now));
    }

    /// How long that router's requests took.
    pub fn took(&self, id: &Id, router: &str, timed: Timed, now: Timestamp) {
        self.of(id, now, |history| history.took(router, timed, now));
    }

    /// What Prometheus answers to that router.
    pub fn answered(&self, id: &Id, router: &str, query: &str, said: Option<&QueryStats>, now: Timestamp) {
        self.of(id, now, |history| history.answered(router, query, said, now));
    }

    /// The load of the model as it is seen now. `view` is the Deployment whose pods follow it, `running` are the routers' uids.
    pub fn look(
        &self,
        id: &Id,
        follow: &Follow,
        view: &DeploymentView,
        running: &BTreeSet<&str>,
        now: Timestamp,
    ) -> Window {
        self.of(id, now, |history| {
            history.saw(view.wanted, now);
            history.serves(view.available, now);
            history.keep(running);
            history.look(follow, running, now)
        })
    }

    fn of<T>(&self, id: &Id, now: Timestamp, look: impl FnOnce(&mut History) -> T) -> T {
        let mut all = self.lock();
        let history = all.entry(id.clone()).or_insert_with(|| History::new(now));
        if history.is_ahead(now) {
            *history = History::new(now);
        }
        look(history)
    }

    /// Forgets all ModelDeployments but these.
    pub fn keep(&self, followed: &HashSet<Id>) {
        self.lock().retain(|id, _| followed.contains(id));
    }
}
