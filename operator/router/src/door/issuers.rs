//! The issuers that the doors of a router name: each address is asked once for all models that name it with the same authority.

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use hyper::http::uri::PathAndQuery;
use hyper::{StatusCode, Uri};
use millrace_routes::{Published, Use};
use tokio::sync::Semaphore;

use super::issuer::{Issuer, Pace};
use crate::dial::Reach;
use crate::get::{Get, Said, get};
use crate::state::lock;

/// How often it is looked which one is due.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A question that has no answer in this time has none.
const WITHIN: Duration = Duration::from_secs(5);
/// Questions at once.
const AT_ONCE: usize = 8;
/// A longer answer is none: sets of many keys with their certificates are tens of KiB.
const ANSWER_BYTES: usize = 256 << 10;
/// For so long a router that starts waits for the first answers.
const FIRST: Duration = Duration::from_secs(10);

pub struct Issuers {
    /// Those that no door names any more are gone.
    all: Mutex<Vec<Weak<Issuer>>>,
    reach: Arc<Reach>,
    pace: Pace,
}

impl Issuers {
    pub fn new(reach: Arc<Reach>, pace: Pace) -> Self {
        Self { all: Mutex::default(), reach, pace }
    }

    /// The one of this address, as the other models have it.
    pub fn of(&self, published: &Published) -> Arc<Issuer> {
        let new = Arc::new(Issuer::new(published, &self.reach.mounted, self.pace));
        let mut all = lock(&self.all);
        let is_same = |known: &Arc<Issuer>| known.published == new.published && known.absent() == new.absent();
        if let Some(known) = all.iter().filter_map(Weak::upgrade).find(is_same) {
            return known;
        }
        all.push(Arc::downgrade(&new));
        new
    }

    fn alive(&self) -> Vec<Arc<Issuer>> {
        let mut all = lock(&self.all);
        all.retain(|issuer| issuer.strong_count() > 0);
        all.iter().filter_map(Weak::upgrade).collect()
    }

    /// Until each of them was asked once, or for too long: a router that comes in the place of another has its keys before its callers come.
    pub async fn tried(&self) {
        let waits = async {
            while !self.alive().iter().all(|issuer| issuer.is_tried()) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        // Nobody is let in without keys, and the other models go on.
        drop(tokio::time::timeout(FIRST, waits).await);
    }

    async fn fetch(&self, issuer: &Issuer) -> Result<Said, String> {
        let Published { uri, ca } = &issuer.published;
        let address: Uri = uri.parse().map_err(|_| "it is no address".to_owned())?;
        let path = address.path_and_query().map_or("/", PathAndQuery::as_str);
        let asked = Get {
            address: &address,
            path,
            authorization: None,
            ca: ca.as_ref(),
            usage: |key| Use::Issuer(key),
            most_bytes: ANSWER_BYTES,
        };
        let said = tokio::time::timeout(WITHIN, get(asked, &self.reach)).await;
        let said = said.unwrap_or_else(|_| Err(format!("no answer in {} s", WITHIN.as_secs())))?;
        if said.status == StatusCode::OK {
            return Ok(said);
        }
        let hint = if said.status.is_redirection() { ", and redirects are not followed" } else { "" };
        Err(format!("the answer is {}{hint}", said.status.as_u16()))
    }
}

/// Fetches keys for as long as the process lives.
pub async fn follow(issuers: Arc<Issuers>) {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        for issuer in issuers.alive().into_iter().filter(|issuer| issuer.is_due(now)) {
            let (issuers, at_once) = (issuers.clone(), at_once.clone());
            tokio::spawn(async move {
                let _place = at_once.acquire().await;
                let said = issuers.fetch(&issuer).await;
                issuer.take(said.as_ref().map(|said| &said.body[..]).map_err(Clone::clone));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_routes::{Entry, Source};

    use super::*;

    #[test]
    fn models_that_name_the_same_issuer_share_it_until_none_does() {
        let folder = tempfile::tempdir().unwrap();
        let reach = Arc::new(Reach { mounted: folder.path().to_owned(), loopback: false });
        let issuers = Issuers::new(reach, Pace::default());
        let published = |ca: Option<&str>| {
            let ca = ca.map(|name| Entry { of: Source::ConfigMap, name: name.to_owned(), key: "k".to_owned() });
            Published { uri: "https://issuer/keys".to_owned(), ca }
        };
        let (first, again) = (issuers.of(&published(None)), issuers.of(&published(None)));
        assert!(Arc::ptr_eq(&first, &again));
        let other = issuers.of(&published(Some("ca")));
        assert!(!Arc::ptr_eq(&first, &other));
        assert!(Arc::ptr_eq(&other, &issuers.of(&published(Some("ca")))));
        assert_eq!(issuers.alive().len(), 2);
        std::fs::create_dir_all(folder.path().join("configmaps/ca/issuer/k")).unwrap();
        let mounted = issuers.of(&published(Some("ca")));
        assert!(!Arc::ptr_eq(&other, &mounted) && mounted.absent().is_none());
        drop((first, again, other));
        assert_eq!(issuers.alive().len(), 1);
    }
}
