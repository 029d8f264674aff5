//! `/stats`: everything that the controller decides by, in one small document.

use std::collections::BTreeMap;

use millrace_routes::{ModelStats, Stats};

use super::histogram::micros;
use crate::state::State;

pub fn snapshot(state: &State) -> Stats {
    // A model whose port could not be had is not served, whatever the routes say.
    let models = state.models().into_iter().filter_map(|model| {
        let generation = model.in_force()?;
        let policy = model.policy();
        let revisions = policy.targets.iter().map(|revision| {
            let stats = revision.counters.stats(revision.queued() as u64, revision.pods().ready.len() as u64);
            (revision.name.clone(), stats)
        });
        let security = policy.door.as_ref().map(|door| door.stats());
        let queries = policy.queries.iter().map(|query| (query.id.clone(), state.answers.stats(&query.id))).collect();
        let log = policy.log.as_ref().map(|ring| ring.stats());
        let stream = policy.stream.as_ref().map(|pump| pump.stats());
        let revisions = revisions.collect();
        Some((model.name.clone(), ModelStats { generation, revisions, security, queries, log, stream }))
    });
    Stats {
        pod: state.pod.clone(),
        boot: state.boot,
        at_us: micros(state.began.elapsed()),
        models: models.collect::<BTreeMap<_, _>>(),
    }
}
