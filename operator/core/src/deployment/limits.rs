//! How long things may take and how much of them there may be: what the routers keep, and what servers are told of it.

use std::ops::RangeInclusive;
use std::time::Duration;

use millrace_routes::{Limits, Protocol, Queue};

use super::READY_PATH;
use crate::api::{ModelDeployment, ReadyProbe, RevisionStatus, Server, ServerProtocol};
use crate::duration;
use crate::problem::Problem;

const HOUR: Duration = Duration::from_hours(1);
/// Of `routing.queue.timeout` and `server.timeout`.
const WAITS: RangeInclusive<Duration> = Duration::from_millis(100)..=HOUR;
const STARTS: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(24);
const DELAYS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10);
/// Until a server can serve for the first time, unless the spec says otherwise.
const START: Duration = Duration::from_mins(15);
/// What Millrace's own server takes for an answer, and what a pod that ends has for it, unless the spec says otherwise.
pub(super) const ANSWER: Duration = Duration::from_secs(30);
/// Bytes of a body that Millrace's own server takes unless it is told otherwise.
const BODY_BYTES: i64 = 8 << 20;

/// What the routers keep for requests that wait.
pub(crate) fn queue(deployment: &ModelDeployment) -> Queue {
    let asked = deployment.spec.routing.as_ref().and_then(|routing| routing.queue.as_ref());
    let usual = Queue::default();
    let timeout = asked.and_then(|queue| within(queue.timeout.as_deref(), &WAITS));
    Queue {
        max: asked.and_then(|queue| queue.max).unwrap_or(usual.max),
        timeout_ms: timeout.map_or(usual.timeout_ms, milliseconds),
    }
}

/// So long a request waits for a pod.
pub(super) fn longest_wait(deployment: &ModelDeployment) -> Duration {
    Duration::from_millis(queue(deployment).timeout_ms)
}

/// So long a request takes at most: it waits for a pod, and then for the answer.
pub(super) fn longest_request(deployment: &ModelDeployment) -> Duration {
    let answer = deployment.spec.server.as_ref().and_then(timeout).unwrap_or_default();
    longest_wait(deployment).saturating_add(answer)
}

/// What the routers bound of requests and answers.
pub(crate) fn limits(deployment: &ModelDeployment) -> Limits {
    let bytes = deployment.spec.security.as_ref().and_then(|security| security.max_body_bytes);
    Limits {
        body_bytes: bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        answer_ms: deployment.spec.server.as_ref().and_then(timeout).map(milliseconds),
    }
}

/// How routers speak to the pods of a revision.
pub(crate) fn protocol(revision: &RevisionStatus) -> Protocol {
    match revision.protocol.unwrap_or_default() {
        ServerProtocol::Auto => Protocol::Auto,
        ServerProtocol::HTTP1 => Protocol::Http1,
        ServerProtocol::H2C => Protocol::Http2,
    }
}

/// What routers ask pods of a revision that the kubelet has not seen yet; nothing where that would not tell.
pub(crate) fn ready_path(revision: &RevisionStatus) -> Option<String> {
    let by_http = revision.ready_probe.unwrap_or_default() == ReadyProbe::HTTP;
    by_http.then(|| revision.ready_path.clone().unwrap_or_else(|| READY_PATH.to_owned()))
}

/// So long a pod may take for an answer, where the spec says it.
pub(super) fn timeout(server: &Server) -> Option<Duration> {
    within(server.timeout.as_deref(), &WAITS)
}

/// Beyond what a pod has for an answer without a word about it.
pub(super) fn beyond_usual(server: &Server) -> Option<Duration> {
    timeout(server).filter(|timeout| *timeout > ANSWER)
}

/// So long a server may take until it can serve for the first time.
pub(super) fn startup(server: &Server) -> Duration {
    within(server.startup_timeout.as_deref(), &STARTS).unwrap_or(START)
}

/// Bytes of a body that Millrace's own server is to take, where that is more than it takes anyway.
pub(super) fn longer_bodies(deployment: &ModelDeployment) -> Option<i64> {
    deployment.spec.security.as_ref()?.max_body_bytes.filter(|bytes| *bytes > BODY_BYTES)
}

/// How long a request waits for others, where the spec says it.
pub(super) fn max_delay(server: &Server) -> Option<Duration> {
    within(server.batching.as_ref()?.max_delay.as_deref(), &DELAYS)
}

/// One that is out of bounds is refused, and what is served goes on without it.
fn within(text: Option<&str>, bounds: &RangeInclusive<Duration>) -> Option<Duration> {
    duration::parse(text?).filter(|time| bounds.contains(time))
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// In seconds, rounded up.
pub(super) fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}

/// What no schema can see of these.
pub(super) fn check(deployment: &ModelDeployment) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut bounded = |at: &str, text: Option<&str>, bounds: &RangeInclusive<Duration>, words: &str| {
        let wrong = text.filter(|text| within(Some(text), bounds).is_none());
        problems.extend(wrong.map(|text| Problem::new(at, "InvalidDuration", format!("\"{text}\" is {words}"))));
    };
    let queue = deployment.spec.routing.as_ref().and_then(|routing| routing.queue.as_ref());
    let waits = queue.and_then(|queue| queue.timeout.as_deref());
    bounded("spec.routing.queue.timeout", waits, &WAITS, "no time to wait from 100ms to 1h: write one, such as 10m");
    let Some(server) = &deployment.spec.server else { return problems };
    let timeout = server.timeout.as_deref();
    bounded("spec.server.timeout", timeout, &WAITS, "no time for an answer from 100ms to 1h: write one, such as 2m");
    let startup = server.startup_timeout.as_deref();
    let words = "no time for a start from 10s to 1d: write one, such as 1h";
    bounded("spec.server.startupTimeout", startup, &STARTS, words);
    let delay = server.batching.as_ref().and_then(|batching| batching.max_delay.as_deref());
    let words = "more than a request may wait for others: write 10s or less, such as 2ms";
    bounded("spec.server.batching.maxDelay", delay, &DELAYS, words);
    problems.extend(too_short_an_end(server));
    problems
}

/// A pod that ends must have the time for what it may have in hand.
fn too_short_an_end(server: &Server) -> Option<Problem> {
    let text = server.settings.termination_grace_period.as_deref()?;
    let (given, asked) = (seconds(duration::parse(text)?), seconds(timeout(server)?));
    let needed = asked + super::objects::besides_grace(server);
    (given < needed).then(|| {
        let message = format!(
            "\"{text}\" leaves a pod that ends less time than spec.server.timeout gives the requests that it has in hand: write {needed}s or more, or leave it out"
        );
        Problem::new("spec.server.terminationGracePeriod", "InvalidDuration", message)
    })
}
