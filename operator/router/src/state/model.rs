//! One model: what stays as long as its name is in the routes, and the policy that each document replaces.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use millrace_routes::{Model as Document, Query};

use super::{Revision, lock, read, write};
use crate::choose::Chooser;
use crate::door::Door;
use crate::graph::Graph;
use crate::log::{Counts, Ring};
use crate::refuse::Reason;
use crate::stream::Pump;

#[derive(Debug)]
pub struct Model {
    pub name: String,
    policy: RwLock<Arc<Policy>>,
    /// The generation of the last policy under which its port was open.
    in_force: Mutex<Option<u64>>,
    refused: [AtomicU64; Reason::ALL.len()],
    pub logged: Arc<Counts>,
}

/// What the newest document says of a model. A request keeps the one that it began with.
#[derive(Debug)]
pub struct Policy {
    pub generation: u64,
    pub chooser: Chooser,
    /// In the order of the document.
    pub targets: Vec<Arc<Revision>>,
    pub shadow: Option<Shadow>,
    pub body_bytes: Option<u64>,
    pub answer_within: Option<Duration>,
    /// `None`: whoever comes is let in.
    pub door: Option<Arc<Door>>,
    pub queries: Vec<Arc<Query>>,
    pub log: Option<Arc<Ring>>,
    pub stream: Option<Arc<Pump>>,
    /// Its answers are made of those of models.
    pub graph: Option<Arc<Graph>>,
}

#[derive(Debug)]
pub struct Shadow {
    pub revision: Arc<Revision>,
    pub sample: f64,
    pub body_bytes: usize,
}

impl Policy {
    /// `targets` are the document's revisions, in its order.
    pub fn new(
        document: &Document,
        targets: Vec<Arc<Revision>>,
        door: Option<Arc<Door>>,
        log: Option<Arc<Ring>>,
        stream: Option<Arc<Pump>>,
        graph: Option<Arc<Graph>>,
    ) -> Self {
        let shadow = document.shadow.as_ref().and_then(|shadow| {
            Some(Shadow {
                revision: targets.iter().find(|r| r.name == shadow.revision)?.clone(),
                sample: shadow.sample,
                body_bytes: usize::try_from(shadow.body_bytes).unwrap_or(usize::MAX),
            })
        });
        Self {
            generation: document.generation,
            chooser: Chooser::new(document),
            targets,
            shadow,
            body_bytes: document.limits.body_bytes,
            answer_within: document.limits.answer_ms.map(Duration::from_millis),
            door,
            queries: document.queries.iter().cloned().map(Arc::new).collect(),
            log,
            stream,
            graph,
        }
    }
}

impl Model {
    pub fn new(name: &str, policy: Policy, logged: Arc<Counts>) -> Self {
        Self {
            name: name.to_owned(),
            policy: RwLock::new(Arc::new(policy)),
            in_force: Mutex::new(None),
            refused: [const { AtomicU64::new(0) }; Reason::ALL.len()],
            logged,
        }
    }

    /// Counts somebody who was not let in.
    pub fn refused(&self, reason: Reason) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn refusals(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().map(|reason| (reason, self.refused[reason as usize].load(Ordering::Relaxed)))
    }

    pub fn policy(&self) -> Arc<Policy> {
        read(&self.policy).clone()
    }

    /// Its port is open: what the policy says is what callers get.
    pub fn listens(&self) {
        *lock(&self.in_force) = Some(self.policy().generation);
    }

    /// `None` if callers could never reach it.
    pub fn in_force(&self) -> Option<u64> {
        *lock(&self.in_force)
    }

    pub fn set_policy(&self, policy: Policy) {
        *write(&self.policy) = Arc::new(policy);
    }
}
