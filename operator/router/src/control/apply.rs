//! Takes a document of routes: revisions that stay keep their pods and counts, listeners that stay keep their connections.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use millrace_routes::{Model as Document, Routes};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep_until};

use crate::door::{Door, Issuers};
use crate::graph::Graph;
use crate::listen::Listener;
use crate::log::{Logs, Ring};
use crate::state::{Model, Policy, Revision, State};
use crate::stream::{Pump, Streams};
use crate::worker::Workers;

/// A port that could not be had is tried again: it passes from one model to another within milliseconds.
const LISTEN_AGAIN: Duration = Duration::from_millis(100);

pub struct Table {
    pub state: Arc<State>,
    pub workers: Workers,
    pub address: IpAddr,
    /// Where Secrets and ConfigMaps are mounted.
    mounted: PathBuf,
    issuers: Arc<Issuers>,
    logs: Logs,
    streams: Streams,
    listeners: HashMap<String, Listener>,
    /// The ports that could not be had, by model.
    failed: HashMap<String, u16>,
}

impl Table {
    pub fn new(
        state: Arc<State>,
        workers: Workers,
        address: IpAddr,
        mounted: PathBuf,
        issuers: Arc<Issuers>,
        logs: Logs,
        streams: Streams,
    ) -> Self {
        Self {
            state,
            workers,
            address,
            mounted,
            issuers,
            logs,
            streams,
            listeners: HashMap::new(),
            failed: HashMap::new(),
        }
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
            let before = self.generations();
            let all = self.apply(&routes);
            if new {
                self.state.routes_taken();
                tracing::info!(models = routes.models.len(), changed = changes(&before, &routes), "routes taken");
            }
            if all {
                // After it: who is ready listens, and has asked for the keys of its callers.
                let (state, issuers) = (self.state.clone(), self.issuers.clone());
                tokio::spawn(async move {
                    issuers.tried().await;
                    state.listens();
                });
            }
            again = (!all).then(|| (Instant::now() + LISTEN_AGAIN, routes));
        }
    }

    fn generations(&self) -> BTreeMap<String, u64> {
        self.state.models().iter().map(|model| (model.name.clone(), model.policy().generation)).collect()
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
                let policy = model.policy();
                gone.extend(policy.targets.iter().cloned());
                if let Some(ring) = &policy.log {
                    ring.stop();
                }
                if let Some(pump) = &policy.stream {
                    pump.stop();
                }
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
        let door = before.as_ref().and_then(|policy| policy.door.as_ref());
        let door = Door::next(door, document.security.as_ref(), &self.mounted, &self.issuers);
        let logged = known.as_ref().map_or_else(Arc::default, |model| model.logged.clone());
        let ring = before.as_ref().and_then(|policy| policy.log.as_ref());
        let ring = Ring::next(ring, document.log.as_ref(), &document.name, &logged, &self.logs);
        let pump = before.as_ref().and_then(|policy| policy.stream.as_ref());
        let pump = Pump::next(pump, document.stream.as_ref(), &document.name, &self.streams);
        let graph = before.as_ref().and_then(|policy| policy.graph.as_ref());
        let graph = Graph::next(graph, document.graph.as_ref());
        let policy = Policy::new(document, targets, door, ring, pump, graph);
        match known {
            Some(model) => {
                model.set_policy(policy);
                model
            }
            None => Arc::new(Model::new(&document.name, policy, logged)),
        }
    }

    fn listen(&mut self, routes: &Routes) -> bool {
        let ports: HashMap<&str, u16> = routes.models.iter().map(|m| (m.name.as_str(), m.port)).collect();
        // A port goes before another model takes it.
        self.listeners.retain(|name, listener| ports.get(name.as_str()) == Some(&listener.port));
        self.failed.retain(|name, port| ports.get(name.as_str()) == Some(port));
        let mut all = true;
        for model in self.state.models() {
            let Some(port) = ports.get(model.name.as_str()).copied() else { continue };
            if self.listeners.contains_key(&model.name) {
                model.listens();
                continue;
            }
            let address = SocketAddr::new(self.address, port);
            match Listener::open(address, model.clone(), self.state.clone(), self.workers.clone()) {
                Ok(listener) => {
                    model.listens();
                    if self.failed.remove(&model.name) == Some(port) {
                        tracing::info!(%address, model = model.name, "listens after all");
                    }
                    self.listeners.insert(model.name.clone(), listener);
                }
                Err(error) => {
                    all = false;
                    // Once: it is tried ten times a second.
                    if self.failed.insert(model.name.clone(), port) != Some(port) {
                        tracing::error!(%error, %address, model = model.name, "failed to listen: nobody reaches this model here; it is tried again");
                    }
                }
            }
        }
        all
    }
}

/// What a document changes, for the log: generations from and to, models that come and go.
fn changes(before: &BTreeMap<String, u64>, routes: &Routes) -> String {
    let mut said: Vec<String> = Vec::new();
    for model in &routes.models {
        match before.get(&model.name) {
            None => said.push(format!("{} came at {}", model.name, model.generation)),
            Some(old) if *old != model.generation => said.push(format!("{} {old} -> {}", model.name, model.generation)),
            Some(_) => {}
        }
    }
    let gone = before.keys().filter(|name| !routes.models.iter().any(|model| model.name == **name));
    said.extend(gone.map(|name| format!("{name} went")));
    said.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_document_changes_is_said_in_a_line() {
        let model = |name: &str, generation: u64| {
            format!(
                r#"{{"name": "{name}", "port": {}, "generation": {generation}, "revisions": []}}"#,
                9000 + name.len()
            )
        };
        let text = format!(r#"{{"models": [{}, {}, {}]}}"#, model("a", 4), model("bb", 1), model("ccc", 2));
        let before = BTreeMap::from([("a".to_owned(), 3), ("bb".to_owned(), 1), ("d".to_owned(), 9)]);
        assert_eq!(changes(&before, &Routes::parse(text.as_bytes()).unwrap()), "a 3 -> 4, ccc came at 2, d went");
    }
}
