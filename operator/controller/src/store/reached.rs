//! Which Deployments were seen to have the number of pods that was chosen for them: another one, after that, is somebody else's.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_core::deployment::DeploymentView;

use crate::key::Id;

/// The last such number of each.
#[derive(Default)]
pub struct Reached(Mutex<HashMap<Id, i32>>);

impl Reached {
    fn lock(&self) -> MutexGuard<'_, HashMap<Id, i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes those of these Deployments that have this number, and says what is known of all of them.
    pub fn look(
        &self,
        namespace: &str,
        views: &BTreeMap<String, Arc<DeploymentView>>,
        desired: Option<i32>,
    ) -> BTreeMap<String, i32> {
        let mut all = self.lock();
        let known = views.iter().filter_map(|(name, view)| {
            let id = Id::new(namespace, name);
            if Some(view.wanted) == desired {
                all.insert(id, view.wanted);
                return Some((name.clone(), view.wanted));
            }
            Some((name.clone(), *all.get(&id)?))
        });
        known.collect()
    }

    pub fn forget(&self, id: &Id) {
        self.lock().remove(id);
    }
}
