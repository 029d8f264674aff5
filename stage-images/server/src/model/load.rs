//! From a folder to a session: finds the model, reads its signature, builds the session.

use std::path::{Path, PathBuf};

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use thiserror::Error;

use super::signature_file::SignatureFile;
use super::{Engine, Provider, Signature, SignatureError, device};

/// The metadata key under which a model carries its own signature.
const SIGNATURE_KEY: &str = "millrace.signature";

/// What every session is made with.
#[derive(Debug)]
pub struct Runtime {
    pub environment: Environment,
    pub provider: Provider,
    /// How many threads of the processor one inference may use.
    pub threads: usize,
}

/// A model that can run.
pub struct Loaded {
    pub signature: Signature,
    pub engine: Engine,
}

/// Why a folder holds no model that can be served.
#[derive(Debug, Error)]
pub enum LoadError {
    #[error(
        "failed to load ONNX Runtime from {path:?}: {message}; set ORT_DYLIB_PATH to a libonnxruntime.so of 1.22 or later"
    )]
    Runtime { path: PathBuf, message: String },
    #[error(
        "no GPU can be used, and --device=gpu asks for one: {why}; give the server a GPU and ONNX Runtime's build for CUDA, or leave the flag out"
    )]
    NoGpu { why: String },
    #[error("no model in {dir:?}: {found}; --model-dir needs a folder with model.onnx, or with one .onnx file")]
    NoModel { dir: PathBuf, found: String },
    #[error("failed to read {path:?}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path:?} is not a model that ONNX Runtime can load: {message}")]
    BadModel { path: PathBuf, message: String },
    #[error("{from} of {path:?} is not a signature: {source}")]
    BadSignature { path: PathBuf, from: &'static str, source: serde_json::Error },
    #[error("failed to serve {path:?}: {source}")]
    Signature { path: PathBuf, source: Box<SignatureError> },
}

/// Loads the shared library and makes the process's only environment.
pub fn runtime(library: &Path) -> Result<Environment, LoadError> {
    let failed = |message: String| LoadError::Runtime { path: library.to_owned(), message };
    ort::init_from(library)
        .map_err(|error| failed(error.to_string()))?
        .with_name("millrace")
        .with_telemetry(false)
        .build()
        .map_err(|error| failed(error.to_string()))
}

/// Loads the model in `dir`.
pub fn load(runtime: &Runtime, dir: &Path) -> Result<Loaded, LoadError> {
    let path = find(dir)?;
    let session = session(runtime, &path)
        .map_err(|error| LoadError::BadModel { path: path.clone(), message: error.message().to_owned() })?;
    let stated = stated(dir, &session)?;
    let signature = Signature::new(session.inputs(), session.outputs(), stated.as_ref())
        .map_err(|source| LoadError::Signature { path, source: Box::new(source) })?;
    Ok(Loaded { signature, engine: Engine::new(session) })
}

/// `model.onnx`, else the only `.onnx` file.
fn find(dir: &Path) -> Result<PathBuf, LoadError> {
    let usual = dir.join("model.onnx");
    if usual.is_file() {
        return Ok(usual);
    }
    let entries = std::fs::read_dir(dir).map_err(|source| LoadError::Read { path: dir.to_owned(), source })?;
    let mut models: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    match (models.pop(), models.len()) {
        (Some(only), 0) => Ok(only),
        (Some(_), more) => Err(LoadError::NoModel { dir: dir.to_owned(), found: format!("{} .onnx files", more + 1) }),
        (None, _) => Err(LoadError::NoModel { dir: dir.to_owned(), found: "no .onnx file".to_owned() }),
    }
}

fn session(runtime: &Runtime, path: &Path) -> ort::Result<Session> {
    // Threads spin while they wait for each other within a run, which a large graph is a tenth faster for, and never between runs: there they would
    // take the cores from the threads that serve sockets.
    device::on(runtime.provider, Session::builder(&runtime.environment)?)?
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(|error| ort::Error::new(error.message()))?
        .with_intra_threads(runtime.threads)
        .map_err(|error| ort::Error::new(error.message()))?
        .with_intra_op_spinning(true)
        .map_err(|error| ort::Error::new(error.message()))?
        .with_config_entry("session.force_spinning_stop", "1")
        .map_err(|error| ort::Error::new(error.message()))?
        .with_inter_op_spinning(false)
        .map_err(|error| ort::Error::new(error.message()))?
        .commit_from_file(path)
}

/// What the model's maker wrote down: beside the model, else inside it. A plain model has neither.
fn stated(dir: &Path, session: &Session) -> Result<Option<SignatureFile>, LoadError> {
    let path = dir.join("signature.json");
    let (text, from) = match std::fs::read_to_string(&path) {
        Ok(text) => (text, "the text"),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            let Some(text) = session.metadata().ok().and_then(|metadata| metadata.custom(SIGNATURE_KEY)) else {
                return Ok(None);
            };
            (text, "the model's metadata in place")
        }
        Err(source) => return Err(LoadError::Read { path, source }),
    };
    serde_json::from_str(&text).map(Some).map_err(|source| LoadError::BadSignature { path, from, source })
}
