//! What follows for one revision from what the routers say.

use super::{Report, RevisionReport, Router, Routers};
use crate::deployment::pod_words;

/// A revision of a model, as the routers know it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub model: &'a str,
    pub revision: &'a str,
    /// The generation of the routes that have to be in force.
    pub generation: u64,
    /// Pods that a router has to know.
    pub pods: u64,
}

impl Routers {
    /// Why the revision cannot be given requests yet: some router that callers are sent to has not said that it knows it.
    #[must_use]
    pub fn unprepared(&self, asked: Asked<'_>) -> Option<String> {
        let mut none = true;
        for router in self.ready() {
            none = false;
            if let Some(lack) = router.lacks(asked) {
                return Some(lack);
            }
        }
        none.then(|| self.absent())
    }

    /// Why the address does not lead to the revision. A router that has just come and was not asked yet has routes, or it would not be
    /// ready; those that have said something decide.
    #[must_use]
    pub fn astray(&self, asked: Asked<'_>) -> Option<String> {
        let (heard, unheard): (Vec<&Router>, Vec<&Router>) = self.ready().partition(|router| router.report.is_some());
        if heard.is_empty() {
            return Some(unheard.first().map_or_else(|| self.absent(), |router| router.silent()));
        }
        heard.into_iter().find_map(|router| router.lacks(asked))
    }

    /// Why callers do not come to what has no revisions: its routes are not in force at every router that was heard.
    #[must_use]
    pub fn unrouted(&self, name: &str, generation: u64) -> Option<String> {
        let (heard, unheard): (Vec<&Router>, Vec<&Router>) = self.ready().partition(|router| router.report.is_some());
        if heard.is_empty() {
            return Some(unheard.first().map_or_else(|| self.absent(), |router| router.silent()));
        }
        let has = |router: &&Router| {
            let known = router.report.as_ref().and_then(|report| report.models.get(name));
            known.is_some_and(|known| known.generation == generation)
        };
        let without = heard.into_iter().find(|router| !has(router))?;
        Some(format!("router {} does not have the routes yet", without.pod.pod.name))
    }

    /// No router that runs leads to the revision or has a request for it in hand.
    #[must_use]
    pub fn have_left(&self, asked: Asked<'_>) -> bool {
        self.pods.iter().filter(|router| router.pod.is_running()).all(|router| {
            let model = router.report.as_ref().and_then(|report| report.models.get(asked.model));
            model.is_some_and(|model| {
                let busy = model.revisions.get(asked.revision).is_some_and(|revision| revision.is_busy);
                model.generation == asked.generation && !busy
            })
        })
    }

    /// Those that callers are sent to.
    pub(crate) fn ready(&self) -> impl Iterator<Item = &Router> {
        self.pods.iter().filter(|router| router.pod.ready && !router.pod.pod.deleting)
    }

    /// Why there is no router, in the words of those who know.
    fn absent(&self) -> String {
        let refused = self.refusals.first().map(|r| format!("{} was refused: {} ({})", r.object, r.message, r.code));
        let failed = self.deployment.as_ref().and_then(|view| view.failure.as_ref());
        let failed = failed.map(|words| format!("no pod can be made: {}: {}", words.reason, words.message));
        let mut pods: Vec<&Router> = self.pods.iter().filter(|router| !router.pod.pod.deleting).collect();
        pods.sort_by(|a, b| a.pod.pod.name.cmp(&b.pod.pod.name));
        let said = || pods.iter().find_map(|router| pod_words(&router.pod.pod));
        match refused.or(failed).or_else(said) {
            Some(words) => format!("no router is ready: {words}"),
            None => "no router is ready yet".to_owned(),
        }
    }
}

impl Router {
    fn lacks(&self, asked: Asked<'_>) -> Option<String> {
        let name = &self.pod.pod.name;
        let Some(report) = self.report.as_deref() else { return Some(self.silent()) };
        let Report { models } = report;
        let Some(model) = models.get(asked.model).filter(|model| model.generation == asked.generation) else {
            return Some(format!("router {name} does not have the routes yet"));
        };
        let known = model.revisions.get(asked.revision);
        match known {
            None => Some(format!("router {name} does not have the routes yet")),
            Some(RevisionReport { pods, .. }) if *pods < asked.pods => {
                Some(format!("router {name} knows {pods} of {} pods of revision {} yet", asked.pods, asked.revision))
            }
            Some(_) => None,
        }
    }

    fn silent(&self) -> String {
        format!("router {} does not answer the operator", self.pod.pod.name)
    }
}
