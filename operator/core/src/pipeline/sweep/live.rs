//! What of a store is needed: the folders of a pipeline's runs that are there, and whatever any object of the namespace has an address of.
//!
//! Every text of every object counts, not only the fields that hold addresses today: a parameter, a script or an annotation that names an
//! artifact keeps it too. What is cut out of a text may be too much, and then more is kept.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use millrace_contract::MOST_RECORDS;
use serde_json::Value;

use super::record;
use crate::api::{MLPipeline, MLPipelineRun, Store};
use crate::names;
use crate::names::RUNS;
use crate::run::ended;
use crate::store;

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

/// What the objects of a cluster say of a pipeline's store. It is taken from whole objects, one after the other: what the operator has in memory
/// of runs that have ended is less.
#[derive(Clone, Debug)]
pub struct Needs {
    root: Root,
    namespace: String,
    pipeline: String,
    done: BTreeSet<String>,
    /// What any text names, below the folder of the runs.
    named: BTreeSet<String>,
    /// Folders of all runs that are there, and those of the pipeline's.
    there: BTreeSet<String>,
    own: BTreeSet<String>,
    /// What runs that have not ended run, by namespace and name.
    frozen: BTreeSet<(String, String)>,
    /// Runs that are to be recorded, the oldest first.
    records: BTreeMap<(Timestamp, String), String>,
}

impl Needs {
    /// None where the pipeline has no store.
    #[must_use]
    pub fn of(pipeline: &MLPipeline) -> Option<Self> {
        let done = pipeline.status.as_ref().and_then(|status| status.archive.as_ref());
        Some(Self {
            root: Root::of(pipeline.spec.store.as_ref()?)?,
            namespace: pipeline.metadata.namespace.clone().unwrap_or_default(),
            pipeline: pipeline.metadata.name.clone()?,
            done: done.iter().flat_map(|archive| archive.done.iter().cloned()).collect(),
            named: BTreeSet::new(),
            there: BTreeSet::new(),
            own: BTreeSet::new(),
            frozen: BTreeSet::new(),
            records: BTreeMap::new(),
        })
    }

    /// A run, of the pipeline or of anything else. One that this program cannot read is there all the same.
    pub fn run(&mut self, run: Value) {
        self.object(&run);
        let text = |path: &str| run.pointer(path).and_then(Value::as_str);
        let namespace = text("/metadata/namespace").unwrap_or_default().to_owned();
        let frozen = text("/status/frozen").map(str::to_owned);
        // A name counts in its namespace only.
        let is_own = namespace == self.namespace && text("/spec/pipelineRef/name") == Some(&self.pipeline);
        if let (Some(name), Some(uid)) = (text("/metadata/name"), text("/metadata/uid")) {
            let folder = names::run_folder(name, uid);
            let folder = folder.strip_prefix("runs/").unwrap_or(&folder).to_owned();
            self.there.insert(folder.clone());
            if is_own {
                self.own.insert(folder);
            }
        }
        let run = serde_json::from_value::<MLPipelineRun>(run).ok();
        let Some((run, ended)) = run.as_ref().and_then(|run| Some((run, ended(run)?.0))) else {
            // It goes on, or nobody can tell.
            self.frozen.extend(frozen.map(|name| (namespace, name)));
            return;
        };
        let told = || Some((record::key(run)?, record::line(run)?));
        if is_own
            && let Some((key, line)) = told()
            && !self.done.contains(&key)
        {
            self.records.insert((ended, key), line);
            if self.records.len() > MOST_RECORDS {
                self.records.pop_last();
            }
        }
    }

    /// The ControllerRevisions that runs go on with, by namespace and name. What they name is needed as what a run names: it may stand nowhere else.
    pub fn frozen(&self) -> impl Iterator<Item = &(String, String)> {
        self.frozen.iter()
    }

    /// Anything else that may have the address of an artifact.
    pub fn object(&mut self, object: &Value) {
        each(object, &mut |text| self.root.named(text, &mut self.named));
    }

    /// Folders of the pipeline's runs.
    pub(super) fn kept(&self) -> Vec<String> {
        self.own.iter().cloned().collect()
    }

    /// What else is needed, as far as it lies in no folder of a run that is there.
    pub(super) fn held(&self) -> Vec<String> {
        let gone = |path: &&String| !path.split('/').next().is_some_and(|first| self.there.contains(first));
        let mut held: Vec<String> = Vec::new();
        // In order, so that a folder comes before what is in it.
        for path in self.named.iter().filter(gone) {
            let within = |folder: &String| {
                folder.is_empty() || path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'))
            };
            // An empty one is the first.
            if ![held.first(), held.last()].into_iter().flatten().any(within) {
                held.push(path.clone());
            }
        }
        held
    }

    /// Keys and lines of the runs that are to be recorded, of so many bytes at most.
    pub(super) fn records(&self, most: usize) -> impl Iterator<Item = (&String, &String)> {
        let mut bytes = 0;
        let fits = move |line: &String| {
            bytes += line.len();
            bytes <= most
        };
        self.records.iter().map(|((_, key), line)| (key, line)).take_while({
            let mut fits = fits;
            move |(_, line)| fits(line)
        })
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
        each(&json!({ "a": [text] }), &mut |text| root.named(text, &mut found));
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
    fn a_run_of_another_namespace_is_there_and_is_none_of_the_pipelines() {
        let spec = json!({ "store": { "s3": { "bucket": "lake" } }, "stages": {} });
        let mut pipeline = MLPipeline::new("p", serde_json::from_value(spec).unwrap());
        pipeline.metadata.namespace = Some("team".to_owned());
        let mut needs = Needs::of(&pipeline).unwrap();
        for (namespace, ended) in [("team", false), ("team", true), ("other", false), ("other", true)] {
            let name = format!("{namespace}-{ended}");
            needs.run(json!({
                "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun",
                "metadata": { "name": name, "uid": "12345678-9", "namespace": namespace },
                "spec": { "pipelineRef": { "name": "p" }, "params": { "from": format!("s3://lake/runs/gone-{name}/x") } },
                "status": { "frozen": format!("p-{ended}"), "completionTime": ended.then_some("2026-01-01T00:00:00Z") },
            }));
        }
        assert_eq!(needs.kept(), ["team-false-12345678", "team-true-12345678"]);
        assert_eq!(needs.held(), ["gone-other-false/x", "gone-other-true/x", "gone-team-false/x", "gone-team-true/x"]);
        assert_eq!(needs.records(usize::MAX).count(), 1);
        let going = [("other", "p-false"), ("team", "p-false")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert!(needs.frozen().eq(going.iter()));
    }

    #[test]
    fn what_lies_in_a_run_that_is_there_needs_no_word_of_its_own() {
        let needs = |names: &[&str], text: &str| {
            let spec = json!({ "store": { "pvc": { "claimName": "lake" } }, "stages": {} });
            let mut needs = Needs::of(&MLPipeline::new("p", serde_json::from_value(spec).unwrap())).unwrap();
            for name in names {
                // Nobody can read this one, and it is there.
                let status = json!({ "completionTime": 7 });
                let spec = json!({ "pipelineRef": { "name": if *name == "bbbb" { "q" } else { "p" } } });
                let meta = json!({ "name": name, "uid": format!("{name}-uid-more") });
                needs.run(json!({ "metadata": meta, "spec": spec, "status": status }));
            }
            needs.object(&json!(text));
            needs
        };
        let at =
            |paths: &[&str]| paths.iter().map(|path| format!("pvc://lake/runs/{path}")).collect::<Vec<_>>().join(" ");
        let named =
            at(&["aaaa-aaaa-uid/fit/x", "bbbb-bbbb-uid/fit", "gone-1/fit", "gone-1/fit/outputs/m", "gone-1/fitter"]);
        let found = needs(&["aaaa", "bbbb"], &named);
        assert_eq!(found.kept(), ["aaaa-aaaa-uid"]);
        assert_eq!(found.held(), ["gone-1/fit", "gone-1/fitter"]);
        assert_eq!(needs(&[], &at(&["", "gone-1/fit"])).held(), [""]);
    }
}
