//! What a local run reads: the pipeline, what it uses, and the ConfigMaps and Secrets beside it. Of a kustomize folder that is what it lists
//! and generates; what it changes is `kubectl kustomize`'s to do.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use millrace_core::api::GROUP;
use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;
use crate::lint::files::{self, File};
use crate::yaml::documents;

const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Keys with their bytes, by the name of a ConfigMap or Secret.
pub type Maps = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// Everything that was read.
#[derive(Default)]
pub struct Source {
    pub files: Vec<File>,
    pub config_maps: Maps,
    pub secrets: Maps,
}

impl Source {
    /// A file, a folder, a kustomize folder, or standard input.
    pub fn read(&mut self, path: &str) -> Result<(), Error> {
        if path == "-" {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|source| Error::File { path: "standard input".to_owned(), source })?;
            self.text(path, &text);
            return Ok(());
        }
        let at = Path::new(path);
        if !at.is_dir() {
            let text = text(at)?;
            self.text(path, &text);
            return Ok(());
        }
        match KUSTOMIZATIONS.iter().map(|name| at.join(name)).find(|file| file.is_file()) {
            Some(file) => self.kustomization(at, &file),
            None => self.folder(at),
        }
    }

    fn folder(&mut self, folder: &Path) -> Result<(), Error> {
        let unread = |source| Error::File { path: shown(folder), source };
        let mut entries = fs::read_dir(folder).map_err(unread)?.collect::<Result<Vec<_>, _>>().map_err(unread)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            if path.is_dir() {
                self.folder(&path)?;
            } else if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml" || ending == "json") {
                let text = text(&path)?;
                // A folder may hold what is no object at all, as a chart's templates are not.
                if [&format!("{GROUP}/"), "ConfigMap", "Secret"].iter().any(|word| text.contains(*word)) {
                    self.text(&shown(&path), &text);
                }
            }
        }
        Ok(())
    }

    fn text(&mut self, path: &str, text: &str) {
        for node in documents(text).unwrap_or_default() {
            let json = node.json();
            match (json["apiVersion"].as_str(), json["kind"].as_str()) {
                (Some("v1"), Some("ConfigMap")) => self.config_map(json),
                (Some("v1"), Some("Secret")) => self.secret(json),
                _ => {}
            }
        }
        self.files.push(files::parse(path, text));
    }

    fn config_map(&mut self, json: Value) {
        let Ok(ConfigMap { metadata, data, binary_data, .. }) = serde_json::from_value(json) else { return };
        let text = data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
        let binary = binary_data.into_iter().flatten().map(|(key, value)| (key, value.0));
        self.config_maps.insert(metadata.name.unwrap_or_default(), text.chain(binary).collect());
    }

    fn secret(&mut self, json: Value) {
        let Ok(Secret { metadata, data, string_data, .. }) = serde_json::from_value(json) else { return };
        let binary = data.into_iter().flatten().map(|(key, value)| (key, value.0));
        let text = string_data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
        self.secrets.insert(metadata.name.unwrap_or_default(), binary.chain(text).collect());
    }

    fn kustomization(&mut self, folder: &Path, file: &Path) -> Result<(), Error> {
        let said = |message: String| Error::said(format!("{}: {message}", file.display()));
        let pipe = format!("kubectl kustomize {} | kubectl millrace run --local -f -", folder.display());
        let read: Kustomization = serde_saphyr::from_str(&text(file)?).map_err(|error| {
            said(format!("it lists more than files and generated ConfigMaps ({error}). Write instead: {pipe}"))
        })?;
        for resource in &read.resources {
            let path = folder.join(resource);
            if !path.exists() {
                return Err(said(format!("resources: {resource} is not here. If it is remote, write: {pipe}")));
            }
            self.read(&shown(&path))?;
        }
        for (generators, is_secret) in [(&read.config_maps, false), (&read.secrets, true)] {
            for generator in generators {
                let made = generator.make(folder)?;
                let maps = if is_secret { &mut self.secrets } else { &mut self.config_maps };
                maps.insert(generator.name.clone(), made);
            }
        }
        Ok(())
    }
}

/// As much of a kustomization as needs no kustomize.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    #[serde(rename = "apiVersion", default)]
    _api_version: Option<String>,
    #[serde(rename = "kind", default)]
    _kind: Option<String>,
    #[serde(rename = "namespace", default)]
    _namespace: Option<String>,
    #[serde(rename = "generatorOptions", default)]
    _options: Option<Value>,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(rename = "configMapGenerator", default)]
    config_maps: Vec<Generator>,
    #[serde(rename = "secretGenerator", default)]
    secrets: Vec<Generator>,
}

#[derive(Deserialize)]
struct Generator {
    name: String,
    #[serde(default)]
    files: Vec<String>,
    #[serde(default)]
    literals: Vec<String>,
    #[serde(default)]
    envs: Vec<String>,
}

impl Generator {
    fn make(&self, folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, Error> {
        let mut made = BTreeMap::new();
        for file in &self.files {
            let (key, file) = file.split_once('=').map_or((None, file.as_str()), |(key, file)| (Some(key), file));
            let path = folder.join(file);
            let bytes = fs::read(&path).map_err(|source| Error::File { path: shown(&path), source })?;
            let name = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            made.insert(key.map_or_else(name, str::to_owned), bytes);
        }
        for literal in &self.literals {
            if let Some((key, value)) = literal.split_once('=') {
                made.insert(key.to_owned(), unquoted(value).as_bytes().to_vec());
            }
        }
        for file in &self.envs {
            made.extend(variables(&folder.join(file))?.into_iter().map(|(name, value)| (name, value.into_bytes())));
        }
        Ok(made)
    }
}

fn unquoted(value: &str) -> &str {
    let within = |sign: char| value.strip_prefix(sign).and_then(|rest| rest.strip_suffix(sign));
    within('"').or_else(|| within('\'')).unwrap_or(value)
}

/// Lines `NAME=value`; empty ones and those that begin with `#` are passed over.
pub fn variables(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let mut found = BTreeMap::new();
    for (number, line) in text(path)?.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(Error::said(format!("{}:{}: write NAME=value", path.display(), number + 1)));
        };
        found.insert(name.trim_end().to_owned(), value.to_owned());
    }
    Ok(found)
}

fn text(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::File { path: shown(path), source })
}

fn shown(path: &Path) -> String {
    // Without the dots that joining leaves.
    path.components().collect::<PathBuf>().display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn read(folder: &tempfile::TempDir) -> Result<Source, Error> {
        let mut source = Source::default();
        source.read(folder.path().to_str().unwrap()).map(|()| source)
    }

    const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: m }\ndata: { a: \"1\" }\nbinaryData: { b: AAE= }\n---\n\
                       apiVersion: v1\nkind: Secret\nmetadata: { name: s }\nstringData: { c: x }\n";

    #[test]
    fn config_maps_and_secrets_beside_a_pipeline_are_read() {
        let source = read(&written(&[("a.yaml", MAP), (".hidden.yaml", "{"), ("notes.txt", "no")])).unwrap();
        assert_eq!(source.config_maps["m"], BTreeMap::from([("a".into(), b"1".to_vec()), ("b".into(), vec![0, 1])]));
        assert_eq!(source.secrets["s"]["c"], b"x");
    }

    #[test]
    fn a_kustomization_lists_files_and_makes_config_maps() {
        let text = "resources: [a.yaml]\nconfigMapGenerator:\n  - name: g\n    files: [d.csv, k=d.csv]\n    literals: ['x=\"y\"']\n    envs: [e]\n";
        let folder = written(&[
            ("kustomization.yaml", text),
            ("a.yaml", MAP),
            ("b.yaml", "kind: Secret"),
            ("d.csv", "1,2"),
            ("e", "# no\nN=v=w\n"),
        ]);
        let source = read(&folder).unwrap();
        assert_eq!(source.files.len(), 1, "b.yaml is not listed");
        let made = source.config_maps["g"].iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        let expected: [(&str, &[u8]); 4] = [("N", b"v=w"), ("d.csv", b"1,2"), ("k", b"1,2"), ("x", b"y")];
        assert_eq!(made.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_only_kustomize_can_do_is_left_to_it() {
        let refused =
            |text: &str| read(&written(&[("kustomization.yaml", text)])).err().map(|e| e.to_string()).unwrap();
        for text in ["resources: []\nnamePrefix: x-\n", "resources: [https://example.com/x]\n"] {
            assert!(refused(text).contains("kubectl kustomize"), "{text}");
        }
    }
}
