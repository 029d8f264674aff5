//! What of a store is needed: the folders of a pipeline's runs that are there, and whatever any object of the namespace has an address of.
//!
//! Every text of every object counts, not only the fields that hold addresses today: a parameter, a script or an annotation that names an
//! artifact keeps it too. What is cut out of a text may be too much, and then more is kept.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use crate::api::{MLPipelineRun, Store};
use crate::names;
use crate::store;

/// The folder of all runs.
const RUNS: &str = "runs";
/// What ends an address in a text.
const ENDS: &[char] = &['"', '\'', '`', ',', ';', '(', ')', '[', ']', '{', '}', '<', '>', '|', '\\', '?', '#'];

/// Where a store's addresses begin, and the folders on the way to those of its runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    begins: String,
    above: Vec<String>,
}

impl Root {
    pub(super) fn of(store: &Store) -> Option<Self> {
        if let Some(claim) = store::claim(store) {
            return Some(Self { begins: format!("pvc://{claim}"), above: vec![RUNS.to_owned()] });
        }
        let objects = store::objects(store, RUNS)?;
        let begins = format!("{}://{}", objects.kind.scheme(), objects.bucket);
        Some(Self { begins, above: objects.key.split('/').map(str::to_owned).collect() })
    }

    /// The paths below the folder of the runs that a text names. One that is above it, or that nobody can be sure of, names all: an empty path.
    fn named(&self, text: &str, found: &mut BTreeSet<String>) {
        for (at, begins) in text.match_indices(&self.begins) {
            let rest = &text[at + begins.len()..];
            // Another bucket whose name is longer.
            if rest.starts_with(|c: char| c.is_alphanumeric() || "-._".contains(c)) {
                continue;
            }
            let end = rest.find(|c: char| c.is_whitespace() || ENDS.contains(&c)).unwrap_or(rest.len());
            // What follows an expression is filled in somewhere else, and the name before it may go on.
            let path = rest[..end]
                .split_once('$')
                .map_or(&rest[..end], |(before, _)| before.rsplit_once('/').map_or("", |(folder, _)| folder));
            self.below(path, found);
            // The end of a sentence is no part of a name, or is.
            self.below(path.trim_end_matches(['.', ':', '!']), found);
        }
    }

    fn below(&self, path: &str, found: &mut BTreeSet<String>) {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (above, below) = parts.split_at(parts.len().min(self.above.len()));
        if parts.iter().any(|part| matches!(*part, "." | "..")) {
            found.insert(String::new());
        } else if above.iter().zip(&self.above).all(|(part, wanted)| part == wanted) {
            found.insert(below.join("/"));
        }
    }
}

/// What is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    /// Folders of the pipeline's runs.
    pub kept: Vec<String>,
    /// What else is needed, as far as it lies in no folder of a run that is there.
    pub held: Vec<String>,
}

/// `own` are the pipeline's runs, `all` those of the namespace, and `named` the paths that anything names.
pub(super) fn live<'a>(
    own: impl IntoIterator<Item = &'a MLPipelineRun>,
    all: impl IntoIterator<Item = &'a MLPipelineRun>,
    named: BTreeSet<String>,
) -> Live {
    let kept: BTreeSet<String> = own.into_iter().filter_map(folder).collect();
    let there: BTreeSet<String> = all.into_iter().filter_map(folder).chain(kept.iter().cloned()).collect();
    let gone = |path: &String| !path.split('/').next().is_some_and(|first| there.contains(first));
    let mut held: Vec<String> = Vec::new();
    // In order, so that a folder comes before what is in it.
    for path in named.into_iter().filter(gone) {
        let within = |folder: &String| {
            folder.is_empty() || path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        // An empty one is the first.
        if ![held.first(), held.last()].into_iter().flatten().any(within) {
            held.push(path);
        }
    }
    Live { kept: kept.into_iter().collect(), held }
}

/// The folder of a run below that of all.
pub(super) fn folder(run: &MLPipelineRun) -> Option<String> {
    let (name, uid) = (run.metadata.name.as_deref()?, run.metadata.uid.as_deref()?);
    names::run_folder(name, uid).strip_prefix("runs/").map(str::to_owned)
}

/// The paths that any text of these objects names.
pub(super) fn named<K: Serialize>(root: &Root, objects: impl IntoIterator<Item = K>, found: &mut BTreeSet<String>) {
    for object in objects {
        // What cannot be written as JSON is no object of the apiserver.
        each(&serde_json::to_value(object).unwrap_or_default(), &mut |text| root.named(text, found));
    }
}

fn each(value: &Value, look: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => look(text),
        Value::Array(values) => values.iter().for_each(|value| each(value, look)),
        Value::Object(entries) => entries.iter().for_each(|(name, value)| {
            look(name);
            each(value, look);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn root(store: Value) -> Root {
        Root::of(&serde_json::from_value(store).unwrap()).unwrap()
    }

    fn named_in(root: &Root, text: &str) -> Vec<String> {
        let mut found = BTreeSet::new();
        named(root, [json!({ "a": [text] })], &mut found);
        found.into_iter().collect()
    }

    #[test]
    fn every_address_in_any_text_is_found() {
        let claim = root(json!({ "pvc": { "claimName": "lake" } }));
        let bucket = root(json!({ "s3": { "bucket": "lake", "prefix": "teams/a" } }));
        let none: &[&str] = &[];
        for (root, text, paths) in [
            (&claim, "pvc://lake/runs/r-1/fit/attempts/1/outputs/m", &["r-1/fit/attempts/1/outputs/m"] as &[&str]),
            (
                &claim,
                "cat pvc://lake/runs/r-1/a 'pvc://lake/runs/r-2/b/' # pvc://lake/runs/r-3",
                &["r-1/a", "r-2/b", "r-3"],
            ),
            (&claim, "pvc://lake-2/runs/r-1 pvc://lak/runs/r-1 s3://lake/runs/r-1", none),
            (&claim, "pvc://lake/data/rows.csv", none),
            (&claim, "see pvc://lake/runs/r-1/a: it is pvc://lake/runs/r-2.", &["r-1/a", "r-1/a:", "r-2", "r-2."]),
            // Above the runs, or not to be known: all of them.
            (&claim, "pvc://lake/runs/", &[""]),
            (&claim, "pvc://lake", &[""]),
            (&claim, "pvc://lake/runs/r-$[[ params.day ]]/a", &[""]),
            (&claim, "pvc://lake/runs/r-1/$[[ params.stage ]]/a", &["r-1"]),
            (&claim, "pvc://lake/data/../runs/r-1", &[""]),
            (&bucket, "s3://lake/teams/a/runs/r-1/fit/outputs/m/9f", &["r-1/fit/outputs/m/9f"]),
            (&bucket, "s3://lake/teams/", &[""]),
            (&bucket, "s3://lake/teams/b/runs/r-1 s3://lake/runs/r-1 gs://lake/teams/a/runs/r-1", none),
        ] {
            assert_eq!(named_in(root, text), paths, "{text}");
        }
    }

    #[test]
    fn what_lies_in_a_run_that_is_there_needs_no_word_of_its_own() {
        let run = |name: &str| {
            let mut run = MLPipelineRun::new(name, crate::api::MLPipelineRunSpec::default());
            run.metadata.uid = Some(format!("{name}-uid-more"));
            run
        };
        let (a, b) = (run("aaaa"), run("bbbb"));
        let set = |paths: &[&str]| paths.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let named =
            set(&["aaaa-aaaa-uid/fit/x", "bbbb-bbbb-uid/fit", "gone-1/fit", "gone-1/fit/outputs/m", "gone-1/fitter"]);
        let found = live([&a], [&a, &b], named);
        assert_eq!(found.kept, ["aaaa-aaaa-uid"]);
        assert_eq!(found.held, ["gone-1/fit", "gone-1/fitter"]);
        assert_eq!(live([&a], [], set(&["", "gone-1/fit"])).held, [""]);
    }
}
