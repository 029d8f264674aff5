//! A model folder, opened: the ONNX file in ONNX Runtime and its signature.

pub mod features;
pub mod signature;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, TensorElementType};

use crate::{engine, say};
use signature::{Kind, Signature, SignatureError, Task};

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error(
        "ORT_DYLIB_PATH is not set: it is the path of ONNX Runtime's library (libonnxruntime.so), which the image brings"
    )]
    NoRuntime,
    #[error("failed to load ONNX Runtime from {path}: {reason}")]
    Runtime { path: String, reason: String },
    #[error("the model {input} has no model.onnx, found: {found}; an output of type model is a folder with model.onnx and signature.json", input = path.display())]
    NoModel { path: PathBuf, found: String },
    #[error("{path} is empty", path = path.display())]
    Empty { path: PathBuf },
    #[error("{path} ({size} bytes) is no ONNX model or is truncated: {reason}", path = path.display())]
    NotOnnx { path: PathBuf, size: u64, reason: String },
    #[error("{path} has no signature: neither signature.json beside it nor `millrace.signature` in its metadata", path = path.display())]
    NoSignature { path: PathBuf },
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}: the signature is not as it should be", path.display())]
    BadSignature {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{}: {}", path.display(), say::one_line(source))]
    Signature { path: PathBuf, source: SignatureError },
    #[error("{path}: the signature names the {side} {names}, which model.onnx does not have; its own are: {own}", path = path.display())]
    Disagree { path: PathBuf, side: &'static str, names: String, own: String },
    #[error("the model refused rows {from} to {to}: {reason}")]
    Run { from: u64, to: u64, reason: String },
    #[error("the model's output {output} is {found}, expected {expected}")]
    Output { output: &'static str, found: String, expected: String },
}

/// A model that can score.
pub struct Model {
    pub signature: Signature,
    pub kind: Kind,
    /// The size of the ONNX file.
    pub bytes: u64,
    session: Session,
}

/// What a model said about a batch of rows.
pub enum Answer {
    Classes { labels: Option<Vec<String>>, probabilities: Option<Vec<f32>> },
    Values(Vec<f32>),
}

impl Model {
    /// With a thread of the runtime for each that this process may use.
    pub fn open(folder: &Path, task: Option<Task>) -> Result<Self, ModelError> {
        Self::open_with(folder, task, engine::threads())
    }

    /// With so many threads of the runtime.
    pub fn open_with(folder: &Path, task: Option<Task>, threads: usize) -> Result<Self, ModelError> {
        let path = if folder.is_file() { folder.to_path_buf() } else { folder.join("model.onnx") };
        let read = |source| ModelError::Read { path: path.clone(), source };
        if !path.exists() {
            let entries =
                std::fs::read_dir(folder).map_err(|source| ModelError::Read { path: folder.into(), source })?;
            let names: Vec<String> =
                entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            let found = if names.is_empty() { "nothing".into() } else { say::names(names) };
            return Err(ModelError::NoModel { path: folder.into(), found });
        }
        let size = std::fs::metadata(&path).map_err(read)?.len();
        if size == 0 {
            return Err(ModelError::Empty { path });
        }
        let environment = environment()?;
        let session = start(environment, &path, threads).map_err(|reason| ModelError::NotOnnx {
            path: path.clone(),
            size,
            reason: excerpt(&reason),
        })?;
        let beside = path.with_file_name("signature.json");
        let (text, origin) = match std::fs::read_to_string(&beside) {
            Ok(text) => (text, beside),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let own = session.metadata().ok().and_then(|metadata| metadata.custom("millrace.signature"));
                (own.ok_or_else(|| ModelError::NoSignature { path: path.clone() })?, path.clone())
            }
            Err(source) => return Err(ModelError::Read { path: beside, source }),
        };
        let signature: Signature =
            serde_json::from_str(&text).map_err(|source| ModelError::BadSignature { path: origin.clone(), source })?;
        let kind = signature.kind(task).map_err(|source| ModelError::Signature { path: origin.clone(), source })?;
        agree(&origin, "inputs", &signature.inputs, &outlets(session.inputs()))?;
        agree(&origin, "outputs", &signature.outputs, &outlets(session.outputs()))?;
        Ok(Self { signature, kind, bytes: size, session })
    }

    /// Scores a batch. `from` is the number of its first row, for messages.
    pub fn score(
        &mut self,
        from: u64,
        rows: usize,
        inputs: Vec<(String, SessionInputValue<'static>)>,
    ) -> Result<Answer, ModelError> {
        let to = from + rows as u64 - 1;
        let kind = self.kind.clone();
        let outputs = self.session.run(inputs).map_err(|error| ModelError::Run {
            from,
            to,
            reason: excerpt(&error.to_string()),
        })?;
        match kind {
            Kind::Classifier { classes, label, probabilities } => {
                let labels = label.then(|| texts("label", &outputs["label"], rows)).transpose()?;
                let expected = rows * classes.len();
                let probabilities =
                    probabilities.then(|| floats("probabilities", &outputs["probabilities"], expected)).transpose()?;
                Ok(Answer::Classes { labels, probabilities })
            }
            Kind::Regressor => {
                let values = floats("prediction", &outputs["prediction"], rows)?;
                Ok(Answer::Values(values))
            }
        }
    }
}

/// Any graph in ONNX Runtime, with so many of its threads.
pub fn session(path: &Path, threads: usize) -> Result<Session, ModelError> {
    let size = std::fs::metadata(path).map_err(|source| ModelError::Read { path: path.into(), source })?.len();
    let environment = environment()?;
    start(environment, path, threads).map_err(|reason| ModelError::NotOnnx {
        path: path.into(),
        size,
        reason: excerpt(&reason),
    })
}

/// The first of the largest, as argmax has it.
pub fn largest(probabilities: &[f32]) -> u32 {
    let mut best = 0;
    for (index, p) in (0_u32..).zip(probabilities) {
        if *p > probabilities[best as usize] {
            best = index;
        }
    }
    best
}

/// One environment a process: it owns ONNX Runtime's thread pools and log.
fn environment() -> Result<&'static Environment, ModelError> {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    if let Some(known) = ENVIRONMENT.get() {
        return Ok(known);
    }
    let path = std::env::var("ORT_DYLIB_PATH").map_err(|_| ModelError::NoRuntime)?;
    let failed = |reason: String| ModelError::Runtime { path: path.clone(), reason: excerpt(&reason) };
    let made = ort::init_from(&path).map_err(|error| failed(error.to_string()))?.with_name("millrace-data").build();
    let made = made.map_err(|error| failed(error.to_string()))?;
    Ok(ENVIRONMENT.get_or_init(|| made))
}

fn start(environment: &Environment, path: &Path, threads: usize) -> Result<Session, String> {
    let builder = Session::builder(environment).map_err(|error| error.to_string())?;
    let mut builder = builder.with_intra_threads(threads).map_err(|error| error.to_string())?;
    builder.commit_from_file(path).map_err(|error| error.to_string())
}

fn outlets(outlets: &[ort::value::Outlet]) -> Vec<String> {
    outlets.iter().map(|outlet| outlet.name().to_owned()).collect()
}

fn agree(path: &Path, side: &'static str, said: &[signature::Tensor], own: &[String]) -> Result<(), ModelError> {
    let strange: Vec<&str> =
        said.iter().map(|tensor| tensor.name.as_str()).filter(|name| !own.iter().any(|known| known == name)).collect();
    if strange.is_empty() {
        return Ok(());
    }
    Err(ModelError::Disagree { path: path.into(), side, names: say::names(strange), own: say::names(own) })
}

pub fn floats(output: &'static str, value: &DynValue, expected: usize) -> Result<Vec<f32>, ModelError> {
    let wrong =
        |found: String| ModelError::Output { output, found, expected: format!("{expected} numbers of type FP32") };
    let (_, data) = value.try_extract_tensor::<f32>().map_err(|error| wrong(excerpt(&error.to_string())))?;
    if data.len() == expected { Ok(data.to_vec()) } else { Err(wrong(format!("{} numbers", data.len()))) }
}

pub fn texts(output: &'static str, value: &DynValue, rows: usize) -> Result<Vec<String>, ModelError> {
    let wrong =
        |found: String| ModelError::Output { output, found, expected: format!("{rows} labels, BYTES or INT64") };
    let labels: Vec<String> = match value.dtype().tensor_type() {
        Some(TensorElementType::Int64) => {
            let (_, data) = value.try_extract_tensor::<i64>().map_err(|error| wrong(error.to_string()))?;
            data.iter().map(ToString::to_string).collect()
        }
        Some(TensorElementType::String) => value.try_extract_strings().map_err(|error| wrong(error.to_string()))?.1,
        other => return Err(wrong(format!("of type {other:?}"))),
    };
    if labels.len() == rows { Ok(labels) } else { Err(wrong(format!("{} labels", labels.len()))) }
}

/// ONNX Runtime's messages are long and hold paths of its own build.
fn excerpt(text: &str) -> String {
    say::excerpt(&text.split_whitespace().collect::<Vec<_>>().join(" "), 300)
}
