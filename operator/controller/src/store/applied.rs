//! What an object was when it was applied last. One that has another shape was changed by somebody else; one that is not
//! here was not applied since this process began. Either is applied again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use millrace_core::deployment;

use crate::key::Id;

/// uid and state of each.
#[derive(Default)]
pub struct Applied(Mutex<HashMap<Id, (String, deployment::Applied)>>);

impl Applied {
    fn lock(&self) -> MutexGuard<'_, HashMap<Id, (String, deployment::Applied)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last apply made, if it was this very object that was applied.
    pub fn get(&self, id: &Id, uid: &str) -> Option<deployment::Applied> {
        self.lock().get(id).filter(|(applied, _)| applied == uid).map(|(_, state)| *state)
    }

    /// What the last applies made of these objects, given by name and uid.
    pub fn of<'a>(
        &self,
        namespace: &str,
        objects: impl Iterator<Item = (&'a String, &'a String)>,
    ) -> BTreeMap<String, deployment::Applied> {
        objects.filter_map(|(name, uid)| Some((name.clone(), self.get(&Id::new(namespace, name), uid)?))).collect()
    }

    /// Remembers what the apiserver replied to an apply. True if it was not known.
    pub fn remember(&self, id: Id, uid: String, state: deployment::Applied) -> bool {
        let applied = (uid, state);
        self.lock().insert(id, applied.clone()) != Some(applied)
    }

    pub fn forget(&self, id: &Id) {
        self.lock().remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_object_of_the_same_name_was_not_applied() {
        let (applied, id) = (Applied::default(), Id::new("ns", "a"));
        let state = |generation| deployment::Applied::new(1, 7, generation);
        assert_eq!(applied.get(&id, "u1"), None);
        assert!(applied.remember(id.clone(), "u1".into(), state(1)));
        assert!(!applied.remember(id.clone(), "u1".into(), state(1)), "an apply that changed nothing is no news");
        assert!(applied.remember(id.clone(), "u1".into(), state(2)));
        assert_eq!(applied.get(&id, "u1"), Some(state(2)));
        assert_eq!(applied.get(&id, "u2"), None);
        applied.forget(&id);
        assert_eq!(applied.get(&id, "u1"), None);
    }
}
