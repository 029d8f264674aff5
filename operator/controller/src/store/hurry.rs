//! Namespaces whose routers are to be asked soon, because something has just changed that they are waited for.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

#[derive(Default)]
pub struct Hurry {
    namespaces: Mutex<HashSet<String>>,
    news: Notify,
}

impl Hurry {
    pub fn ask(&self, namespace: &str) {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace.to_owned());
        self.news.notify_one();
    }

    /// Returns when there are some.
    pub async fn asked(&self) {
        self.news.notified().await;
    }

    pub fn take(&self) -> HashSet<String> {
        std::mem::take(&mut *self.namespaces.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
