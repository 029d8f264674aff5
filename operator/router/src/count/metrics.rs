//! `/metrics`: the same counts for Prometheus. Label values are names of routes and closed enums; a route that goes takes its series along.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use millrace_routes::{LogStats, Outcome, StreamRefusals, StreamStats};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::histogram::Times;
use crate::graph::{Ended, Graph};
use crate::state::{Model, Revision, State};

type Encoded = Result<(), std::fmt::Error>;

/// Encodes what the state has counted.
#[derive(Debug)]
pub struct Metrics(Registry);

impl Metrics {
    pub fn new(state: Arc<State>) -> Self {
        let mut registry = Registry::with_prefix("millrace_router");
        registry.register_collector(Box::new(Counted(state)));
        Self(registry)
    }

    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0)?;
        Ok(text)
    }
}

#[derive(Debug)]
struct Counted(Arc<State>);

/// A revision with the name of its model.
type Row = (Arc<Model>, Arc<Revision>);

impl Collector for Counted {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Encoded {
        let encoder = &mut encoder;
        let rows: Vec<Row> = self
            .0
            .models()
            .into_iter()
            .flat_map(|model| model.policy().targets.iter().map(|r| (model.clone(), r.clone())).collect::<Vec<_>>())
            .collect();
        requests(encoder, &rows)?;
        shadows(encoder, &rows)?;
        gauges(encoder, &rows)?;
        let counter = encoder.encode_descriptor(
            "retries",
            "Requests sent to another pod before a byte went upstream",
            None,
            MetricType::Counter,
        )?;
        each(counter, &rows, |r| r.counters.retries.load(Ordering::Relaxed), Kind::Counter)?;
        histogram(encoder, &rows, "request_duration", "From arrival to the last byte of a pod's answer", |r| {
            &r.counters.duration
        })?;
        histogram(encoder, &rows, "first_byte", "From arrival to the head of a pod's answer", |r| {
            &r.counters.first_byte
        })?;
        histogram(encoder, &rows, "queue_wait", "Time that held requests waited for a pod", |r| &r.counters.waited)?;
        spans(encoder, &rows)?;
        doors(encoder, &self.0.models())?;
        logs(encoder, &self.0.models())?;
        streams(encoder, &self.0.models())?;
        graphs(encoder, &self.0.models())?;
        router(encoder, &self.0)
    }
}

fn requests(encoder: &mut DescriptorEncoder, rows: &[Row]) -> Encoded {
    let mut family = encoder.encode_descriptor("requests", "Ended requests by outcome", None, MetricType::Counter)?;
    for (model, revision) in rows {
        for outcome in Outcome::ALL {
            let labels = [("model", model.name.as_str()), ("revision", &revision.name), ("outcome", outcome.as_str())];
            let value = revision.counters.outcome(outcome);
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
    }
    Ok(())
}

fn shadows(encoder: &mut DescriptorEncoder, rows: &[Row]) -> Encoded {
    let mut family = encoder.encode_descriptor(
        "shadow",
        "Copies sent to a shadow by what became of them",
        None,
        MetricType::Counter,
    )?;
    for (model, revision) in rows {
        let shadow = revision.counters.shadow();
        let results = [
            ("agreed", shadow.agreed),
            ("differed", shadow.differed),
            ("failed", shadow.failed),
            ("dropped", shadow.dropped),
        ];
        for (result, value) in results {
            let labels = [("model", model.name.as_str()), ("revision", &revision.name), ("result", result)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
    }
    Ok(())
}

fn gauges(encoder: &mut DescriptorEncoder, rows: &[Row]) -> Encoded {
    let gauge = encoder.encode_descriptor("in_flight", "Requests at a pod or waiting", None, MetricType::Gauge)?;
    each(gauge, rows, |r| r.counters.in_flight(), Kind::Gauge)?;
    let gauge = encoder.encode_descriptor("queued", "Requests that wait for a pod", None, MetricType::Gauge)?;
    each(gauge, rows, |r| r.queued() as u64, Kind::Gauge)?;
    let gauge = encoder.encode_descriptor("pods", "Pods that requests are sent to", None, MetricType::Gauge)?;
    each(gauge, rows, |r| r.pods().ready.len() as u64, Kind::Gauge)
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

fn each(mut family: MetricEncoder, rows: &[Row], read: fn(&Revision) -> u64, kind: Kind) -> Encoded {
    for (model, revision) in rows {
        let labels = [("model", model.name.as_str()), ("revision", revision.name.as_str())];
        let (mut metric, value) = (family.encode_family(&labels)?, read(revision));
        match kind {
            Kind::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
            Kind::Gauge => metric.encode_gauge(&value)?,
        }
    }
    Ok(())
}

fn histogram(
    encoder: &mut DescriptorEncoder,
    rows: &[Row],
    name: &str,
    help: &str,
    read: fn(&Revision) -> &Times,
) -> Encoded {
    let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for (model, revision) in rows {
        let labels = [("model", model.name.as_str()), ("revision", revision.name.as_str())];
        times(family.encode_family(&labels)?, read(revision))?;
    }
    Ok(())
}

fn spans(encoder: &mut DescriptorEncoder, rows: &[Row]) -> Encoded {
    let mut family =
        encoder.encode_descriptor("start", "Parts of starts from zero", Some(&Unit::Seconds), MetricType::Histogram)?;
    for (model, revision) in rows {
        for (span, measured) in revision.counters.spans() {
            let labels = [("model", model.name.as_str()), ("revision", &revision.name), ("span", span.as_str())];
            times(family.encode_family(&labels)?, measured)?;
        }
    }
    Ok(())
}

fn doors(encoder: &mut DescriptorEncoder, models: &[Arc<Model>]) -> Encoded {
    let help = "Requests and connections that were not let in, and bodies that were too long, by reason";
    let mut family = encoder.encode_descriptor("refused", help, None, MetricType::Counter)?;
    for model in models {
        for (reason, value) in model.refusals() {
            let labels = [("model", model.name.as_str()), ("reason", reason.as_str())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
    }
    let help = "What is wrong with the Secrets and ConfigMaps that a model's security names";
    let mut family = encoder.encode_descriptor("security_problems", help, None, MetricType::Gauge)?;
    for model in models {
        let Some(door) = &model.policy().door else { continue };
        let value = door.stats().problems.len() as u64;
        family.encode_family(&[("model", model.name.as_str())])?.encode_gauge(&value)?;
    }
    Ok(())
}

fn logs(encoder: &mut DescriptorEncoder, models: &[Arc<Model>]) -> Encoded {
    let help = "Events of the payload log by what became of them";
    let mut family = encoder.encode_descriptor("log_events", help, None, MetricType::Counter)?;
    for model in models {
        let Some(ring) = &model.policy().log else { continue };
        let LogStats { delivered, dropped, failed, problem: _ } = ring.stats();
        for (result, value) in [("delivered", delivered), ("dropped", dropped), ("failed", failed)] {
            let labels = [("model", model.name.as_str()), ("result", result)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
    }
    Ok(())
}

fn streams(encoder: &mut DescriptorEncoder, models: &[Arc<Model>]) -> Encoded {
    let all: Vec<(&str, StreamStats)> = models
        .iter()
        .filter_map(|model| Some((model.name.as_str(), model.policy().stream.as_ref()?.stats())))
        .collect();
    let help = "Messages of the stream by what became of them";
    let mut family = encoder.encode_descriptor("stream_messages", help, None, MetricType::Counter)?;
    for (model, stats) in &all {
        let counts = [("answered", stats.answered), ("rejected", stats.rejected), ("retried", stats.retried)];
        for (result, value) in counts {
            let labels = [("model", *model), ("result", result)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
    }
    let help = "How often it was said that a message gets no answer, by who said so";
    let mut family = encoder.encode_descriptor("stream_refused", help, None, MetricType::Counter)?;
    for (model, stats) in &all {
        let StreamRefusals { model: answer, server, brokers } = stats.refused;
        for (by, value) in [("model", answer), ("server", server), ("brokers", brokers)] {
            let labels = [("model", *model), ("by", by)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
    }
    let help = "Messages of all partitions that are not answered yet, as this router sees it";
    let mut family = encoder.encode_descriptor("stream_lag", help, None, MetricType::Gauge)?;
    for (model, stats) in &all {
        if let Some(lag) = stats.lag.value {
            family.encode_family(&[("model", *model)])?.encode_gauge(&lag)?;
        }
    }
    let help = "Partitions that this router reads";
    let mut family = encoder.encode_descriptor("stream_partitions", help, None, MetricType::Gauge)?;
    for (model, stats) in &all {
        family.encode_family(&[("model", *model)])?.encode_gauge(&stats.partitions)?;
    }
    Ok(())
}

fn graphs(encoder: &mut DescriptorEncoder, models: &[Arc<Model>]) -> Encoded {
    let all: Vec<(&str, Arc<Graph>)> =
        models.iter().filter_map(|model| Some((model.name.as_str(), model.policy().graph.clone()?))).collect();
    let help = "Ended requests to graphs by outcome";
    let mut family = encoder.encode_descriptor("graph_requests", help, None, MetricType::Counter)?;
    for (name, graph) in &all {
        for outcome in Outcome::ALL {
            let labels = [("graph", *name), ("outcome", outcome.as_str())];
            let value = graph.totals.outcome(outcome);
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
    }
    let help = "From arrival at a graph to the head of its answer";
    let mut family = encoder.encode_descriptor("graph_duration", help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for (name, graph) in &all {
        times(family.encode_family(&[("graph", *name)])?, &graph.totals.duration)?;
    }
    let help = "Steps of graphs by what became of them";
    let mut family = encoder.encode_descriptor("graph_steps", help, None, MetricType::Counter)?;
    for (name, graph) in &all {
        for ((node, step), counts) in &graph.steps {
            for result in Ended::ALL {
                let labels = [("graph", *name), ("node", node), ("step", step), ("result", result.as_str())];
                let value = counts.ended(result);
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            }
        }
    }
    let help = "How long steps of graphs that were asked took";
    let mut family =
        encoder.encode_descriptor("graph_step_duration", help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for (name, graph) in &all {
        for ((node, step), counts) in &graph.steps {
            times(family.encode_family(&[("graph", *name), ("node", node), ("step", step)])?, &counts.duration)?;
        }
    }
    Ok(())
}

fn times(mut metric: MetricEncoder, times: &Times) -> Encoded {
    let seconds = |us: u64| if us == u64::MAX { f64::INFINITY } else { us as f64 / 1e6 };
    let buckets: Vec<(f64, u64)> = times.counts().map(|(upper, n)| (seconds(upper), n)).collect();
    let count = buckets.iter().map(|(_, n)| n).sum();
    metric.encode_histogram::<NoLabelSet>(times.sum_us() as f64 / 1e6, count, &buckets, None)
}

fn router(encoder: &mut DescriptorEncoder, state: &State) -> Encoded {
    let loaded = state.loaded();
    let mut one = encoder.encode_descriptor(
        "routes_refused",
        "Documents of routes that were not right",
        None,
        MetricType::Counter,
    )?;
    one.encode_counter::<NoLabelSet, _, u64>(&loaded.refused, None)?;
    let mut one =
        encoder.encode_descriptor("routes_loaded", "Documents of routes that were taken", None, MetricType::Counter)?;
    one.encode_counter::<NoLabelSet, _, u64>(&loaded.taken, None)?;
    let callers = &state.callers;
    let mut one = encoder.encode_descriptor("connections", "Open connections of callers", None, MetricType::Gauge)?;
    one.encode_gauge(&(callers.connections() as u64))?;
    let mut one = encoder.encode_descriptor("connections_max", "The bound on connections", None, MetricType::Gauge)?;
    one.encode_gauge(&(callers.max() as u64))?;
    let counts = [
        ("connections_refused", "Connections refused because all others were busy", &callers.refused),
        ("connections_evicted", "Idle connections closed for new ones", &callers.evicted),
    ];
    for (name, help, count) in counts {
        let mut one = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        one.encode_counter::<NoLabelSet, _, u64>(&count.load(Ordering::Relaxed), None)?;
    }
    let help = "Bytes of bodies that graphs hold";
    let mut one = encoder.encode_descriptor("graph_held", help, Some(&Unit::Bytes), MetricType::Gauge)?;
    one.encode_gauge(&(state.graphs.taken() as u64))?;
    let mut one =
        encoder.encode_descriptor("resident_memory", "Memory of the process", Some(&Unit::Bytes), MetricType::Gauge)?;
    one.encode_gauge(&resident_bytes())
}

/// Resident memory from `/proc`; 0 where there is none.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() * 1024
}
