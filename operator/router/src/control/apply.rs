//! Takes a document of routes: revisions that stay keep their pods and counts, listeners that stay keep their connections.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use millrace_routes::{Model as Document, Routes};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep_until};

use crate::listen::Listener;
use crate::state::{Model, Policy, Revision, State};
use crate::worker::Workers;

/// A port that could not be had is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

pub struct Table {
    pub state: Arc<State>,
    pub workers: Workers,
    pub address: IpAddr,
    listeners: HashMap<String, Listener>,
}

impl Table {
    pub fn new(state: Arc<State>, workers: Workers, address: IpAddr) -> Self {
        Self { state, workers, address, listeners: HashMap::new() }
    }

    /// Takes every document that comes, until the sender is gone. One that is not right leaves what is.
    pub async fn follow(mut self, mut documents: mpsc::Receiver<Vec<u8>>) {
        let mut again: Option<(Instant, Routes)> = None;
        loop {
            let due = again.as_ref().map_or_else(|| Instant::now() + LISTEN_AGAIN, |(at, _)| *at);
            let (routes, new) = tokio::select! {
                document = documents.recv() => match document.as_deref().map(Routes::parse) {
                    None => return,
                    Some(Ok(routes)) => (routes, true),
                    Some(Err(error)) => {
                        self.state.routes_refused();
                        let source = std::error::Error::source(&error).map(ToString::to_string);
                        tracing::error!(%error, source, "the old routes stay");
                        continue;
                    }
                },
                () = sleep_until(due), if again.is_some() => match again.take() {
                    Some((_, routes)) => (routes, false),
                    None => continue,
                },
            };
            let all = self.apply(&routes);
            if new {
                // After it: who is ready listens.
                self.state.routes_taken();
            }
            again = (!all).then(|| (Instant::now() + LISTEN_AGAIN, routes));
        }
    }

    /// True if every port could be had.
    fn apply(&mut self, routes: &Routes) -> bool {
        let mut models = BTreeMap::new();
        let mut gone: Vec<Arc<Revision>> = Vec::new();
        for document in &routes.models {
            let model = self.model(document, &mut gone);
            models.insert(document.name.clone(), model);
        }
        for model in self.state.models() {
            if !models.contains_key(&model.name) {
                gone.extend(model.policy().targets.iter().cloned());
            }
        }
        let targets: Vec<Arc<Revision>> =
            models.values().flat_map(|model: &Arc<Model>| model.policy().targets.clone()).collect();
        self.state.set_models(models);
        // Endpoints that changed before the revision was in the table went past it.
        for revision in &targets {
            self.state.refresh(revision);
        }
        for revision in gone {
            revision.close();
        }
        self.listen(routes)
    }

    fn model(&self, document: &Document, gone: &mut Vec<Arc<Revision>>) -> Arc<Model> {
        let known = self.state.model(&document.name);
        let before = known.as_ref().map(|model| model.policy());
        let old = before.as_ref().map_or(&[][..], |policy| &policy.targets);
        let targets: Vec<Arc<Revision>> = document
            .revisions
            .iter()
            .map(|wanted| {
                let is_same =
                    |r: &&Arc<Revision>| r.name == wanted.name && r.service == wanted.service && r.port == wanted.port;
                let revision = old.iter().find(is_same).cloned();
                let revision =
                    revision.unwrap_or_else(|| Arc::new(Revision::new(wanted, &document.queue, self.state.slots)));
                revision.set(wanted, &document.queue);
                // Before requests are sent to it.
                self.state.refresh(&revision);
                revision
            })
            .collect();
        gone.extend(old.iter().filter(|r| !targets.iter().any(|t| Arc::ptr_eq(t, r))).cloned());
        let policy = Policy::new(document, targets);
        match known {
            Some(model) => {
                model.set_policy(policy);
                model
            }
            None => Arc::new(Model::new(&document.name, policy)),
        }
    }

    fn listen(&mut self, routes: &Routes) -> bool {
        let ports: HashMap<&str, u16> = routes.models.iter().map(|m| (m.name.as_str(), m.port)).collect();
        // A port goes before another model takes it.
        self.listeners.retain(|name, listener| ports.get(name.as_str()) == Some(&listener.port));
        let mut all = true;
        for model in self.state.models() {
            let Some(port) = ports.get(model.name.as_str()).copied() else { continue };
            if self.listeners.contains_key(&model.name) {
                continue;
            }
            let address = SocketAddr::new(self.address, port);
            match Listener::open(address, model.clone(), self.state.clone(), self.workers.clone()) {
                Ok(listener) => drop(self.listeners.insert(model.name.clone(), listener)),
                Err(error) => {
                    all = false;
                    tracing::error!(%error, %address, model = model.name, "failed to listen; it is tried again");
                }
            }
        }
        all
    }
}
