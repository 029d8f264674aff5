//! What the claims that a pipeline mounts allow: which of its stages can never run as it is written.
//!
//! Only what is certain is refused. Two stages are at once where none waits for the other; where one of them may not run at all (`when`), or both want
//! a lock that one has at a time, nobody knows, and the one that cannot begin waits for the other. Stages that come one after the other may be on
//! different nodes: the volume goes along where it can.

mod nodes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::nodes::Nodes;
use super::{Frozen, FrozenContainer, FrozenStage, stage_path};
use crate::api::{Input, MLPipelineSpec, PodSettings, Stage, StageTemplate};
use crate::pod::{Access, Claims};
use crate::problem::Problem;
use crate::run::ancestors;
use crate::store;

/// Reason of stages that one claim keeps from being at once.
const REASON: &str = "ClaimNotShared";

/// Whether what is wrong may be another thing with another claim of that name.
#[must_use]
pub fn is_about(problem: &Problem) -> bool {
    problem.reason == REASON
}

/// The claims that a pipeline names in its store, volumes and addresses, and those in the StageTemplates that it uses.
#[must_use]
pub fn of_spec(spec: &MLPipelineSpec, templates: &BTreeMap<String, Arc<StageTemplate>>) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = spec.store.iter().filter_map(store::claim).map(str::to_owned).collect();
    for stage in spec.stages.values().chain(spec.finally.values()) {
        let Stage { container, overrides, uses, inputs, .. } = stage;
        let template = uses.as_ref().and_then(|name| templates.get(name)).map(|of| &of.spec.container.settings);
        let own = container.as_ref().map(|container| &container.settings);
        for settings in [template, own, overrides.as_ref()].into_iter().flatten() {
            found.extend(volumes(settings).map(str::to_owned));
        }
        let addresses = |input: &Input| [input.uri.clone(), input.table.as_ref().map(|table| table.uri.clone())];
        found.extend(inputs.values().flat_map(addresses).flatten().filter_map(|uri| of_address(&uri)));
    }
    let defaults = spec.inputs.values().filter_map(|input| input.default.as_ref());
    found.extend(defaults.filter_map(|default| of_address(&default.uri)));
    let triggers = spec.triggers.iter().flat_map(|triggers| triggers.on_data.values());
    found.extend(triggers.filter_map(|trigger| of_address(&trigger.uri)));
    found
}

/// The claims of a pipeline whose templates and addresses are filled in.
#[must_use]
pub fn of_frozen(frozen: &Frozen) -> BTreeSet<String> {
    let of_store = frozen.store.iter().filter_map(store::claim);
    let of_stages =
        frozen.stages.values().filter_map(FrozenStage::container).flat_map(|of| volumes(&of.container.settings));
    of_store.chain(of_stages).map(str::to_owned).collect()
}

/// The claim of `pvc://<claim>/<path>`. Behind it there may be anything.
#[must_use]
pub fn of_address(uri: &str) -> Option<String> {
    let (claim, _) = uri.strip_prefix("pvc://")?.split_once('/')?;
    (!claim.is_empty()).then(|| claim.to_owned())
}

/// The claims that the pods of a stage of a run mount: the store's first.
pub(crate) fn of_stage<'a>(frozen: &'a Frozen, stage: &'a FrozenContainer) -> impl Iterator<Item = &'a str> {
    frozen.store.as_ref().and_then(store::claim).into_iter().chain(volumes(&stage.container.settings))
}

fn volumes(settings: &PodSettings) -> impl Iterator<Item = &str> {
    settings.volumes.values().filter_map(|volume| volume.claim.as_ref()).map(|claim| claim.name.as_str())
}

/// A stage with pods.
struct Placed<'a> {
    name: &'a str,
    stage: &'a FrozenStage,
    container: &'a FrozenContainer,
    claims: BTreeSet<&'a str>,
    nodes: Nodes,
    before: BTreeSet<&'a str>,
}

impl<'a> Placed<'a> {
    /// Only of one that mounts a claim that is not everybody's.
    fn of(frozen: &'a Frozen, name: &'a str, stage: &'a FrozenStage, claims: &Claims) -> Option<Self> {
        let container = stage.container()?;
        let bound = |claim: &&str| claims.get(*claim).is_some_and(|access| *access != Access::Shared);
        let mounts: BTreeSet<&str> = of_stage(frozen, container).filter(bound).collect();
        (!mounts.is_empty()).then(|| Self {
            name,
            stage,
            container,
            claims: mounts,
            nodes: Nodes::of(&container.container.settings),
            before: ancestors(&frozen.stages, name),
        })
    }
}

/// What of a pipeline can never be, because of who may mount its claims.
#[must_use]
pub fn impossible(frozen: &Frozen, claims: &Claims) -> Vec<Problem> {
    let stages = frozen.stages.iter();
    let all: Vec<Placed<'_>> = stages.filter_map(|(name, stage)| Placed::of(frozen, name, stage, claims)).collect();
    let mut problems = Vec::new();
    for (at, later) in all.iter().enumerate() {
        // Of each the first is told: with it mended the others often are.
        let mut beside = all[..at].iter().filter(|earlier| at_once(frozen, earlier, later));
        problems.extend(beside.find_map(|earlier| pair(earlier, later, claims)));
    }
    problems
}

/// Both run in every run, and nobody keeps one from running beside the other.
fn at_once(frozen: &Frozen, a: &Placed<'_>, b: &Placed<'_>) -> bool {
    let waits = a.before.contains(b.name) || b.before.contains(a.name);
    let alone = |(lock, many): (&String, &u32)| b.stage.locks.get(lock).is_some_and(|other| *many.min(other) == 1);
    let runs = |of: &Placed<'_>| {
        let mut all = of.before.iter().filter_map(|name| frozen.stages.get(*name)).chain([of.stage]);
        all.all(|stage| stage.when.is_none())
    };
    a.stage.finally == b.stage.finally && !waits && !a.stage.locks.iter().any(alone) && runs(a) && runs(b)
}

/// What keeps two stages apart that would be at once.
fn pair(a: &Placed<'_>, b: &Placed<'_>, claims: &Claims) -> Option<Problem> {
    let path = stage_path(b.stage.finally, b.name);
    let (first, second) = (a.name, b.name);
    a.claims.intersection(&b.claims).find_map(|claim| match claims.get(*claim)? {
        // Of one pod the scheduler has the others wait.
        Access::Shared | Access::OnePod => None,
        Access::OneNode => {
            let (one, other) = a.nodes.apart(&b.nodes)?;
            // What a StageTemplate says is laid under the overrides.
            let part = if b.container.template.is_some() { "overrides" } else { "container" };
            let field = if b.container.container.settings.node_selector.is_empty() { "affinity" } else { "nodeSelector" };
            let message = format!(
                "the stages `{first}` and `{second}` run at the same time, because none of them needs the other, and both mount the claim `{claim}`, \
                 which one node at a time may mount (ReadWriteOnce); but `{first}` wants {one} and `{second}` {other}, and no node has \
                 both: write needs: [{first}], or give both the same nodes, or take a claim with ReadWriteMany"
            );
            Some(Problem::new(format!("{path}.{part}.{field}"), REASON, message))
        }
    })
}
