//! The artifact `features`: what was learned (`features.json`) and the graph that applies it (`features.onnx`).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::op::{Column, Op};
use super::window::Windowed;
use crate::say;
use crate::workplace::{WorkplaceError, write_file};

/// The form of the file. Another one is refused, not guessed at.
const VERSION: u32 = 1;
pub const STATE: &str = "features.json";
pub const GRAPH: &str = "features.onnx";

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the input `features` has no {file}: {}; it is the output `features` of a stage that fits", path.display())]
    Missing { file: &'static str, path: PathBuf },
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is not as it should be", path.display())]
    Broken {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{} has the version {found}, and this stage knows {VERSION}; fit the features again with this stage", path.display())]
    Version { path: PathBuf, found: u64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    pub version: u32,
    /// The training rows.
    pub rows: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Columns that stay in the tables, the target among them.
    pub kept: Vec<String>,
    /// Columns that are made of several rows, before all else.
    pub windows: Vec<Windowed>,
    /// The raw columns that the graph takes.
    pub inputs: Vec<Column>,
    pub ops: Vec<Op>,
    pub outputs: Vec<Column>,
    /// What selection measured, and columns that were left out for what they are.
    pub selection: Vec<Judged>,
}

/// What was found of a feature, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Judged {
    pub feature: String,
    /// `variance`, `correlation`, `mutual_information`, `empty` or `drop`.
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    pub kept: bool,
    pub reason: String,
}

impl State {
    pub fn new() -> Self {
        Self {
            version: VERSION,
            rows: 0,
            target: None,
            kept: Vec::new(),
            windows: Vec::new(),
            inputs: Vec::new(),
            ops: Vec::new(),
            outputs: Vec::new(),
            selection: Vec::new(),
        }
    }

    pub fn write(&self, folder: &Path, graph: &[u8]) -> Result<(), WorkplaceError> {
        let json = serde_json::to_string_pretty(self).unwrap_or_default();
        write_file(&folder.join(STATE), format!("{json}\n").as_bytes())?;
        write_file(&folder.join(GRAPH), graph)
    }

    pub fn read(folder: &Path) -> Result<Self, StateError> {
        let path = folder.join(STATE);
        if !path.is_file() {
            return Err(StateError::Missing { file: STATE, path: folder.into() });
        }
        if !folder.join(GRAPH).is_file() {
            return Err(StateError::Missing { file: GRAPH, path: folder.into() });
        }
        let text = std::fs::read_to_string(&path).map_err(|source| StateError::Read { path: path.clone(), source })?;
        let broken = |source| StateError::Broken { path: path.clone(), source };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(broken)?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(found) if found != u64::from(VERSION) => Err(StateError::Version { path, found }),
            _ => serde_json::from_value(value).map_err(broken),
        }
    }

    /// Lines for the log: what was left out, and why.
    pub fn say(&self) {
        for judged in self.selection.iter().filter(|judged| !judged.kept) {
            say::line(format!("left out: {} ({})", say::excerpt(&judged.feature, 60), judged.reason));
        }
        say::line(format!("{} features of {} raw columns", self.outputs.len(), self.inputs.len()));
    }
}
