//! What one router has counted of a model's requests.

use millrace_routes::{RevisionStats, Stats};

use crate::deployment::digest;

/// Counts of one report. They only grow as long as `boot` and `of` stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub boot: u64,
    /// Microseconds since the router's start.
    pub at_us: u64,
    /// Requests in flight, integrated over time.
    pub demand_us: u64,
    /// Requests that have come.
    pub arrived: u64,
    /// Digest of the revisions that the sums are of.
    pub of: u64,
    /// Requests that are here, those that wait for a pod among them.
    pub in_flight: u64,
}

impl Counted {
    /// The sums of these revisions. `None` if the router knows none of them.
    #[must_use]
    pub fn of<'a>(stats: &Stats, model: &str, revisions: impl Iterator<Item = &'a str>) -> Option<Self> {
        let known = &stats.models.get(model)?.revisions;
        let counts = revisions.filter_map(|name| Some((name, known.get(name)?))).map(|(name, revision)| {
            let RevisionStats { outcomes, in_flight, demand_us, .. } = revision;
            let ended = outcomes.values().fold(0_u64, |sum, n| sum.saturating_add(*n));
            Self {
                boot: stats.boot,
                of: digest(&name),
                at_us: stats.at_us,
                demand_us: *demand_us,
                arrived: ended.saturating_add(*in_flight),
                in_flight: *in_flight,
            }
        });
        counts.reduce(|a, b| Self {
            demand_us: a.demand_us.saturating_add(b.demand_us),
            arrived: a.arrived.saturating_add(b.arrived),
            in_flight: a.in_flight.saturating_add(b.in_flight),
            of: a.of ^ b.of,
            ..a
        })
    }
}
