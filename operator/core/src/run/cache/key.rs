//! The key of a stage's result: a digest of all that the result depends on, as far as anybody can know it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::inputs::{self, Handed, Mounted};
use super::super::pass::{Pass, Stages};
use super::super::{code, item_job, items, job, render};
use super::source;
use crate::api::{Container, EnvValue, Output, StageStatus};
use crate::names;
use crate::pipeline::FrozenContainer;

/// Changes when the same stage makes another result by another release.
const VERSION: u32 = 1;
/// Hex characters of a key: 160 bits.
const LENGTH: usize = 40;
const DIGEST: &str = "sha256:";
/// In the place of an image: what it brings depends on what is asked of it alone.
const COPY: &str = "copy";

/// A stage as far as its key is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::run) struct Keyed {
    pub key: String,
    /// It reads something of which nobody sees when it changes, or nothing at all.
    pub blind: bool,
}

/// The key of a stage that would begin now; or why it has none, in a sentence. `status` has which models its inputs are.
///
/// What the program is told is the same in every attempt but for where it writes: that is taken out.
pub(super) fn of(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    status: &StageStatus,
    stages: &Stages,
) -> Result<Keyed, String> {
    // What hinders the stage is told by who makes the attempt.
    let hindered = |_| String::new();
    let read = inputs::mounted(&stage.inputs, &status.inputs, stages, pass.frozen.store.as_ref()).map_err(hindered)?;
    let handed = inputs::handed(pass, name, stage, status, stages).map_err(hindered)?;
    let first = StageStatus { attempts: 0, ..status.clone() };
    let (container, each) = if let Some(each) = &stage.for_each {
        let is_there = |input: &str| read.contains_key(input) || handed.contains_key(input);
        let (container, order) = item_job::ordered(pass, name, stage, stages, is_there).map_err(hindered)?;
        let items = items::of(pass, name, each, stages).map_err(hindered)?;
        (container, Some(json!([items.told(), order.said(stage)])))
    } else {
        let scope = job::scope_of(pass, name, stage, &first, &read, stages).map_err(hindered)?;
        (render::container(name, &pass.at(name), stage, &scope).map_err(hindered)?, None)
    };
    let image = if source::is_plain_copy(pass, stage) { Some(COPY) } else { digest(&container.image) };
    let Some(image) = image else {
        return Err(format!(
            "the image {} is not named by its digest, and a tag may move: write image@sha256:…",
            crate::clip::clip(&container.image, 200)
        ));
    };
    let template = job::pod_template(pass, name, &container).map_err(hindered)?;
    let salt = stage.cache.as_ref().and_then(|cache| cache.salt.as_deref());
    let mut content = json!({
        "version": VERSION,
        "image": image,
        "program": program(&container),
        "podTemplate": template,
        "inputs": digests(&read),
        "outputs": outputs(stage),
        "store": pass.frozen.store,
        "salt": salt,
    });
    // Absent where there is none: the keys of stages that have none stay as they were.
    if !handed.is_empty() {
        let of = |handed: &Handed| json!([handed.uri, handed.digest]);
        content["handed"] = handed.iter().map(|(name, handed)| (name.clone(), of(handed))).collect();
    }
    if let Some(code) = code::of(pass, stage) {
        content["code"] = json!(code.digest);
    }
    if let Some(each) = each {
        content["items"] = each;
    }
    let key = names::sha256_hex(content.to_string().as_bytes())[..LENGTH].to_owned();
    let claims = container.settings.volumes.values().any(|volume| volume.claim.is_some());
    let unseen = handed.values().any(|handed| handed.digest.is_none());
    // A list of items is no input: it is often one of addresses, and nobody sees when what lies there changes.
    Ok(Keyed { key, blind: (read.is_empty() && handed.is_empty()) || unseen || claims })
}

/// The digest by which an image is named. What the repository or the tag beside it are called changes nothing.
fn digest(image: &str) -> Option<&str> {
    let (_, digest) = image.rsplit_once('@')?;
    let hex = digest.strip_prefix(DIGEST)?;
    (hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digest)
}

/// What is run, and what it can read besides its inputs. Of Secrets and ConfigMaps that is which, not what is in them. How much it may
/// use, where and for how long changes no result.
fn program(container: &Container) -> Value {
    let settings = &container.settings;
    json!({
        "command": container.command,
        "args": container.args,
        "script": container.script,
        "env": settings.env.iter().map(|(name, value)| (name.as_str(), variable(value))).collect::<BTreeMap<_, _>>(),
        "volumes": settings.volumes,
        "serviceAccount": settings.service_account_name,
    })
}

fn variable(value: &EnvValue) -> Value {
    let EnvValue { value, secret, config_map } = value;
    json!([value, secret, config_map])
}

fn digests(inputs: &BTreeMap<String, Mounted>) -> BTreeMap<&str, (&str, u64)> {
    inputs.iter().map(|(name, input)| (name.as_str(), (input.digest.as_str(), input.size))).collect()
}

/// What the stage declares, but for the words about it; and which of it is counted. A format only where it is another than the usual one: the keys of
/// stages without stay as they were.
fn outputs(stage: &FrozenContainer) -> BTreeMap<&str, Value> {
    let declared = stage.outputs.iter();
    let told = |(name, output): (&'_ String, &Output)| {
        let counted = stage.lists.contains(name);
        match output.other_format() {
            None => json!([output.kind, output.optional, counted]),
            Some(format) => json!([output.kind, output.optional, counted, format]),
        }
    };
    declared.map(|entry| (entry.0.as_str(), told(entry))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_digest_names_an_image_for_good() {
        let whole = format!("sha256:{}", "a1".repeat(32));
        for image in [format!("registry:5000/team/train@{whole}"), format!("train:2@{whole}")] {
            assert_eq!(digest(&image), Some(whole.as_str()));
        }
        for image in ["train", "train:2", "train@sha256:abc", "registry:5000/train", &format!("train@sha512:{whole}")] {
            assert_eq!(digest(image), None, "{image}");
        }
    }
}
