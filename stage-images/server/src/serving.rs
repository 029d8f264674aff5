//! What the server's parts share: the model once it is there, and how far the server's own life has come.
//!
//! One model for now. Callers only ask by name and version, so a table can take its place.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use thiserror::Error;
use tokio::sync::watch;

use crate::batch::Queue;
use crate::budget::Budget;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::model::Signature;

/// A model that answers.
#[derive(Debug)]
pub struct Model {
    pub name: String,
    pub version: String,
    pub signature: Signature,
    pub queue: Arc<Queue>,
}

/// State of the whole process.
#[derive(Debug)]
pub struct Serving {
    pub config: Config,
    pub metrics: Arc<Metrics>,
    /// Memory for requests.
    pub buffer: Budget,
    model: OnceLock<Model>,
    draining: AtomicBool,
    drain: watch::Sender<bool>,
}

/// Why there is no model to answer.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LookupError {
    #[error("unknown model {asked:?}: this server has {have:?}")]
    Name { asked: String, have: String },
    #[error("model {name:?} has no version {asked:?}: this server has {have:?}")]
    Version { name: String, asked: String, have: String },
    #[error("model {name:?} is still being loaded")]
    Loading { name: String },
}

impl Serving {
    pub fn new(config: Config, metrics: Arc<Metrics>, buffer: usize) -> Self {
        let buffer = Budget::new(buffer);
        let (draining, drain) = (AtomicBool::new(false), watch::Sender::new(false));
        Self { config, metrics, buffer, model: OnceLock::new(), draining, drain }
    }

    /// From here on the model answers.
    pub fn serve(&self, model: Model) {
        // Set once, by the only caller.
        drop(self.model.set(model));
    }

    pub fn loaded(&self) -> Option<&Model> {
        self.model.get()
    }

    /// The model by its name and, if the caller names one, its version.
    pub fn model(&self, name: &str, version: Option<&str>) -> Result<&Model, LookupError> {
        let Config { model_name, model_version, .. } = &self.config;
        if name != model_name {
            return Err(LookupError::Name { asked: name.to_owned(), have: model_name.clone() });
        }
        if let Some(asked) = version.filter(|asked| asked != model_version) {
            return Err(LookupError::Version {
                name: name.to_owned(),
                asked: asked.to_owned(),
                have: model_version.clone(),
            });
        }
        self.model.get().ok_or_else(|| LookupError::Loading { name: name.to_owned() })
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
        !self.draining() && self.model.get().is_some()
    }
}
