//! Which generation a Deployment had when it was applied last. One that has another generation was changed by somebody
//! else; one that is not here was not applied since this process began. Either is applied again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::key::Id;

/// uid and generation of each.
#[derive(Default)]
pub struct Applied(Mutex<HashMap<Id, (String, i64)>>);

impl Applied {
    fn lock(&self) -> MutexGuard<'_, HashMap<Id, (String, i64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The generation after the last apply, if it was this very object that was applied.
    pub fn generation(&self, id: &Id, uid: &str) -> Option<i64> {
        self.lock().get(id).filter(|(applied, _)| applied == uid).map(|(_, generation)| *generation)
    }

    /// Remembers what the apiserver replied to an apply. True if it was not known.
    pub fn remember(&self, id: Id, uid: String, generation: i64) -> bool {
        let applied = (uid, generation);
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
        assert_eq!(applied.generation(&id, "u1"), None);
        assert!(applied.remember(id.clone(), "u1".into(), 1));
        assert!(!applied.remember(id.clone(), "u1".into(), 1), "an apply that changed nothing is no news");
        assert!(applied.remember(id.clone(), "u1".into(), 2));
        assert_eq!(applied.generation(&id, "u1"), Some(2));
        assert_eq!(applied.generation(&id, "u2"), None);
        applied.forget(&id);
        assert_eq!(applied.generation(&id, "u1"), None);
    }
}
