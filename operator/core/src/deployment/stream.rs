//! Messages that the model answers: what routers are told, and what the status says of it. While nothing moves, nothing is written.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use millrace_routes::{self as routes, BrokerTls, Entry, Mechanism, Obstacle, Sasl, Source};

use super::{Observed, queries};
use crate::api::{
    Condition, ConditionStatus, KafkaStream, ModelDeployment, ModelDeploymentStatus, SaslMechanism, Stream,
    StreamStart, StreamStatus, set_condition,
};
use crate::duration::since;
use crate::names::sha256_hex;
use crate::plan::Event;
use crate::problem::Problem;
use crate::routing::{Report, StreamReport};

/// The condition.
const STREAMING: &str = "Streaming";
/// Reasons.
const CONSUMING: &str = "Consuming";
const BROKER: &str = "BrokerFailed";
const MESSAGE: &str = "MessageRefused";
const MODEL: &str = "ModelFailed";
const UNKNOWN: &str = "NoRouter";
/// What is said with it.
const NOT_TOLD: &str = "no router has said yet that it reads the topic";
/// It turns after so long at the earliest, and other figures are written after the second.
const SOON: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_mins(1);
/// Hex characters of an id.
const SHORT: usize = 16;
/// Questions at a time where the spec says nothing.
const IN_FLIGHT: i32 = 32;

/// What the routers are told. Nothing of what was refused: they would take none of the routes of the namespace.
#[must_use]
pub fn stream(deployment: &ModelDeployment) -> Option<routes::Stream> {
    if !check(deployment).is_empty() {
        return None;
    }
    let Stream { kafka, path, max_in_flight } = deployment.spec.stream.as_deref()?;
    let KafkaStream { brokers, input_topic, output_topic, dead_letter_topic, group, start, tls, sasl } = kafka;
    let meta = &deployment.metadata;
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let path = path.clone().unwrap_or_else(|| format!("/v2/models/{}/infer", deployment.model_name()));
    let ca = tls.as_ref().and_then(|tls| tls.ca_config_map.as_ref());
    let mut whole = routes::Stream {
        id: String::new(),
        brokers: brokers.clone(),
        input: input_topic.clone(),
        output: output_topic.clone(),
        dead_letters: dead_letter_topic.clone(),
        group: group.clone().unwrap_or_else(|| own_group(namespace, name)),
        latest: *start == Some(StreamStart::Latest),
        tls: tls.as_ref().map(|_| BrokerTls {
            ca: ca.map(|ca| Entry { of: Source::ConfigMap, name: ca.name.clone(), key: ca.key.clone() }),
        }),
        sasl: sasl.as_ref().map(|sasl| Sasl { mechanism: mechanism(sasl.mechanism), secret: sasl.secret_name.clone() }),
        path,
        in_flight: u32::try_from(max_in_flight.unwrap_or(IN_FLIGHT)).unwrap_or(1).clamp(1, routes::Stream::MOST),
    };
    let text = serde_json::to_string(&whole).unwrap_or_default();
    sha256_hex(text.as_bytes())[..SHORT].clone_into(&mut whole.id);
    Some(whole)
}

/// The names of two objects may be longer than the name of a group.
fn own_group(namespace: &str, name: &str) -> String {
    const LONGEST: usize = 249;
    let whole = format!("millrace.{namespace}.{name}");
    if whole.len() <= LONGEST {
        return whole;
    }
    let digest = &sha256_hex(whole.as_bytes())[..SHORT];
    format!("{}-{digest}", &whole[..LONGEST - SHORT - 1])
}

fn mechanism(asked: SaslMechanism) -> Mechanism {
    match asked {
        SaslMechanism::Plain => Mechanism::Plain,
        SaslMechanism::ScramSha256 => Mechanism::ScramSha256,
        SaslMechanism::ScramSha512 => Mechanism::ScramSha512,
    }
}

/// What no schema can see.
pub(super) fn check(deployment: &ModelDeployment) -> Vec<Problem> {
    let brokers = deployment.spec.stream.iter().flat_map(|stream| &stream.kafka.brokers);
    brokers.filter_map(|broker| queries::port_fault("spec.stream.kafka.brokers", broker)).collect()
}

/// What is to be said.
struct Judged {
    reason: &'static str,
    message: String,
    figures: StreamStatus,
}

/// Whether a pass would write what these routers say.
#[must_use]
pub fn has_stream_news<'a>(
    deployment: &ModelDeployment,
    reports: impl Iterator<Item = &'a Report>,
    now: Timestamp,
) -> bool {
    heard(deployment, reports, now).is_some_and(|judged| news(deployment, judged, now).is_some())
}

/// All that routers with these settings say. `None` where none says anything of them.
fn heard<'a>(
    deployment: &ModelDeployment,
    reports: impl Iterator<Item = &'a Report>,
    now: Timestamp,
) -> Option<Judged> {
    let id = stream(deployment)?.id;
    let name = deployment.metadata.name.as_deref()?;
    let said = reports.filter_map(|report| report.models.get(name)?.stream.as_ref()).filter(|said| said.id == id);
    let said: Vec<&StreamReport> = said.collect();
    if said.is_empty() {
        return None;
    }
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let sum = |of: fn(&StreamReport) -> u64| said.iter().fold(0_u64, |sum, report| sum.saturating_add(of(report)));
    let whole = |n: u64| i32::try_from(n).unwrap_or(i32::MAX);
    let figures = StreamStatus {
        observed_time: Some(Time(now)),
        // Each router looks at all partitions.
        lag: said.iter().filter_map(|report| report.lag).max().map(count),
        partitions: whole(sum(|report| report.partitions.into())),
        consumers: whole(sum(|report| u64::from(report.partitions > 0))),
        rate: sum(|report| report.rate) as f64 / 1e3,
        answered: count(sum(|report| report.answered)),
        rejected: count(sum(|report| report.rejected)),
        retried: count(sum(|report| report.retried)),
    };
    let problems = said.iter().filter_map(|report| report.problem.as_ref());
    let (reason, message) = match problems.max_by_key(|problem| problem.of) {
        None => (CONSUMING, String::new()),
        Some(problem) => (reason(problem.of), problem.says.clone()),
    };
    Some(Judged { reason, message, figures })
}

fn reason(of: Obstacle) -> &'static str {
    match of {
        Obstacle::Broker => BROKER,
        Obstacle::Message => MESSAGE,
        Obstacle::Model => MODEL,
    }
}

/// What of it is to be written.
fn news(deployment: &ModelDeployment, judged: Judged, now: Timestamp) -> Option<Judged> {
    let status = deployment.status.as_ref();
    let known = status.and_then(|status| condition(&status.conditions));
    let Some(known) = known.filter(|known| known.observed_generation == deployment.metadata.generation) else {
        return Some(judge_anew(judged));
    };
    let turned = since(known.last_transition_time.0, now);
    if judged.reason != known.reason {
        // From what nobody knows to what is well at once: a router that has just begun may not be able to speak to a broker yet.
        let at_once = known.reason == UNKNOWN && judged.reason == CONSUMING;
        return (at_once || turned >= SOON).then_some(judged);
    }
    let old = status.and_then(|status| status.stream.as_ref());
    let waited = old.and_then(|old| old.observed_time.as_ref()).map_or(Duration::MAX, |time| since(time.0, now));
    let moved = old.is_none_or(|old| {
        StreamStatus { observed_time: None, ..old.clone() }
            != StreamStatus { observed_time: None, ..judged.figures.clone() }
    });
    ((moved || judged.message != known.message) && waited >= PAUSE).then_some(judged)
}

/// For a spec of which nothing was said yet: trouble may go by itself in the first moments.
fn judge_anew(judged: Judged) -> Judged {
    if judged.reason == CONSUMING {
        return judged;
    }
    Judged { reason: UNKNOWN, message: NOT_TOLD.to_owned(), ..judged }
}

fn condition(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == STREAMING)
}

/// Sets `status.stream` and the condition. An event tells when something gets in the way.
pub(super) fn report(
    status: &mut ModelDeploymentStatus,
    deployment: &ModelDeployment,
    observed: &Observed,
    now: Timestamp,
) -> Option<Event> {
    if deployment.spec.stream.is_none() {
        status.stream = None;
        status.conditions.retain(|condition| condition.type_ != STREAMING);
        return None;
    }
    let generation = deployment.metadata.generation;
    let was = condition(&status.conditions).cloned();
    let reports = observed.routers.pods.iter().filter_map(|router| router.report.as_deref());
    let Some(judged) = heard(deployment, reports, now) else {
        if was.is_none_or(|was| was.observed_generation != generation) {
            let truth = ConditionStatus::Unknown;
            set_condition(&mut status.conditions, STREAMING, truth, UNKNOWN, NOT_TOLD, generation, now);
        }
        return None;
    };
    let Judged { reason, message, figures } = news(deployment, judged, now)?;
    let truth = match reason {
        CONSUMING => ConditionStatus::True,
        UNKNOWN => ConditionStatus::Unknown,
        _ => ConditionStatus::False,
    };
    set_condition(&mut status.conditions, STREAMING, truth, reason, &message, generation, now);
    status.stream = Some(figures);
    let turns = was.is_none_or(|was| was.reason != reason);
    (truth == ConditionStatus::False && turns).then(|| Event::warning(reason, &message))
}
