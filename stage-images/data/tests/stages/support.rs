//! Runs the program as the agent does: the stage's paths in the environment, the parameters as one JSON object.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use tempfile::TempDir;

/// A folder with the outputs of one run.
pub struct Run {
    pub succeeded: bool,
    pub stdout: String,
    pub stderr: String,
    folder: TempDir,
}

/// A stage to run.
pub struct Stage {
    name: &'static str,
    inputs: Vec<(String, PathBuf)>,
    environment: Vec<(String, String)>,
}

pub fn stage(name: &'static str) -> Stage {
    Stage { name, inputs: Vec::new(), environment: Vec::new() }
}

impl Stage {
    pub fn input(mut self, name: &str, path: impl AsRef<Path>) -> Self {
        self.inputs.push((name.to_owned(), path.as_ref().to_path_buf()));
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn run(self, params: &Value) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace-data"));
        command.args([self.name, "--params", &params.to_string()]);
        for (name, path) in &self.inputs {
            command.env(format!("MILLRACE_INPUT_{}", millrace_contract::env_name(name)), path);
        }
        for output in ["data", "report", "train", "validation", "test", "features"] {
            let path = folder.path().join("outputs").join(output);
            command.env(format!("MILLRACE_OUTPUT_{}", millrace_contract::env_name(output)), path);
        }
        command.env("MILLRACE_OUT", folder.path().join("out"));
        command.envs(self.environment);
        std::fs::create_dir_all(folder.path().join("outputs")).unwrap();
        let output = command.output().unwrap();
        Run {
            succeeded: output.status.success(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            folder,
        }
    }
}

impl Run {
    /// The run, if it succeeded.
    #[track_caller]
    pub fn well(self) -> Self {
        assert!(self.succeeded, "failed: {}{}", self.stdout, self.stderr);
        self
    }

    /// The error that a failed run ended with: its last line.
    #[track_caller]
    pub fn error(&self) -> String {
        assert!(!self.succeeded, "succeeded: {}", self.stdout);
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: "), "no error line: {}", self.stderr);
        last["error: ".len()..].to_owned()
    }

    pub fn output(&self, name: &str) -> PathBuf {
        self.folder.path().join("outputs").join(name)
    }

    pub fn text(&self, output: &str, file: &str) -> String {
        std::fs::read_to_string(self.output(output).join(file)).unwrap()
    }

    pub fn result(&self, name: &str) -> Value {
        let path = self.folder.path().join("out/results").join(name);
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    pub fn numbers(&self, file: &str) -> BTreeMap<String, f64> {
        serde_json::from_str(&std::fs::read_to_string(self.folder.path().join("out").join(file)).unwrap()).unwrap()
    }

    pub fn table(&self, output: &str) -> Table {
        Table::read(&self.output(output))
    }
}

/// A table as text.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// `name: type`.
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn read(folder: &Path) -> Self {
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        for file in files {
            let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap();
            let fields = builder.schema().fields();
            columns = fields.iter().map(|field| format!("{}: {}", field.name(), field.data_type())).collect();
            for batch in builder.build().unwrap() {
                rows.extend(texts(&batch.unwrap()));
            }
        }
        Self { columns, rows }
    }

    pub fn column(&self, name: &str) -> Vec<&str> {
        let index = self.columns.iter().position(|column| column.split(':').next() == Some(name)).unwrap();
        self.rows.iter().map(|row| row[index].as_str()).collect()
    }
}

fn texts(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<ArrayFormatter> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()).collect()
}

/// A folder with files in it.
pub struct Files(TempDir);

impl Files {
    pub fn new(files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        Self(folder)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

/// A table made of CSV text by the program itself.
pub fn table_of(csv: &str) -> Run {
    let files = Files::new(&[("table.csv", csv.as_bytes())]);
    stage("ingest").run(&serde_json::json!({"source": files.path("table.csv")})).well()
}

/// A file of this folder.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}
