//! What the server tells Prometheus. Every label set is closed: nothing a caller makes up becomes a label.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::model::Provider;

/// How a request to infer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    Success,
    ClientError,
    ServerError,
    /// The caller left before there was an answer.
    Gone,
}

impl EncodeLabelValue for Class {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> std::fmt::Result {
        match self {
            Self::Success => "2xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Gone => "gone",
        }
        .encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    code: Class,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    name: String,
    version: String,
    execution_provider: &'static str,
}

impl ModelLabel {
    fn of(name: &str, version: &str, provider: Provider) -> Self {
        Self { name: name.to_owned(), version: version.to_owned(), execution_provider: provider.name() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FeatureLabel {
    model: String,
    feature: String,
    found: &'static str,
}

/// What is wrong with values of one feature.
#[derive(Clone, Debug)]
pub struct FeatureCounters {
    pub missing: Counter,
    pub outside: Counter,
}

/// The server's metrics and the registry that prints them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    models: Family<ModelLabel, Gauge>,
    features: Family<FeatureLabel, Counter>,
    requests: [Counter<u64, AtomicU64>; 4],
    in_flight: Gauge,
    queue: Gauge,
    memory: Gauge,
    connections: Gauge,
    batch_rows: Histogram,
    batch_requests: Histogram,
    latency: Histogram,
    waiting: Histogram,
    inference: Histogram,
}

/// From 100 µs to 26 s.
fn seconds() -> Histogram {
    Histogram::new((0_i32..10).map(|step| 0.0001 * 4_f64.powi(step)))
}

fn sizes() -> Histogram {
    Histogram::new((0_i32..13).map(|step| 2_f64.powi(step)))
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("millrace_server");
        let family = Family::<ClassLabel, Counter>::default();
        let class = |code| family.get_or_create(&ClassLabel { code }).clone();
        // All series are there from the start, so that a rate over the first failure is right.
        let requests = [Class::Success, Class::ClientError, Class::ServerError, Class::Gone].map(class);
        let metrics = Self {
            models: Family::default(),
            features: Family::default(),
            requests,
            in_flight: Gauge::default(),
            queue: Gauge::default(),
            memory: Gauge::default(),
            connections: Gauge::default(),
            batch_rows: sizes(),
            batch_requests: sizes(),
            latency: seconds(),
            waiting: seconds(),
            inference: seconds(),
            registry: Registry::default(),
        };
        registry.register("model_info", "1 for each model that is served", metrics.models.clone());
        let features = metrics.features.clone();
        registry.register(
            "feature_values",
            "Values that are missing, or outside of the profile, while drift is watched",
            features,
        );
        registry.register("requests", "Requests to infer, by class of answer", family);
        registry.register("requests_in_flight", "Requests to infer without an answer yet", metrics.in_flight.clone());
        registry.register("queue_length", "Requests that wait for the model", metrics.queue.clone());
        let memory = metrics.memory.clone();
        registry.register_with_unit("request_memory", "Memory that requests hold", Unit::Bytes, memory);
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register("batch_rows", "Rows that ran together", metrics.batch_rows.clone());
        registry.register("batch_requests", "Requests that ran together", metrics.batch_requests.clone());
        let mut time = |name: &str, help: &str, histogram: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        };
        time("request_duration", "From a request's head to its answer", &metrics.latency);
        time("queue_duration", "How long a request waited for the model", &metrics.waiting);
        time("inference_duration", "How long the model ran", &metrics.inference);
        Self { registry, ..metrics }
    }

    /// The counters of a feature; a profile has a bounded number of them.
    pub fn feature(&self, model: &str, feature: &str) -> FeatureCounters {
        let of = |found| {
            let label = FeatureLabel { model: model.to_owned(), feature: feature.to_owned(), found };
            self.features.get_or_create(&label).clone()
        };
        FeatureCounters { missing: of("missing"), outside: of("outside") }
    }

    /// The model is served from here on.
    pub fn loaded(&self, name: &str, version: &str, provider: Provider) {
        self.models.get_or_create(&ModelLabel::of(name, version, provider)).set(1);
    }

    /// The model is served no more.
    pub fn unloaded(&self, name: &str, version: &str, provider: Provider) {
        self.models.remove(&ModelLabel::of(name, version, provider));
    }

    /// Counts a request from here until the guard is dropped; without [`RequestGuard::answered`] its caller has gone.
    pub fn request(&self) -> RequestGuard<'_> {
        self.in_flight.inc();
        RequestGuard { metrics: self, start: Instant::now(), class: Class::Gone }
    }

    /// Counts an open connection until the guard is dropped.
    pub fn connection(&self) -> ConnectionGuard {
        self.connections.inc();
        ConnectionGuard(self.connections.clone())
    }

    pub fn batch(&self, requests: usize, rows: usize) {
        self.batch_requests.observe(requests as f64);
        self.batch_rows.observe(rows as f64);
    }

    pub fn waited(&self, time: Duration) {
        self.waiting.observe(time.as_secs_f64());
    }

    pub fn inferred(&self, time: Duration) {
        self.inference.observe(time.as_secs_f64());
    }

    /// The text form. The queue's length and the bytes that requests hold are read when they are asked for.
    pub fn text(&self, queue_length: usize, request_memory: usize) -> Result<String, std::fmt::Error> {
        self.queue.set(i64::try_from(queue_length).unwrap_or(i64::MAX));
        self.memory.set(i64::try_from(request_memory).unwrap_or(i64::MAX));
        let mut text = String::with_capacity(8192);
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// One request to infer.
#[derive(Debug)]
pub struct RequestGuard<'a> {
    metrics: &'a Metrics,
    start: Instant,
    class: Class,
}

impl RequestGuard<'_> {
    /// The request has an answer with this HTTP status.
    pub fn answered(&mut self, status: u16) {
        self.class = match status {
            ..400 => Class::Success,
            400..500 => Class::ClientError,
            500.. => Class::ServerError,
        };
    }
}

impl Drop for RequestGuard<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        self.metrics.requests[self.class as usize].inc();
        self.metrics.latency.observe(self.start.elapsed().as_secs_f64());
    }
}

/// One open connection.
#[derive(Debug)]
pub struct ConnectionGuard(Gauge);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
