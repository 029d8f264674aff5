//! What the runs of items made: outputs of stages of other runs, in the same store, by their addresses.

use millrace_contract::{ITEMS_OUTPUT, Manifest, ManifestOutput, TOLD_OUTPUTS, Task, Told, ToldItem};
use millrace_files::digest;
use serde_json::Value;

use crate::collect::{CollectError, is_below};

/// An output of a stage of another run.
#[derive(Debug, PartialEq, Eq)]
pub struct Elsewhere {
    pub index: u64,
    /// Its name here.
    pub output: String,
    /// The folder of the stage that made it, below the store.
    pub folder: String,
    /// The output below that.
    path: String,
    digest: String,
    uri: String,
}

/// In a path of an output, the parts below the folder of its stage.
#[derive(Clone, Copy, Debug)]
pub enum Layout {
    /// `attempts/1/outputs/data`
    Claim,
    /// `outputs/data/<digest>`
    Objects,
}

/// All outputs that a line of the list names and the stage is to have.
pub fn of_line(
    index: u64,
    line: &str,
    told: &Told,
    layout: Layout,
    task: &Task,
) -> Result<Vec<Elsewhere>, CollectError> {
    if task.outputs.keys().all(|output| output == ITEMS_OUTPUT) {
        return Ok(Vec::new());
    }
    let item: ToldItem = serde_json::from_str(line)
        .map_err(|error| CollectError::Lost { index, why: format!("its line says nothing of outputs: {error}") })?;
    let outputs = item.outputs.into_iter().filter(|(output, _)| task.outputs.contains_key(output));
    let found = outputs.map(|(output, made)| {
        let (folder, path) = made
            .uri
            .strip_prefix(&told.store)
            .filter(|below| is_below(below))
            .and_then(|below| split(below, layout))
            .ok_or_else(|| CollectError::Lost { index, why: format!("{} is no output in {}", made.uri, told.store) })?;
        Ok(Elsewhere { index, output, folder, path, digest: made.digest, uri: made.uri })
    });
    found.collect()
}

/// The line as a person gets it: where an output lay is nothing to go by, because it may go with its run.
pub fn for_people(line: &str) -> String {
    match serde_json::from_str(line) {
        Ok(Value::Object(mut item)) if item.contains_key(TOLD_OUTPUTS) => {
            item.remove(TOLD_OUTPUTS);
            Value::Object(item).to_string()
        }
        _ => line.to_owned(),
    }
}

/// The folder of a stage, and the output below it.
fn split(below: &str, layout: Layout) -> Option<(String, String)> {
    let (count, first) = match layout {
        Layout::Claim => (4, "attempts"),
        Layout::Objects => (3, "outputs"),
    };
    let parts: Vec<&str> = below.split('/').collect();
    let (folder, path) = parts.split_at_checked(parts.len().checked_sub(count)?)?;
    (!folder.is_empty() && path[0] == first).then(|| (folder.join("/"), path.join("/")))
}

impl Elsewhere {
    /// The output in the manifest of its stage. The manifest is believed as far as its digest goes: a program can write such a file too.
    pub fn in_manifest(&self, text: Option<&[u8]>) -> Result<ManifestOutput, CollectError> {
        let Self { index, uri, folder, .. } = self;
        let lost = |why: &str| CollectError::Lost { index: *index, why: format!("{uri}: {why}") };
        let text = text.ok_or_else(|| lost(&format!("{folder} has no manifest")))?;
        let manifest: Manifest =
            serde_json::from_slice(text).map_err(|error| lost(&format!("its manifest is none: {error}")))?;
        let found = manifest.outputs.into_values().find(|made| made.path == self.path && made.digest == self.digest);
        found.filter(is_whole).ok_or_else(|| lost("its manifest lists something else"))
    }
}

/// The files are those of the digest, and none climbs.
fn is_whole(made: &ManifestOutput) -> bool {
    let digest = match made.files.as_slice() {
        [only] if only.path.is_empty() => format!("sha256:{}", only.sha256),
        files => digest::of_folder(files),
    };
    digest == made.digest && made.files.iter().all(|file| file.path.is_empty() || is_below(&file.path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_output_is_found_below_the_folder_of_its_stage() {
        let task = |output: &str| -> Task {
            serde_json::from_value(json!({
                "namespace": "n", "runUid": "u", "run": "r", "stage": "train", "attempt": 1, "graceSeconds": 1, "durable": false,
                "outputs": { output: { "type": "artifact" }, "items": { "type": "artifact", "items": true } },
            }))
            .unwrap()
        };
        let told = |store: &str| Told { store: store.to_owned(), folder: "runs/o/train".to_owned() };
        let line = |uri: &str| json!({ "index": 0, "outputs": { "m": { "uri": uri, "digest": "d" } } }).to_string();
        let (claim, bucket) = (told("pvc://c/"), told("s3://b/"));
        for (told, layout, uri, wanted) in [
            (
                &claim,
                Layout::Claim,
                "pvc://c/runs/r/a.1/attempts/2/outputs/x",
                Some(("runs/r/a.1", "attempts/2/outputs/x")),
            ),
            (&bucket, Layout::Objects, "s3://b/p/runs/r/a/outputs/x/ab", Some(("p/runs/r/a", "outputs/x/ab"))),
            (&claim, Layout::Claim, "pvc://d/runs/r/a/attempts/2/outputs/x", None),
            (&claim, Layout::Claim, "pvc://c/attempts/2/outputs/x", None),
            (&claim, Layout::Claim, "pvc://c/a/../r/attempts/2/outputs/x", None),
            (&bucket, Layout::Objects, "s3://b/x/ab", None),
        ] {
            let found = of_line(3, &line(uri), told, layout, &task("m"));
            match (found, wanted) {
                (Ok(found), Some((folder, path))) => {
                    assert_eq!((found[0].index, found[0].folder.as_str(), found[0].path.as_str()), (3, folder, path));
                }
                (Err(CollectError::Lost { index: 3, .. }), None) => {}
                (found, _) => panic!("{uri}: {found:?}"),
            }
        }
        assert_eq!(of_line(3, &line("pvc://c/x"), &claim, Layout::Claim, &task("n")).unwrap(), []);
    }
}
