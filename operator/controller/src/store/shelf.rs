//! One shelf: objects of one kind by namespace and name, found by the group they belong to.
//!
//! Two sources write to it, the watch and the replies to the controller's own writes, and they may arrive in any order.
//! The resourceVersion decides: what is older than what is held is passed over. So a pass that follows a write never
//! sees the object as it was before it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::key::Id;

/// An object that is put on a shelf.
pub struct Item<V> {
    pub id: Id,
    /// What it is looked up by besides its id: a namespace, a run's uid, a ModelDeployment.
    pub group: String,
    pub resource_version: u64,
    pub value: V,
}

struct Held<V> {
    resource_version: u64,
    /// In which listing it was seen last.
    listing: u64,
    group: String,
    value: Arc<V>,
}

struct Inner<V> {
    items: HashMap<Id, Held<V>>,
    /// Ids by group.
    groups: HashMap<String, BTreeSet<Id>>,
    /// Counts the listings of each scope (a namespace, or "" for all).
    listings: HashMap<String, u64>,
}

pub struct Shelf<V>(RwLock<Inner<V>>);

impl<V> Default for Shelf<V> {
    fn default() -> Self {
        Self(RwLock::new(Inner { items: HashMap::new(), groups: HashMap::new(), listings: HashMap::new() }))
    }
}

impl<V> Shelf<V> {
    fn read(&self) -> RwLockReadGuard<'_, Inner<V>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<V>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn len(&self) -> usize {
        self.read().items.len()
    }

    pub fn get(&self, id: &Id) -> Option<Arc<V>> {
        self.read().items.get(id).map(|held| held.value.clone())
    }

    /// The group of an object, and the object.
    pub fn find(&self, id: &Id) -> Option<(String, Arc<V>)> {
        self.read().items.get(id).map(|held| (held.group.clone(), held.value.clone()))
    }

    /// Everything of a group by name.
    pub fn group(&self, group: &str) -> BTreeMap<String, Arc<V>> {
        let inner = self.read();
        let ids = inner.groups.get(group).into_iter().flatten();
        ids.filter_map(|id| Some((id.name.clone(), inner.items.get(id)?.value.clone()))).collect()
    }

    /// Looks at everything of a group, or at everything. What looks must not come back to this shelf.
    pub fn each(&self, group: Option<&str>, mut look: impl FnMut(&Id, &V)) {
        let inner = self.read();
        let Some(group) = group else {
            inner.items.iter().for_each(|(id, held)| look(id, &held.value));
            return;
        };
        for id in inner.groups.get(group).into_iter().flatten() {
            if let Some(held) = inner.items.get(id) {
                look(id, &held.value);
            }
        }
    }

    /// Puts an object here unless a newer state of it is held. True if it is news.
    pub fn put(&self, item: Item<V>) -> bool {
        let mut inner = self.write();
        let listing = inner.listing_of(&item.id.namespace);
        let Item { id, group, resource_version, value } = item;
        match inner.items.get_mut(&id) {
            Some(held) if held.resource_version >= resource_version => {
                held.listing = listing;
                return false;
            }
            Some(held) if held.group != group => {
                let old = held.group.clone();
                inner.ungroup(&old, &id);
            }
            _ => {}
        }
        inner.groups.entry(group.clone()).or_default().insert(id.clone());
        inner.items.insert(id, Held { resource_version, listing, group, value: Arc::new(value) });
        true
    }

    /// Takes an object away, unless what is held was made after that state of it.
    pub fn remove(&self, id: &Id, resource_version: u64) -> Option<Arc<V>> {
        let mut inner = self.write();
        if inner.items.get(id)?.resource_version > resource_version {
            return None;
        }
        inner.take(id)
    }

    /// A listing of a scope begins.
    pub fn begin(&self, scope: &str) {
        *self.write().listings.entry(scope.to_owned()).or_default() += 1;
    }

    /// A listing has ended: what it did not name is gone.
    pub fn end(&self, scope: &str) -> Vec<(Id, String, Arc<V>)> {
        let mut inner = self.write();
        let listing = inner.listings.get(scope).copied().unwrap_or_default();
        let gone: Vec<Id> = inner
            .items
            .iter()
            .filter(|(id, held)| held.listing < listing && (scope.is_empty() || id.namespace == scope))
            .map(|(id, _)| id.clone())
            .collect();
        gone.into_iter()
            .filter_map(|id| {
                let group = inner.items.get(&id)?.group.clone();
                let value = inner.take(&id)?;
                Some((id, group, value))
            })
            .collect()
    }
}

impl<V> Inner<V> {
    fn listing_of(&self, namespace: &str) -> u64 {
        let own = self.listings.get(namespace).copied();
        own.or_else(|| self.listings.get("").copied()).unwrap_or_default()
    }

    fn take(&mut self, id: &Id) -> Option<Arc<V>> {
        let held = self.items.remove(id)?;
        self.ungroup(&held.group, id);
        Some(held.value)
    }

    fn ungroup(&mut self, group: &str, id: &Id) {
        if let Some(ids) = self.groups.get_mut(group) {
            ids.remove(id);
            if ids.is_empty() {
                self.groups.remove(group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, group: &str, resource_version: u64, value: u32) -> Item<u32> {
        Item { id: Id::new("ns", name), group: group.into(), resource_version, value }
    }

    #[test]
    fn an_older_state_never_replaces_a_newer_one() {
        let shelf = Shelf::default();
        assert!(shelf.put(item("a", "g", 5, 50)));
        assert!(!shelf.put(item("a", "g", 4, 40)));
        assert!(!shelf.put(item("a", "g", 5, 50)), "the same state is no news");
        assert_eq!(shelf.get(&Id::new("ns", "a")).as_deref(), Some(&50));
        assert!(shelf.remove(&Id::new("ns", "a"), 4).is_none(), "it was made again after that deletion");
        assert!(shelf.remove(&Id::new("ns", "a"), 6).is_some());
        assert_eq!(shelf.len(), 0);
    }

    #[test]
    fn an_object_that_changes_its_group_leaves_the_old_one() {
        let shelf = Shelf::default();
        shelf.put(item("a", "g", 1, 1));
        shelf.put(item("a", "h", 2, 2));
        assert!(shelf.group("g").is_empty());
        assert_eq!(shelf.group("h").len(), 1);
    }

    #[test]
    fn what_a_listing_does_not_name_is_gone_unless_it_was_written_meanwhile() {
        let shelf = Shelf::default();
        shelf.put(item("gone", "g", 1, 1));
        shelf.put(item("stays", "g", 2, 2));
        shelf.begin("");
        shelf.put(item("stays", "g", 2, 2));
        shelf.put(item("written", "g", 9, 9));
        let gone: Vec<String> = shelf.end("").into_iter().map(|(id, _, _)| id.name).collect();
        assert_eq!(gone, ["gone"]);
        assert_eq!(shelf.group("g").keys().cloned().collect::<Vec<_>>(), ["stays", "written"]);
    }
}
