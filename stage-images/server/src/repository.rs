//! Makes models from folders: those that the server begins with, and those that callers load at run time.
//!
//! A repository is a folder of folders, one a model. Each holds the model itself or, as Triton has it, folders with numbers
//! for versions; of these the largest is served.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

use crate::batch::{self, Queue, Rules};
use crate::config::Config;
use crate::drift::Watch;
use crate::explain::Reference;
use crate::model::{self, LoadError, Runtime, WarmUpError};
use crate::serving::{Model, Serving};

/// Makes models that answer.
#[derive(Debug)]
pub struct Loader {
    runtime: Runtime,
    /// One model is loaded at a time: two would need memory for both at once.
    turn: Mutex<()>,
}

/// A model of the repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub name: String,
    pub version: String,
    pub dir: PathBuf,
}

/// Why a model is not loaded or unloaded.
#[derive(Debug, Error)]
pub enum RepositoryError {
    #[error("this server has no model repository: start it with --model-repository")]
    None,
    #[error("the repository has no model {0:?}")]
    Unknown(String),
    #[error("model {0:?} is the one that this server was started for: it stays")]
    Fixed(String),
    #[error("this server has {0} models, as many as it may: unload one, or raise --max-models")]
    Full(usize),
    #[error("the server is still starting")]
    Starting,
    #[error("failed to read the repository {dir:?}: {source}")]
    Read { dir: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("model {name:?}: {source}")]
    WarmUp { name: String, source: WarmUpError },
    #[error("failed to start a thread: {0}")]
    Thread(std::io::Error),
}

impl Loader {
    pub fn new(runtime: Runtime) -> Self {
        Self { runtime, turn: Mutex::default() }
    }

    /// Loads a model, warms it up and lets it serve. One of the same name answers until then, and stays if this fails.
    pub fn load(&self, serving: &Serving, entry: Entry) -> Result<(), RepositoryError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let config = &serving.config;
        let models = serving.models();
        if models.len() >= config.max_models && models.iter().all(|model| model.name != entry.name) {
            return Err(RepositoryError::Full(models.len()));
        }
        let Entry { name, version, dir } = entry;
        let mut loaded = model::load(&self.runtime, &dir)?;
        if let Err(source) = model::warm_up(&mut loaded.engine, &loaded.signature, config.max_batch_size) {
            if !source.guessed {
                return Err(RepositoryError::WarmUp { name, source });
            }
            tracing::warn!(%source, "not warmed up: the model leaves dimensions open");
        }
        let batched = loaded.signature.batched;
        let queue = Arc::new(Queue::new(config.max_queue));
        let rules = Rules { max_rows: if batched { config.max_batch_size } else { 1 }, max_delay: config.max_delay };
        let watch = Arc::new(Watch::of(&name, &loaded.signature, &dir, Arc::clone(&serving.metrics)));
        let (waiting, counts) = (Arc::clone(&queue), Arc::clone(&watch));
        batch::start(loaded.engine, waiting, Arc::clone(&serving.metrics), counts, rules)
            .map_err(RepositoryError::Thread)?;
        let provider = self.runtime.provider;
        tracing::info!(model = name, version, batched, execution_provider = provider.name(), "ready");
        let reference = Reference::of(&loaded.signature, &dir);
        serving.serve(Model { name, version, signature: loaded.signature, provider, queue, reference, watch });
        Ok(())
    }
}

/// Loads a model of the repository, or loads it again.
pub fn load(serving: &Serving, name: &str) -> Result<(), RepositoryError> {
    let entry = find(&serving.config, name)?;
    let loader = serving.loader.get().ok_or(RepositoryError::Starting)?;
    loader.load(serving, entry)
}

/// Withdraws a model of the repository. Nothing happens if it is not loaded.
pub fn unload(serving: &Serving, name: &str) -> Result<(), RepositoryError> {
    find(&serving.config, name)?;
    if serving.withdraw(name) {
        tracing::info!(model = name, "unloaded");
    }
    Ok(())
}

/// All models of the repository, by name.
pub fn list(config: &Config) -> Result<Vec<Entry>, RepositoryError> {
    let dir = config.model_repository.as_deref().ok_or(RepositoryError::None)?;
    let read = std::fs::read_dir(dir).map_err(|source| RepositoryError::Read { dir: dir.to_owned(), source })?;
    let mut entries: Vec<Entry> = read.flatten().filter_map(|entry| model_in(&entry.path())).collect();
    entries.sort();
    Ok(entries)
}

/// The name is looked for among those that are there, so that it never is a path.
fn find(config: &Config, name: &str) -> Result<Entry, RepositoryError> {
    let entries = list(config)?;
    if config.model_name.as_deref() == Some(name) {
        return Err(RepositoryError::Fixed(name.to_owned()));
    }
    entries.into_iter().find(|entry| entry.name == name).ok_or_else(|| RepositoryError::Unknown(name.to_owned()))
}

/// A folder's model. Hidden folders are none: volumes have some of their own.
fn model_in(dir: &Path) -> Option<Entry> {
    let name = dir.file_name()?.to_str().filter(|name| !name.starts_with('.'))?.to_owned();
    let children: Vec<PathBuf> = std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).collect();
    if children.iter().any(|path| path.extension().is_some_and(|extension| extension == "onnx")) {
        return Some(Entry { name, version: "1".to_owned(), dir: dir.to_owned() });
    }
    let number = |path: &PathBuf| Some((path.file_name()?.to_str()?.parse::<u64>().ok()?, path.clone()));
    let (version, dir) = children.iter().filter(|path| path.is_dir()).filter_map(number).max()?;
    Some(Entry { name, version: version.to_string(), dir })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_a_model_or_holds_its_versions() {
        let root = tempfile::tempdir().unwrap();
        for file in ["plain/any.onnx", "many/2/model.onnx", "many/10/model.onnx", "many/x/model.onnx", ".data/a.onnx"] {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::fs::create_dir(root.path().join("empty")).unwrap();
        let found = |name: &str| model_in(&root.path().join(name)).map(|entry| (entry.version, entry.dir));
        assert_eq!(found("plain"), Some(("1".into(), root.path().join("plain"))));
        assert_eq!(found("many"), Some(("10".into(), root.path().join("many/10"))));
        assert_eq!(found("empty"), None);
        assert_eq!(found(".data"), None);
    }
}
