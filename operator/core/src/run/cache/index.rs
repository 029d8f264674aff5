//! Which results there are: an index over the kept runs of a namespace. It holds nothing that is not in their statuses, so it is made anew
//! from them at every start, and who deletes a run takes its results out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use crate::api::{CacheOrigin, MLPipelineRun, OutputStatus, StageState, StageStatus, Value};

/// Reason of a stage that waits for another run's result.
pub(super) const WAITING: &str = "WaitingForCache";
/// A change copies one of so many parts, where somebody still looks at it as it was.
const PARTS: usize = 64;
/// Among so many is looked for the same words.
const LAST: usize = 8;
/// Bytes of a key.
const BYTES: usize = 20;

type Key = [u8; BYTES];
type Part = BTreeMap<Key, Vec<Claim>>;

/// What a stage of a run says about a key.
#[derive(Clone, Debug, PartialEq)]
struct Claim {
    run: Arc<str>,
    /// The run's.
    uid: Arc<str>,
    stage: Arc<str>,
    standing: Standing,
}

#[derive(Clone, Debug, PartialEq)]
enum Standing {
    /// It has the result. As JSON, and once for all that have the same: there may be ten thousand.
    Made { origin: Arc<CacheOrigin>, body: Arc<str> },
    /// An attempt of it is under way.
    Making,
    /// It waits for another's.
    Waits,
    /// It found this result lost.
    Lost(Arc<CacheOrigin>),
}

/// The result of a stage, as it was reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Made {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub results: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub champion: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, OutputStatus>,
    /// Of how many items it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u32>,
}

/// What is known about a key.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Known {
    /// The newest result that was not found lost.
    pub made: Option<(CacheOrigin, Made)>,
    /// All that there are were found lost.
    pub lost: bool,
    /// Another run that is at it: run and stage, the first by name.
    pub maker: Option<(String, String)>,
}

/// The runs of a namespace by the keys of their stages.
#[derive(Debug, Default)]
pub struct CacheIndex {
    parts: Vec<Arc<Part>>,
    /// What was read of each run, by its uid.
    runs: HashMap<String, Read>,
}

#[derive(Debug)]
struct Read {
    resource_version: u64,
    keys: BTreeSet<Key>,
}

/// The index at one moment. Cheap to take.
#[derive(Clone, Debug, Default)]
pub struct CacheSnapshot(Vec<Arc<Part>>);

impl CacheIndex {
    #[must_use]
    pub fn snapshot(&self) -> CacheSnapshot {
        CacheSnapshot(self.parts.clone())
    }

    /// Takes over what a run says now, unless something newer was seen of it. Gives the runs for which that is news.
    pub fn put(&mut self, run: &MLPipelineRun) -> BTreeSet<String> {
        let meta = &run.metadata;
        let (Some(name), Some(uid)) = (&meta.name, &meta.uid) else { return BTreeSet::new() };
        let resource_version = meta.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default();
        let known = self.runs.get(uid);
        if known.is_some_and(|read| read.resource_version >= resource_version) {
            return BTreeSet::new();
        }
        let claims = claims(run, name, uid);
        if claims.is_empty() && known.is_none() {
            return BTreeSet::new();
        }
        let old = known.map(|read| read.keys.clone()).unwrap_or_default();
        let keys: BTreeSet<Key> = claims.keys().copied().collect();
        let mut waits = BTreeSet::new();
        for key in old.union(&keys) {
            let new = claims.get(key).cloned().unwrap_or_default();
            self.replace(key, uid, old.contains(key), new, &mut waits);
        }
        self.runs.insert(uid.clone(), Read { resource_version, keys });
        waits.remove(name);
        waits
    }

    /// Forgets a run that was deleted. Gives the runs for which that is news.
    pub fn forget(&mut self, uid: &str) -> BTreeSet<String> {
        let mut waits = BTreeSet::new();
        for key in self.runs.remove(uid).into_iter().flat_map(|read| read.keys) {
            self.replace(&key, uid, true, Vec::new(), &mut waits);
        }
        waits
    }

    /// Puts a run's claims in the place of those it had, if it is `known` to have had some, and tells who waits for the key if they differ.
    fn replace(&mut self, key: &Key, uid: &str, known: bool, mut new: Vec<Claim>, waits: &mut BTreeSet<String>) {
        self.parts.resize_with(PARTS, Arc::default);
        let part = &mut self.parts[at(key)];
        let there = part.get(key).map(Vec::as_slice).unwrap_or_default();
        share(&mut new, there);
        if known && there.iter().filter(|claim| &*claim.uid == uid).eq(&new) {
            return;
        }
        let waiting = there.iter().filter(|claim| claim.standing == Standing::Waits);
        waits.extend(waiting.map(|claim| claim.run.to_string()));
        let part = Arc::make_mut(part);
        let claims = part.entry(*key).or_default();
        if known {
            claims.retain(|claim| &*claim.uid != uid);
        }
        claims.extend(new);
        if claims.is_empty() {
            part.remove(key);
        }
    }

    /// It holds nothing of any run.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.runs.is_empty()
    }
}

impl CacheSnapshot {
    /// What the runs but this one say of a key; a result of its own counts.
    pub(super) fn look(&self, key: &str, uid: &str) -> Known {
        let claims = parse(key).and_then(|key| self.0.get(at(&key))?.get(&key)).map(Vec::as_slice).unwrap_or_default();
        let lost: Vec<&CacheOrigin> = claims.iter().filter_map(Claim::lost).collect();
        let made = || claims.iter().filter_map(Claim::made);
        let newest =
            made().filter(|(origin, _)| !lost.contains(origin)).max_by_key(|(origin, _)| (origin.time.0, &origin.run));
        let making = claims.iter().filter(|claim| claim.standing == Standing::Making && &*claim.uid != uid);
        let maker = making.min_by_key(|claim| &claim.run);
        Known {
            // It was written by this program: what cannot be read is no result.
            made: newest.and_then(|(origin, body)| Some((origin.clone(), serde_json::from_str(body).ok()?))),
            lost: newest.is_none() && made().next().is_some(),
            maker: maker.map(|claim| (claim.run.to_string(), claim.stage.to_string())),
        }
    }
}

impl CacheSnapshot {
    /// What this one made, as long as a kept run has it and nobody found it lost.
    pub(super) fn made_by(&self, key: &str, maker: &CacheOrigin) -> Option<Made> {
        let claims = parse(key).and_then(|key| self.0.get(at(&key))?.get(&key)).map(Vec::as_slice).unwrap_or_default();
        let lost = claims.iter().filter_map(Claim::lost).any(|origin| origin == maker);
        let body = claims.iter().filter_map(Claim::made).find(|(origin, _)| *origin == maker).filter(|_| !lost)?.1;
        serde_json::from_str(body).ok()
    }
}

impl Claim {
    fn made(&self) -> Option<(&CacheOrigin, &str)> {
        match &self.standing {
            Standing::Made { origin, body } => Some((origin, body)),
            Standing::Making | Standing::Waits | Standing::Lost(_) => None,
        }
    }

    fn lost(&self) -> Option<&CacheOrigin> {
        match &self.standing {
            Standing::Lost(origin) => Some(origin),
            Standing::Made { .. } | Standing::Making | Standing::Waits => None,
        }
    }
}

/// Takes the words of who has said the same before. Of many that is one of the last.
fn share(new: &mut [Claim], there: &[Claim]) {
    for claim in new {
        let Standing::Made { origin, body } = &mut claim.standing else { continue };
        for other in there.iter().rev().take(LAST) {
            let Standing::Made { origin: said, body: text } = &other.standing else { continue };
            if text == body {
                *body = Arc::clone(text);
            }
            if said == origin {
                *origin = Arc::clone(said);
            }
        }
    }
}

/// What a run says, by key.
fn claims(run: &MLPipelineRun, name: &str, uid: &str) -> BTreeMap<Key, Vec<Claim>> {
    let mut claims: BTreeMap<Key, Vec<Claim>> = BTreeMap::new();
    let (run_name, run_uid): (Arc<str>, Arc<str>) = (name.into(), uid.into());
    for (stage, status) in run.status.iter().flat_map(|status| &status.stages) {
        let Some(key) = status.cache.as_ref().and_then(|cache| parse(cache.key.as_deref()?)) else { continue };
        let lost = status.cache.as_ref().and_then(|cache| cache.lost.clone());
        let standings = standing(run, stage, status).into_iter().chain(lost.map(|lost| Standing::Lost(Arc::new(lost))));
        let claim =
            |standing| Claim { run: run_name.clone(), uid: run_uid.clone(), stage: stage.as_str().into(), standing };
        let claimed: Vec<Claim> = standings.map(claim).collect();
        if !claimed.is_empty() {
            claims.entry(key).or_default().extend(claimed);
        }
    }
    claims
}

fn standing(run: &MLPipelineRun, stage: &str, status: &StageStatus) -> Option<Standing> {
    match status.state {
        StageState::Succeeded => {
            let origin = origin(run, stage, status)?;
            let made = Made {
                image: status.image.clone(),
                results: status.results.clone(),
                metrics: status.metrics.clone(),
                champion: status.champion.clone(),
                outputs: status.outputs.clone(),
                items: status.items.as_ref().map(|items| items.total),
            };
            let body = serde_json::to_string(&made).ok()?.into();
            Some(Standing::Made { origin: Arc::new(origin), body })
        }
        StageState::Pending if status.reason.as_deref() == Some(WAITING) => Some(Standing::Waits),
        StageState::Pending | StageState::Running if status.job.is_some() => Some(Standing::Making),
        // Nobody knows when a suspended run goes on.
        StageState::BackingOff if !run.spec.suspend => Some(Standing::Making),
        StageState::Pending
        | StageState::Running
        | StageState::BackingOff
        | StageState::Waiting
        | StageState::Failed
        | StageState::Skipped => None,
    }
}

/// Who made the result that a stage has.
pub(in crate::run) fn origin(run: &MLPipelineRun, stage: &str, status: &StageStatus) -> Option<CacheOrigin> {
    if let Some(from) = status.cache.as_ref().and_then(|cache| cache.from.clone()) {
        return Some(from);
    }
    let time: Time = status.completion_time.clone()?;
    let (name, uid) = (run.metadata.name.clone()?, run.metadata.uid.clone()?);
    Some(CacheOrigin { run: name, uid, stage: stage.to_owned(), time })
}

fn at(key: &Key) -> usize {
    usize::from(key[0]) % PARTS
}

/// The bytes of a key in hex.
fn parse(key: &str) -> Option<Key> {
    if key.len() != 2 * BYTES || !key.is_ascii() {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&key[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
