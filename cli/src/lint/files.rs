//! Files and folders, and what of Millrace is in them. Everything else is passed over.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::Path;

use millrace_core::api::GROUP;
use millrace_core::expr;

use super::schema;
use crate::error::Error;
use crate::yaml::{Fault, Node, documents};

/// A file with its objects, or why it is no YAML.
pub struct File {
    pub path: String,
    pub objects: Result<Vec<Object>, Fault>,
}

/// An object of Millrace's API group.
pub struct Object {
    pub kind: String,
    pub name: String,
    pub node: Node,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, if self.name.is_empty() { "without a name" } else { &self.name })
    }
}

/// All files of these paths; those of a folder with all below it, in the order of their names.
pub fn find(paths: &[String]) -> Result<Vec<File>, Error> {
    let mut files = Vec::new();
    for path in paths {
        if path == "-" {
            files.push(stdin()?);
        } else if Path::new(path).is_dir() {
            folder(Path::new(path), &mut files)?;
        } else {
            files.push(parse(path, &text(path)?));
        }
    }
    Ok(files)
}

/// One file whose objects are needed.
pub fn read(path: &str) -> Result<Vec<Object>, Error> {
    let file = if path == "-" { stdin()? } else { parse(path, &text(path)?) };
    file.objects
        .map_err(|Fault { place, message }| Error::said(format!("{path}:{}:{}: {message}", place.line, place.column)))
}

fn stdin() -> Result<File, Error> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|source| Error::File { path: "standard input".to_owned(), source })?;
    Ok(parse("-", &text))
}

fn text(path: &str) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })
}

fn folder(path: &Path, files: &mut Vec<File>) -> Result<(), Error> {
    let unread = |source| Error::File { path: path.display().to_string(), source };
    let mut entries = fs::read_dir(path).map_err(unread)?.collect::<Result<Vec<_>, _>>().map_err(unread)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let ours = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml" || ending == "json");
        if hidden {
            continue;
        }
        if path.is_dir() {
            folder(&path, files)?;
        } else if ours {
            let name = path.display().to_string();
            let text = text(&name)?;
            let file = parse(&name, &text);
            // A folder may hold what is not meant for kubectl, as a chart's templates are not.
            if text.contains(&format!("{GROUP}/")) || file.objects.as_ref().is_ok_and(|objects| !objects.is_empty()) {
                files.push(file);
            }
        }
    }
    Ok(())
}

/// The objects of a text.
pub fn parse(path: &str, text: &str) -> File {
    let objects = documents(text).map(|nodes| nodes.into_iter().filter_map(object).collect());
    File { path: path.to_owned(), objects }
}

fn object(node: Node) -> Option<Object> {
    let kind = node.get("kind").and_then(Node::text).unwrap_or_default().to_owned();
    let version = node.get("apiVersion").and_then(Node::text).unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    // One of a group that is called nearly so is looked at too, and so is a kind of ours that is in no group of anybody's: nobody else would say
    // that it is the wrong one. A group of somebody else may have a kind that is called so, as KServe has an InferenceGraph.
    let ours = expr::nearest(version.split('/').next()?, [GROUP]).is_some();
    let ours = ours || !group.contains('.') && schema::of(&kind).is_some();
    let named = |key: &str| node.get("metadata").and_then(|metadata| metadata.get(key)).and_then(Node::text);
    let name = named("name").or_else(|| named("generateName")).unwrap_or_default().to_owned();
    ours.then_some(Object { kind, name, node })
}
