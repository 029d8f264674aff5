//! What makes a folder a model: `model.onnx`, and a `signature.json` that says what goes in and comes out. Of another format only its server knows what
//! belongs there.

use std::path::Path;

use millrace_contract::{NESTING_LIMIT, nesting};
use millrace_files::regular;
use serde_json::Value;
use thiserror::Error;

/// A signature of a thousand columns has some 100 KiB.
const SIGNATURE_LIMIT: u64 = 4 * 1024 * 1024;

#[derive(Debug, Error)]
pub enum ModelError {
    #[error("it is a file; an output of `type: model` is a folder that holds model.onnx and signature.json")]
    NotAFolder,
    #[error("it is a file; an output of `type: model` with `format: {0}` is a folder with whatever its server needs")]
    NotAFolderOf(String),
    #[error(
        "it has no {0}; an output of `type: model` is a folder that holds model.onnx and signature.json. If the model is no ONNX model, write its \
         `format` beside `type: model`"
    )]
    FileMissing(&'static str),
    #[error(
        "its signature.json cannot be used: {0}; write {{\"task\", \"inputs\": [{{\"name\", \"datatype\", \"shape\"}}], \"outputs\": […]}}"
    )]
    Signature(String),
}

/// The signature of the model in `folder`. One of another format than ONNX may have none.
pub fn signature(folder: &Path, format: Option<&str>) -> Result<Option<Value>, ModelError> {
    if let Some(format) = format {
        if !folder.is_dir() {
            return Err(ModelError::NotAFolderOf(format.to_owned()));
        }
        let there = folder.join("signature.json").is_file();
        return there.then(|| read(folder)).transpose();
    }
    if !folder.is_dir() {
        return Err(ModelError::NotAFolder);
    }
    for name in ["model.onnx", "signature.json"] {
        if !folder.join(name).is_file() {
            return Err(ModelError::FileMissing(name));
        }
    }
    read(folder).map(Some)
}

fn read(folder: &Path) -> Result<Value, ModelError> {
    let path = folder.join("signature.json");
    let bad = |found: &dyn std::fmt::Display| ModelError::Signature(found.to_string());
    let bytes = regular::read(&path, SIGNATURE_LIMIT).map_err(|error| bad(&error))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| bad(&error))?;
    if nesting(&value) > NESTING_LIMIT {
        return Err(bad(&format!("its lists and objects are {} deep, more than {NESTING_LIMIT}", nesting(&value))));
    }
    if !value["task"].is_string() {
        return Err(bad(&"`task` is not text"));
    }
    for field in ["inputs", "outputs"] {
        let tensors = value[field].as_array().ok_or_else(|| bad(&format!("`{field}` is not a list")))?;
        for (index, tensor) in tensors.iter().enumerate() {
            let good = tensor["name"].is_string() && tensor["datatype"].is_string() && tensor["shape"].is_array();
            if !good {
                return Err(bad(&format!("`{field}[{index}]` lacks name, datatype or shape")));
            }
        }
    }
    Ok(value)
}
