//! `cache`: what can be taken from earlier runs.

use super::resolve::Resolved;
use super::{Problems, time};
use crate::api::{CacheMode, PodSettings};

const REASON: &str = "InvalidCache";

/// Checks what a stage writes itself. Of what is written for all stages only the duration can be wrong: a stage for which it has no meaning
/// is run.
pub(super) fn check(stage: &str, resolved: &Resolved<'_>, stored: bool, problems: &mut Problems) {
    let Some(cache) = &resolved.stage.cache else { return };
    let at = format!("{}.cache", resolved.at(stage));
    time::duration(cache.max_age.as_deref(), &format!("{at}.maxAge"), problems);
    if cache.mode == CacheMode::Off {
        return;
    }
    if resolved.stage.for_each.is_some() && !stored {
        let message = "without a store nothing of its items is kept: write store into the pipeline, or leave cache out";
        problems.add(&at, REASON, message);
        return;
    }
    if cache.mode != CacheMode::Auto || cache.max_age.is_some() || resolved.unknown {
        return;
    }
    let what = if resolved.stage.inputs.is_empty() {
        "the stage has no inputs"
    } else if let Some(volume) = claim(resolved) {
        &format!("the stage mounts a claim, in the volume `{volume}`")
    } else {
        return;
    };
    let message = format!(
        "{what}, so nobody sees when what it reads changes: write maxAge, the time for which its result holds, or mode: Off"
    );
    problems.add(format!("{at}.maxAge"), REASON, message);
}

/// The first volume whose content is somebody else's to change.
fn claim<'a>(resolved: &'a Resolved<'_>) -> Option<&'a str> {
    let own = resolved.stage.container.as_ref().map(|container| &container.settings);
    let template = resolved.template.map(|template| &template.container.settings);
    let all: [Option<&PodSettings>; 3] = [own, template, resolved.stage.overrides.as_ref()];
    let mut volumes = all.into_iter().flatten().flat_map(|settings| &settings.volumes);
    volumes.find(|(_, volume)| volume.claim.is_some()).map(|(name, _)| name.as_str())
}
