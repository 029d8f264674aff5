//! What one router has counted of one revision.

use millrace_routes::{RevisionStats, Stats};

/// Counts of one report. They only grow as long as `boot` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub boot: u64,
    /// Microseconds since the router's start.
    pub at_us: u64,
    /// Requests in flight, integrated over time.
    pub demand_us: u64,
    /// Requests that have come.
    pub arrived: u64,
    /// Requests that are here, those that wait for a pod among them.
    pub in_flight: u64,
}

impl Counted {
    /// `None` if the router does not know the revision.
    #[must_use]
    pub fn of(stats: &Stats, model: &str, revision: &str) -> Option<Self> {
        let RevisionStats { outcomes, in_flight, demand_us, .. } = stats.models.get(model)?.revisions.get(revision)?;
        Some(Self {
            boot: stats.boot,
            at_us: stats.at_us,
            demand_us: *demand_us,
            arrived: outcomes.values().sum::<u64>() + in_flight,
            in_flight: *in_flight,
        })
    }
}
