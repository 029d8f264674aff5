//! `locks`: their names, their bounds, and that nobody waits for one while it holds another.

use std::collections::BTreeMap;

use super::resolve::Resolved;
use super::{Problems, name};
use crate::api::{Lock, MLPipelineSpec};

const REASON: &str = "InvalidLock";
/// As the schema has it.
const MOST: usize = 8;

/// Those of the whole run.
pub(super) fn of_run(spec: &MLPipelineSpec, problems: &mut Problems) {
    all(&spec.locks, "spec.locks", problems);
}

/// Those of a stage.
pub(super) fn of_stage(stage: &str, resolved: &Resolved<'_>, spec: &MLPipelineSpec, problems: &mut Problems) {
    let path = format!("{}.locks", resolved.at(stage));
    all(&resolved.stage.locks, &path, problems);
    if !resolved.stage.locks.is_empty() && !spec.locks.is_empty() {
        let message = "the run holds spec.locks while it runs, and two runs that wait for each other's locks would wait for ever: \
                       move these to spec.locks, or those to the stages that need them";
        problems.add(path, REASON, message);
    }
}

fn all(locks: &BTreeMap<String, Lock>, path: &str, problems: &mut Problems) {
    name::labels(locks, path, "a lock", problems);
    if locks.len() > MOST {
        problems.add(path, REASON, format!("there are {}: write at most {MOST}", locks.len()));
    }
    for (name, Lock { max }) in locks {
        if !(1..=1000).contains(max) {
            let message = format!("{max} is out of bounds: write 1 to 1000");
            problems.add(format!("{path}.{name}.max"), "OutOfBounds", message);
        }
    }
}
