//! What Prometheus said to the routers since a step is in force. Each router asks for itself: the newest answer counts, and only where none
//! of them gets one it is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use millrace_routes::QueryStats;

use crate::duration::since;
use crate::problem::head;

/// A router that said nothing for so long says nothing any more.
const FRESH: Duration = Duration::from_secs(30);
/// More than a namespace has.
const ROUTERS: usize = 64;
/// Characters of a router's words.
const LONGEST: usize = 300;

/// The queries of one analysis, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// Of the new revision.
    pub candidate: String,
    /// The same of the promoted one, where both are compared.
    pub stable: Option<String>,
}

impl Asks {
    pub fn ids(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.candidate).chain(&self.stable)
    }
}

/// By query and router.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers(BTreeMap<String, BTreeMap<String, Heard>>);

#[derive(Clone, Debug, PartialEq)]
struct Heard {
    at: Timestamp,
    /// When the question of its last answer was asked.
    asked: Option<Timestamp>,
    value: Option<f64>,
    errors: u64,
    problem: Option<String>,
}

/// What is known of one query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// When the newest answer was asked for.
    pub asked: Option<Timestamp>,
    /// Its number.
    pub value: Option<f64>,
    /// Questions in a row that got no answer, at the router that got one last.
    pub errors: u64,
    /// Why there is no number, or no answer now.
    pub problem: Option<String>,
}

impl Answers {
    /// A router's report. What was asked before `from` says nothing.
    pub fn heard(&mut self, router: &str, id: &str, said: Option<&QueryStats>, from: Timestamp, now: Timestamp) {
        let all = self.0.entry(id.to_owned()).or_default();
        all.retain(|_, heard| since(heard.at, now) <= FRESH);
        let Some(QueryStats { value, age_ms, errors, problem }) = said else {
            all.remove(router);
            return;
        };
        if all.len() >= ROUTERS {
            all.clear();
        }
        let age = age_ms.map(|age| SignedDuration::from_millis(i64::try_from(age).unwrap_or(i64::MAX)));
        let asked = age.and_then(|age| now.checked_sub(age).ok()).filter(|asked| *asked >= from);
        let problem = problem.as_ref().map(|text| head(&text.replace(|c: char| c.is_control(), " "), LONGEST));
        let value = value.filter(|value| asked.is_some() && value.is_finite());
        all.insert(router.to_owned(), Heard { at: now, asked, value, errors: *errors, problem });
    }

    /// Forgets all routers but these.
    pub fn keep(&mut self, routers: &BTreeSet<&str>) {
        self.0.values_mut().for_each(|all| all.retain(|router, _| routers.contains(router.as_str())));
    }

    /// The newest answer of all routers.
    #[must_use]
    pub fn of(&self, id: &str) -> Answer {
        let Some(all) = self.0.get(id) else { return Answer::default() };
        // The first of two that are as new, so that words do not swing.
        let newest = all.values().rev().max_by_key(|heard| heard.asked);
        let Some(Heard { at: _, asked, value, errors: _, problem }) = newest else { return Answer::default() };
        let errors = all.values().map(|heard| heard.errors).min().unwrap_or_default();
        Answer { asked: *asked, value: *value, errors, problem: problem.clone() }
    }
}
