//! `spec.model.cache`: what is wrong with it, what the agent is told of it, and which models of it must stay.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_contract::{ModelCacheTask, NeededModels};

use super::asked_model::AskedModel;
use super::origin::Origin;
use super::{CACHE_ANNOTATION, DIGEST_ANNOTATION, ENTRY_ANNOTATION};
use crate::api::{CachedModel, ModelCache, ModelDeployment};
use crate::duration;
use crate::pod::{amount, quantity};
use crate::problem::Problem;

/// How long a model stays that no revision serves, unless the spec says it.
const KEEP: Duration = Duration::from_hours(7 * 24);
/// Shorter, a model could go before its pod has it: pods of other nodes hear a little later which are needed.
const SHORTEST_KEEP: Duration = Duration::from_mins(10);

const MAX_SIZE: &str = "spec.model.cache.maxSize";

/// What no schema can see of it.
pub(super) fn check(deployment: &ModelDeployment) -> Vec<Problem> {
    let Some(ModelCache { claim: _, max_size, keep_unused }) = &deployment.spec.model.cache else { return Vec::new() };
    let size = max_size.as_ref().filter(|size| amount(size).is_none_or(|bytes| bytes < 1.0)).map(|size| {
        let message =
            format!("\"{}\" holds no model: write how much they may have together, such as 200Gi", quantity(size).0);
        Problem::new(MAX_SIZE, "InvalidQuantity", message)
    });
    let short = |text: &&String| duration::parse(text).is_none_or(|time| time < SHORTEST_KEEP);
    let keep = keep_unused.as_ref().filter(short).map(|text| {
        let message = format!(
            "\"{text}\" is less than it takes until every pod knows what is needed: write {} or more, such as 7d",
            duration::format(SHORTEST_KEEP)
        );
        Problem::new("spec.model.cache.keepUnused", "InvalidDuration", message)
    });
    size.into_iter().chain(keep).collect()
}

/// A model that the cache can never hold.
pub(super) fn too_large(deployment: &ModelDeployment, asked: &AskedModel) -> Option<Problem> {
    let cache = deployment.spec.model.cache.as_ref().filter(|_| matches!(asked.origin, Origin::Fetched { .. }))?;
    let (most, size) = (bytes(cache)?, asked.size?);
    (size > most).then(|| {
        let message = format!(
            "version {} has {size} bytes, and the models of the claim \"{}\" may have {} together: raise it, or leave out spec.model.cache",
            asked.version,
            cache.claim,
            cache.max_size.as_ref().map(|size| quantity(size).0).unwrap_or_default()
        );
        Problem::new(MAX_SIZE, "ModelTooLarge", message)
    })
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of what is too large is the most there is"
)]
fn bytes(cache: &ModelCache) -> Option<u64> {
    cache.max_size.as_ref().and_then(amount).map(|bytes| bytes as u64)
}

/// As the agent is told of it.
pub(super) fn task(cache: &ModelCache) -> ModelCacheTask {
    let keep = cache.keep_unused.as_deref().and_then(duration::parse).unwrap_or(KEEP);
    ModelCacheTask { claim: cache.claim.clone(), max_bytes: bytes(cache), keep_seconds: keep.as_secs() }
}

/// What the annotations of a pod or a Deployment say of a cache.
pub(super) fn cached(annotations: &BTreeMap<String, String>) -> Option<CachedModel> {
    let noted = |key: &str| annotations.get(key).cloned();
    let entry = noted(ENTRY_ANNOTATION).or_else(|| noted(DIGEST_ANNOTATION));
    Some(CachedModel { claim: noted(CACHE_ANNOTATION)?, digest: entry? })
}

/// Which models of the namespace's claims have a revision; nothing where no revision has one.
pub(crate) fn needed(models: &[&ModelDeployment]) -> Option<NeededModels> {
    let mut needed = NeededModels::default();
    let revisions = models.iter().filter_map(|model| model.status.as_ref()).flat_map(|status| &status.revisions);
    for CachedModel { claim, digest } in revisions.filter_map(|revision| revision.cached.as_ref()) {
        needed.claims.entry(claim.clone()).or_default().insert(digest.clone());
    }
    (!needed.claims.is_empty()).then_some(needed)
}
