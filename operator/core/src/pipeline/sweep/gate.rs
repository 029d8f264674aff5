//! A run is deleted when it is recorded. A store that cannot be written does not keep runs for ever.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::record;
use crate::api::{ArchiveStatus, History, MLPipelineRun};
use crate::duration;
use crate::run::ended;

/// So long after the store was first seen to fail a run waits for its record no more.
const LONGEST: Duration = Duration::from_hours(24);
/// So many runs wait at most.
const MOST: usize = 500;

/// Which runs may be deleted.
#[derive(Debug)]
pub(in crate::pipeline) struct Gate<'a> {
    /// None where nothing is recorded.
    archive: Option<&'a ArchiveStatus>,
    /// How long until no run waits any more; zero if that is so. None while nothing is known to fail: that a pod is long in coming, because the
    /// operator was away, takes no run.
    pub(in crate::pipeline) opens: Option<Duration>,
}

impl<'a> Gate<'a> {
    pub(in crate::pipeline) fn of<'r>(
        history: Option<&History>,
        archive: Option<&'a ArchiveStatus>,
        runs: impl IntoIterator<Item = &'r MLPipelineRun>,
        now: Timestamp,
    ) -> Self {
        let archive = archive.filter(|_| history.is_some_and(|history| history.archive.is_some()));
        let opens = archive.and_then(|archive| {
            let failing = archive.failing_since.as_ref()?.0;
            let waits = runs.into_iter().filter(|run| !is_done(archive, run)).filter_map(ended);
            let first = waits.map(|time| time.0).min()?;
            Some(duration::since(now, failing.max(first).checked_add(LONGEST).ok()?))
        });
        Self { archive, opens }
    }

    /// The run waits to be recorded.
    pub(in crate::pipeline) fn holds(&self, run: &MLPipelineRun) -> bool {
        self.archive.is_some_and(|archive| self.opens != Some(Duration::ZERO) && !is_done(archive, run))
    }

    /// Of the runs that wait, oldest first, as many go as are too many.
    pub(in crate::pipeline) fn too_many(waiting: usize) -> usize {
        waiting.saturating_sub(MOST)
    }

    /// It is recorded, or nothing is.
    pub(in crate::pipeline) fn is_recorded(&self, run: &MLPipelineRun) -> bool {
        self.archive.is_none_or(|archive| is_done(archive, run))
    }
}

fn is_done(archive: &ArchiveStatus, run: &MLPipelineRun) -> bool {
    record::key(run).is_some_and(|key| archive.done.contains(&key))
}
