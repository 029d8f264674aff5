//! How many pods, where the latency is to be a target. It is not proportional to the load, so three things bound the rule:
//!
//! - Up as the HPA's ratio says, `ceil(pods × observed / target)` beyond a tolerance of a tenth, but twice as many at most, and never more
//!   than there are requests at a time: a request that has a pod for itself takes no less time beside another empty pod. So a model that
//!   is slow by itself brings no pods.
//! - Down only where the latency would stay well below the target with fewer. A pod is taken for a queue with one server (M/M/1, or
//!   processor sharing): with `c` requests at a time in a pod it is busy for the share `ρ = c / (1 + c)`, and a request takes `s / (1 − ρ)`.
//!   So with `m` instead of `n` pods it takes `observed × (1 − ρ) / (1 − ρ n / m)`.
//! - What was measured with another number of pods counts for nothing: while pods are on their way, and for some seconds after, the number
//!   stays. Where as many as now have served for a minute, what is missing is no pod on its way: pods may come, and none goes.

use super::decide::{floor, pods, within};
use super::latencies::{CALM, SOON, Seen};
use super::{Config, Decision, Latency, State, Window};

/// As the HPA's: a little above the target brings no pod.
const TOLERANCE: f64 = 1.1;
/// Of the target: pods go where the latency would stay below it.
const ROOM: f64 = 0.7;
/// Of the pods, a quarter goes at a time, or one.
const SLOWEST_DOWN: i32 = 4;
const FASTEST_UP: i32 = 2;

pub(super) fn decide(config: &Config, window: &Window, target: f64, state: State) -> Decision {
    let State { replicas: current, available } = state;
    let none = Latency::default();
    let Latency { soon, calm } = window.latency.as_ref().unwrap_or(&none);
    if let Some(decision) = within(config, current) {
        return decision;
    }
    if current == 0 {
        let waits = i32::from(window.short > 0.0);
        let why = if waits > 0 { "a request waits: 1 pod" } else { "no request: 0 pods" };
        return Decision { replicas: waits, why: why.to_owned() };
    }
    let name = format!("Latency{}", config.percentile.as_str());
    let stays = |why: String| Decision { replicas: current, why: format!("{why}: {}", pods(current)) };
    let missing = available < current;
    if missing && (available == 0 || calm.is_none()) {
        return stays(format!("{name} is not looked at while pods come"));
    }
    let calm = calm.filter(|_| window.complete && !missing);
    let Some(observed) = observed(soon, target, available) else {
        return match calm.and_then(|calm| fewer(config, &calm, target, current)) {
            Some(replicas) => Decision { replicas, why: format!("few requests in a minute: {}", pods(replicas)) },
            None => stays("too few requests to tell".to_owned()),
        };
    };
    let says = format!("{name} {observed:.0} ms over {} s, target {target}", SOON.as_secs());
    if observed > target * TOLERANCE {
        let useful = up(soon.concurrency).max(current);
        let ratio = up(f64::from(available) * observed / target).min(current.saturating_mul(FASTEST_UP));
        let replicas = ratio.min(useful).min(config.max).max(current);
        let limit = match ratio {
            more if more > replicas && replicas == config.max => format!(", and max is {}", config.max),
            more if more > replicas => ", and more would have no request".to_owned(),
            _ => String::new(),
        };
        return Decision { replicas, why: format!("{says}: {}{limit}", pods(replicas)) };
    }
    match calm.and_then(|calm| Some((calm, fewer(config, &calm, target, current)?))) {
        Some((calm, replicas)) => {
            let took = calm.took.unwrap_or(observed);
            let why = format!("{name} {took:.0} ms over {} s, target {target}: {}", CALM.as_secs(), pods(replicas));
            Decision { replicas, why }
        }
        None => stays(says),
    }
}

/// Milliseconds. Where hardly any request ends, those that wait tell.
fn observed(seen: &Seen, target: f64, available: i32) -> Option<f64> {
    let waits = seen.mean > target && seen.concurrency > f64::from(available);
    seen.took.or_else(|| waits.then_some(seen.mean))
}

/// Fewer pods that would do, if there are some.
fn fewer(config: &Config, seen: &Seen, target: f64, current: i32) -> Option<i32> {
    let least = current - (current / SLOWEST_DOWN).max(1);
    let each = seen.concurrency / f64::from(current);
    let busy = each / (1.0 + each);
    let took = seen.took.unwrap_or(seen.mean);
    let would = |pods: i32| {
        let free = 1.0 - busy * f64::from(current) / f64::from(pods);
        if free > 0.0 { took * (1.0 - busy) / free } else { f64::INFINITY }
    };
    let least = least.max(floor(config, current)).max(1);
    (least..current).find(|pods| would(*pods) <= target * ROOM)
}

/// Rounded up. What is too much for an integer is its greatest.
#[allow(clippy::cast_possible_truncation)]
fn up(value: f64) -> i32 {
    (value - 1e-9).ceil().max(0.0) as i32
}
