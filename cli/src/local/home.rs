//! The folder of local runs: what they made, the models that they registered, and what they deployed.
//!
//! ```text
//! .millrace/claims/<claim>/…      artifacts, as a claim would have them
//!           models/<version>.yaml, deployments/<name>.yaml
//!           runs/<run>/run.yaml, frozen.json, logs/, work/<job>/
//! ```

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use millrace_core::api::{
    ConditionStatus, MLPipelineRun, ModelDeployment, ModelDeploymentStatus, ModelVersion, set_condition,
};
use millrace_core::names::{RUN_UID_LABEL, STAGE_LABEL};
use millrace_core::pipeline::Frozen;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// The longest name of a run.
const LONGEST: usize = 40;

pub struct Home {
    root: PathBuf,
}

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    pub path: PathBuf,
}

/// What became of a version that was to be registered.
#[derive(Debug, PartialEq, Eq)]
pub enum Registered {
    Yes,
    /// The name is another run's.
    Taken,
}

impl Home {
    /// Makes the folder if it is not there. Git passes it over.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let write = |source| Error::Write { path: path.display().to_string(), source };
        for folder in ["claims", "models", "deployments", "runs"] {
            fs::create_dir_all(path.join(folder)).map_err(write)?;
        }
        let root = path.canonicalize().map_err(write)?;
        let ignore = root.join(".gitignore");
        if !ignore.exists() {
            fs::write(ignore, "*\n").map_err(write)?;
        }
        Ok(Self { root })
    }

    pub fn claims(&self) -> PathBuf {
        self.root.join("claims")
    }

    pub fn version_file(&self, name: &str) -> PathBuf {
        self.root.join("models").join(format!("{name}.yaml"))
    }

    fn deployment_file(&self, name: &str) -> PathBuf {
        self.root.join("deployments").join(format!("{name}.yaml"))
    }

    /// Every model that was registered here.
    pub fn versions(&self) -> Result<Vec<Arc<ModelVersion>>, Error> {
        let folder = self.root.join("models");
        let unread = |source| Error::File { path: folder.display().to_string(), source };
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(unread)? {
            let path = entry.map_err(unread)?.path();
            if path.extension().is_some_and(|ending| ending == "yaml") {
                found.push(Arc::new(read(&path)?));
            }
        }
        Ok(found)
    }

    /// Registers a version, once.
    pub fn register(&self, version: &ModelVersion) -> Result<Registered, Error> {
        let path = self.version_file(version.metadata.name.as_deref().unwrap_or_default());
        let failed = |source| Error::Write { path: path.display().to_string(), source };
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                file.write_all(yaml(version)?.as_bytes()).map_err(failed)?;
                Ok(Registered::Yes)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let there: ModelVersion = read(&path)?;
                let label =
                    |of: &ModelVersion, key: &str| of.metadata.labels.as_ref().and_then(|l| l.get(key)).cloned();
                let same = [RUN_UID_LABEL, STAGE_LABEL].iter().all(|key| label(&there, key) == label(version, key));
                Ok(if same { Registered::Yes } else { Registered::Taken })
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Takes a version out, if it is there.
    pub fn unregister(&self, name: &str) -> Result<(), Error> {
        let path = self.version_file(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::Write { path: path.display().to_string(), source: error })
            }
            _ => Ok(()),
        }
    }

    /// A ModelDeployment with the version that was deployed here last. `given` is the one of the files, if there is one.
    pub fn deployment(
        &self,
        name: &str,
        model: &str,
        given: Option<&ModelDeployment>,
    ) -> Result<ModelDeployment, Error> {
        let mut found = given.cloned().unwrap_or_else(|| {
            let mut made = ModelDeployment::default();
            made.spec.model.name = Some(model.to_owned());
            made
        });
        found.metadata = ObjectMeta { name: Some(name.to_owned()), generation: Some(1), ..ObjectMeta::default() };
        found.status = None;
        found.spec.model.version = None;
        let path = self.deployment_file(name);
        let kept: Option<ModelDeployment> = if path.exists() { Some(read(&path)?) } else { None };
        if let Some(kept) = kept.filter(|kept| kept.spec.model.name == found.spec.model.name) {
            found.spec.model.version = kept.spec.model.version;
            found.metadata.generation = kept.metadata.generation;
            found.status = kept.status;
        }
        Ok(found)
    }

    /// Notes that a version is what would be served.
    pub fn deploy(&self, deployment: &mut ModelDeployment, version: i64) -> Result<(), Error> {
        deployment.spec.model.version = Some(version);
        let generation = Some(deployment.metadata.generation.unwrap_or_default() + 1);
        deployment.metadata.generation = generation;
        let mut status = ModelDeploymentStatus {
            observed_generation: generation,
            served_model: deployment.spec.model.name.clone(),
            served_version: Some(version),
            ..ModelDeploymentStatus::default()
        };
        let message = "noted by a local run: nothing is served";
        set_condition(
            &mut status.conditions,
            "Ready",
            ConditionStatus::True,
            "Local",
            message,
            generation,
            Timestamp::now(),
        );
        deployment.status = Some(status);
        let path = self.deployment_file(deployment.metadata.name.as_deref().unwrap_or_default());
        replace(&path, &yaml(deployment)?)
    }

    /// The folder of a new run: of this name, or `<prefix>-<next number>`.
    pub fn new_run(&self, name: Option<&str>, prefix: &str) -> Result<(String, RunFolder), Error> {
        let runs = self.root.join("runs");
        let prefix = prefix.get(..LONGEST).unwrap_or(prefix).trim_end_matches('-');
        for number in 1.. {
            let wanted = name.map_or_else(|| format!("{prefix}-{number}"), str::to_owned);
            let path = runs.join(&wanted);
            match fs::create_dir(&path) {
                Ok(()) => return Ok((wanted, RunFolder { path })),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if name.is_some() {
                        return Err(Error::said(format!("there is a run {wanted} already: {}", path.display())));
                    }
                }
                Err(source) => return Err(Error::Write { path: path.display().to_string(), source }),
            }
        }
        Err(Error::said("there is no number left for another run"))
    }

    /// A run that was begun here before, with what it ran.
    pub fn old_run(&self, name: &str) -> Result<(MLPipelineRun, Frozen, RunFolder), Error> {
        let runs = self.root.join("runs");
        let path = runs.join(name);
        if name.contains('/') || !path.join("run.yaml").is_file() {
            let there = fs::read_dir(&runs).into_iter().flatten().flatten();
            let there: Vec<String> = there.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            let hint = millrace_core::expr::did_you_mean(name, there.iter().map(String::as_str));
            return Err(Error::said(format!("there is no run {name} in {}: {hint}", runs.display())));
        }
        let text = fs::read_to_string(path.join("frozen.json"));
        let frozen = text.ok().and_then(|text| serde_json::from_str(&text).ok());
        let frozen = frozen.ok_or_else(|| Error::said(format!("run {name} has not begun: start another one")))?;
        Ok((read(&path.join("run.yaml"))?, frozen, RunFolder { path }))
    }
}

impl RunFolder {
    /// Writes the run as it is now.
    pub fn keep(&self, run: &MLPipelineRun) -> Result<(), Error> {
        replace(&self.path.join("run.yaml"), &yaml(run)?)
    }

    pub fn freeze(&self, frozen: &serde_json::Value) -> Result<(), Error> {
        replace(&self.path.join("frozen.json"), &frozen.to_string())
    }

    /// Where a pod works: its own, however often it is made.
    pub fn work(&self, job: &str, item: Option<(u32, u32)>) -> PathBuf {
        let folder = self.path.join("work").join(job);
        item.map_or(folder.clone(), |(index, failures)| folder.join(format!("{index}.{failures}")))
    }

    /// What a program writes.
    pub fn log(&self, stage: &str, attempt: u32, item: Option<u32>) -> PathBuf {
        let logs = self.path.join("logs");
        match item {
            None => logs.join(format!("{stage}.{attempt}.log")),
            Some(index) => logs.join(format!("{stage}.{attempt}")).join(format!("{index}.log")),
        }
    }
}

fn yaml(value: &impl Serialize) -> Result<String, Error> {
    serde_saphyr::to_string(value).map_err(|error| Error::said(format!("failed to write YAML: {error}")))
}

fn read<K: DeserializeOwned>(path: &Path) -> Result<K, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::File { path: path.display().to_string(), source })?;
    serde_saphyr::from_str(&text).map_err(|error| Error::said(format!("{}: {error}", path.display())))
}

/// Whole or not at all.
fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let new = path.with_extension("new");
    let written = fs::write(&new, text).and_then(|()| fs::rename(&new, path));
    written.map_err(|source| Error::Write { path: path.display().to_string(), source })
}

/// ModelDeployments by name.
pub type Deployments = BTreeMap<String, Arc<ModelDeployment>>;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(run: &str) -> ModelVersion {
        serde_json::from_value(json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "ModelVersion",
            "metadata": { "name": "m-v1", "labels": { RUN_UID_LABEL: run, STAGE_LABEL: "register" } },
            "spec": { "model": "m", "version": 1, "format": "onnx", "artifact": { "uri": "pvc://c/a", "digest": "d", "size": 1 },
                "metrics": { "f1": 0.1 }, "params": { "text": "1.0", "empty": "", "yes": "yes" } },
        }))
        .unwrap()
    }

    #[test]
    fn a_version_is_registered_once_and_read_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        assert_eq!(home.register(&version("a")).unwrap(), Registered::Yes);
        assert_eq!(home.register(&version("a")).unwrap(), Registered::Yes, "it is the same");
        assert_eq!(home.register(&version("b")).unwrap(), Registered::Taken);
        assert_eq!(home.versions().unwrap(), [Arc::new(version("a"))]);
    }

    #[test]
    fn what_was_deployed_is_kept_for_the_same_model() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let mut found = home.deployment("web", "m", None).unwrap();
        assert_eq!(found.spec.model.version, None);
        home.deploy(&mut found, 3).unwrap();
        let again = home.deployment("web", "m", None).unwrap();
        assert_eq!(again.status.unwrap().served_version, Some(3));
        assert_eq!(home.deployment("web", "other", None).unwrap().status, None);
    }

    #[test]
    fn a_run_has_the_next_number_or_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let next = |name: Option<&str>| home.new_run(name, "p").map(|(name, _)| name);
        assert_eq!((next(None).unwrap(), next(None).unwrap()), ("p-1".to_owned(), "p-2".to_owned()));
        assert_eq!(next(Some("mine")).unwrap(), "mine");
        assert!(next(Some("mine")).unwrap_err().to_string().contains("already"));
    }
}
