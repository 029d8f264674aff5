//! What the controller counts. Every label has a closed set of values.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::key::Kind;
use crate::store::Stores;
use crate::wake::Queues;

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// The object is gone.
    Gone,
    Done,
    /// The object had changed meanwhile.
    Stale,
    /// The apiserver refused an effect.
    Refused,
    /// It could not be carried out; it is tried again.
    Failed,
    /// A bug: the pass panicked; it is tried again.
    Panicked,
}

/// A kind of write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Verb {
    Create,
    Apply,
    Scale,
    Status,
    Delete,
    Event,
    Lease,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PassLabels {
    kind: &'static str,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabel {
    store: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabel {
    verb: Verb,
}

/// Cheap to clone: all clones count into the same numbers.
#[derive(Clone)]
pub struct Metrics {
    passes: Family<PassLabels, Counter>,
    seconds: Family<KindLabel, Histogram>,
    writes: Family<VerbLabel, Counter>,
    queued: Family<KindLabel, Gauge>,
    stored: Family<StoreLabel, Gauge>,
    resident: Gauge,
    leader: Gauge,
    registry: Arc<Registry>,
}

impl Metrics {
    pub fn new() -> Self {
        let passes = Family::default();
        let writes = Family::default();
        let (queued, stored) = (Family::default(), Family::default());
        let (resident, leader) = (Gauge::default(), Gauge::default());
        let seconds: Family<KindLabel, Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0005, 2.0, 15)));
        let mut registry = Registry::with_prefix("millrace_controller");
        registry.register("reconciles", "Passes by kind and outcome", Family::clone(&passes));
        registry.register_with_unit("reconcile_duration", "Time of a pass", Unit::Seconds, seconds.clone());
        registry.register("writes", "Requests that change something, by kind of write", Family::clone(&writes));
        registry.register("queue_depth", "Objects that wait for a pass", Family::clone(&queued));
        registry.register("store_objects", "Objects in memory", Family::clone(&stored));
        registry.register_with_unit("resident_memory", "Memory of the process", Unit::Bytes, resident.clone());
        registry.register("leader", "1 if this replica holds the lease", leader.clone());
        Self { passes, seconds, writes, queued, stored, resident, leader, registry: Arc::new(registry) }
    }

    pub fn passed(&self, kind: Kind, outcome: Outcome, took: Duration) {
        self.passes.get_or_create(&PassLabels { kind: kind.as_str(), outcome }).inc();
        self.seconds.get_or_create(&KindLabel { kind: kind.as_str() }).observe(took.as_secs_f64());
    }

    pub fn wrote(&self, verb: Verb) {
        self.writes.get_or_create(&VerbLabel { verb }).inc();
    }

    pub fn leads(&self) {
        self.leader.set(1);
    }

    /// Everything in the text format of OpenMetrics.
    pub fn text(&self, stores: &Stores, queues: &Queues) -> Result<String, std::fmt::Error> {
        for kind in Kind::ALL {
            self.queued.get_or_create(&KindLabel { kind: kind.as_str() }).set(gauge(queues.of(kind).depth()));
        }
        for (store, size) in stores.sizes() {
            self.stored.get_or_create(&StoreLabel { store }).set(gauge(size));
        }
        self.resident.set(resident_bytes());
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn gauge(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Resident memory from `/proc`; 0 where there is none.
fn resident_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: i64 = line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or_default();
    kilobytes * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_writes_and_memory_are_shown() {
        let metrics = Metrics::new();
        metrics.passed(Kind::Run, Outcome::Done, Duration::from_millis(3));
        metrics.wrote(Verb::Status);
        let text = metrics.text(&Stores::default(), &Queues::default()).unwrap();
        for line in [
            r#"millrace_controller_reconciles_total{kind="MLPipelineRun",outcome="Done"} 1"#,
            r#"millrace_controller_writes_total{verb="Status"} 1"#,
            r#"millrace_controller_store_objects{store="jobs"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(resident_bytes() > 0);
    }
}
