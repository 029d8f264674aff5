//! What the server's parts share: the models that answer, and how far the server's own life has come.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use thiserror::Error;
use tokio::sync::{Semaphore, watch};

use crate::batch::Queue;
use crate::budget::Budget;
use crate::config::Config;
use crate::drift::Watch;
use crate::explain::Reference;
use crate::metrics::Metrics;
use crate::model::{Provider, Signature};
use crate::repository::Loader;

/// A model that answers.
#[derive(Debug)]
pub struct Model {
    pub name: String,
    pub version: String,
    pub signature: Signature,
    /// What runs it.
    pub provider: Provider,
    pub queue: Arc<Queue>,
    /// What explanations compare a row with; `None` for a model that is not tabular.
    pub reference: Option<Reference>,
    /// What is counted of its rows.
    pub watch: Arc<Watch>,
}

impl Drop for Model {
    /// The last request has its answer: the thread that runs the model ends, and its memory goes.
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// State of the whole process.
#[derive(Debug)]
pub struct Serving {
    pub config: Config,
    pub metrics: Arc<Metrics>,
    /// Memory for requests.
    pub buffer: Budget,
    /// Makes models; there once ONNX Runtime is.
    pub loader: OnceLock<Arc<Loader>>,
    /// One explanation is made at a time: each is thousands of rows.
    pub explaining: Semaphore,
    models: RwLock<BTreeMap<String, Arc<Model>>>,
    /// All models to begin with are loaded.
    begun: AtomicBool,
    draining: AtomicBool,
    drain: watch::Sender<bool>,
}

/// Why there is no model to answer.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LookupError {
    #[error("unknown model {asked:?}: this server has {have}")]
    Name { asked: String, have: String },
    #[error("model {name:?} has no version {asked:?}: this server has {have:?}")]
    Version { name: String, asked: String, have: String },
    #[error("model {name:?} is still being loaded")]
    Loading { name: String },
}

impl Serving {
    pub fn new(config: Config, metrics: Arc<Metrics>, buffer: usize) -> Self {
        Self {
            config,
            metrics,
            buffer: Budget::new(buffer),
            loader: OnceLock::new(),
            explaining: Semaphore::new(1),
            models: RwLock::default(),
            begun: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            drain: watch::Sender::new(false),
        }
    }

    /// From here on the model answers, in place of one of the same name.
    pub fn serve(&self, model: Model) {
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let (name, version, provider) = (model.name.clone(), model.version.clone(), model.provider);
        if let Some(old) = models.insert(name.clone(), Arc::new(model)) {
            self.metrics.unloaded(&old.name, &old.version, old.provider);
        }
        self.metrics.loaded(&name, &version, provider);
    }

    /// From here on the model takes no more requests; those that it has are answered. Whether there was one.
    pub fn withdraw(&self, name: &str) -> bool {
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let Some(model) = models.remove(name) else { return false };
        self.metrics.unloaded(&model.name, &model.version, model.provider);
        true
    }

    /// From here on the server is ready.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// All models that answer, by name.
    pub fn models(&self) -> Vec<Arc<Model>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect()
    }

    /// The model by its name and, if the caller names one, its version.
    pub fn model(&self, name: &str, version: Option<&str>) -> Result<Arc<Model>, LookupError> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let Some(model) = models.get(name) else { return Err(self.unknown(name, &models)) };
        match version {
            Some(asked) if asked != model.version => {
                let (name, asked, have) = (name.to_owned(), asked.to_owned(), model.version.clone());
                Err(LookupError::Version { name, asked, have })
            }
            _ => Ok(Arc::clone(model)),
        }
    }

    fn unknown(&self, name: &str, models: &BTreeMap<String, Arc<Model>>) -> LookupError {
        let begins_with = self.config.model_name.iter().chain(&self.config.load);
        if !self.begun.load(Ordering::Relaxed) && begins_with.into_iter().any(|first| first == name) {
            return LookupError::Loading { name: name.to_owned() };
        }
        let have: Vec<String> = models.keys().map(|name| format!("{name:?}")).collect();
        let have = if have.is_empty() { "none".to_owned() } else { have.join(", ") };
        LookupError::Name { asked: name.to_owned(), have }
    }

    /// From here on the server is not ready, and asks callers to close their connections.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.drain.send_replace(true);
    }

    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Turns true when the drain begins.
    pub fn drain_signal(&self) -> watch::Receiver<bool> {
        self.drain.subscribe()
    }

    pub fn ready(&self) -> bool {
        !self.draining() && self.begun.load(Ordering::Relaxed)
    }
}
