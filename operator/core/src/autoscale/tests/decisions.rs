//! What is decided in each situation.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::api::{Percentile, Scale, ScaleMetric};
use crate::autoscale::{Config, Decision, Mode, State, Window, decide, mode, starts_from_zero};

const CONFIG: Config = Config {
    min: 1,
    max: 20,
    metric: ScaleMetric::Concurrency,
    target: Some(8.0),
    to_zero_after: Duration::from_mins(5),
    percentile: Percentile::P95,
};

/// Everything is known, and the load was the same for a minute.
fn steady(load: f64) -> Window {
    Window {
        short: load,
        middle: load,
        long: Some(load),
        peak: Some(load),
        idle: Duration::ZERO,
        complete: true,
        lowered: None,
        latency: None,
        blind: None,
    }
}

fn chosen(config: &Config, window: &Window, replicas: i32) -> Decision {
    decide(
        config,
        window,
        State { replicas, available: replicas },
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1),
    )
}

#[test]
fn the_largest_mean_brings_pods_at_once_and_says_why() {
    for (short, middle, long, pods, why) in [
        (4.0, 12.4, 2.0, 2, "Concurrency 12.4 over 6 s, target 8: 2 pods"),
        (40.0, 12.4, 2.0, 5, "Concurrency 40.0 over 2 s, target 8: 5 pods"),
        (4.0, 8.0, 30.0, 4, "Concurrency 30.0 over 60 s, target 8: 4 pods"),
        (400.0, 0.0, 0.0, 10, "10 pods of the 50 that it asks for, 10 times as many at a time"),
    ] {
        let window = Window { short, middle, long: Some(long), ..steady(0.0) };
        let decision = chosen(&CONFIG, &window, 1);
        assert_eq!(decision.replicas, pods, "{decision:?}");
        assert!(decision.why.ends_with(why), "{decision:?}");
    }
    let decision = chosen(&CONFIG, &steady(400.0), 10);
    assert_eq!(
        (decision.replicas, decision.why.as_str()),
        (20, "Concurrency 400.0 over 60 s, target 8: 20 pods, and max is 20")
    );
}

#[test]
fn a_little_above_the_target_brings_a_pod_after_a_minute_only() {
    let window = Window { long: None, ..steady(8.7) };
    assert_eq!(chosen(&CONFIG, &window, 1).replicas, 1);
    assert_eq!(chosen(&CONFIG, &steady(8.7), 1).replicas, 2);
    assert_eq!(chosen(&CONFIG, &Window { short: 8.9, ..window }, 1).replicas, 2);
}

#[test]
fn pods_go_by_the_most_of_a_minute_half_at_a_time_and_with_pauses() {
    let quiet = Window { peak: Some(3.0), ..steady(1.0) };
    let decision = chosen(&CONFIG, &quiet, 9);
    assert_eq!(
        (decision.replicas, decision.why.as_str()),
        (5, "Concurrency 3.0 at most in 60 s, target 8: 5 pods, half of them at a time")
    );
    assert_eq!(chosen(&CONFIG, &quiet, 2).replicas, 1);
    assert_eq!(chosen(&CONFIG, &Window { peak: Some(70.0), ..steady(1.0) }, 9).replicas, 9);
    assert_eq!(chosen(&CONFIG, &Window { peak: None, ..steady(1.0) }, 9).replicas, 9, "not looked at for long enough");
    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
    let lowered = |ago| Some(now - SignedDuration::from_secs(ago));
    assert_eq!(chosen(&CONFIG, &Window { lowered: lowered(14), ..quiet.clone() }, 9).replicas, 9);
    assert_eq!(chosen(&CONFIG, &Window { lowered: lowered(15), ..quiet }, 9).replicas, 5);
}

#[test]
fn what_a_router_has_not_said_takes_no_pod_away() {
    let config = Config { min: 0, ..CONFIG };
    for window in [Window::default(), Window { complete: false, idle: Duration::from_hours(1), ..steady(0.0) }] {
        for replicas in 1..20 {
            assert_eq!(chosen(&config, &window, replicas).replicas, replicas, "{window:?}");
        }
    }
    assert_eq!(chosen(&CONFIG, &Window { complete: false, ..steady(100.0) }, 1).replicas, 10, "up is not held up");
}

#[test]
fn it_goes_to_zero_after_the_time_without_a_request_and_not_a_moment_before() {
    let config = Config { min: 0, ..CONFIG };
    let idle = |seconds| Window { idle: Duration::from_secs(seconds), ..steady(0.0) };
    assert_eq!(chosen(&config, &idle(299), 1).replicas, 1);
    let decision = chosen(&config, &idle(300), 1);
    assert_eq!((decision.replicas, decision.why.as_str()), (0, "no request for 5m: 0 pods"));
    assert_eq!(chosen(&CONFIG, &idle(300), 1).replicas, 1, "min is 1");
    // The mean of a minute may still know of what was before a short time to zero.
    let short = Config { to_zero_after: Duration::from_secs(5), ..config };
    let window = Window { long: Some(3.0), peak: Some(9.0), ..idle(5) };
    assert_eq!([1, 0].map(|replicas| chosen(&short, &window, replicas).replicas), [0, 0]);
    assert_eq!(chosen(&config, &Window { short: 0.2, ..steady(0.0) }, 0).replicas, 1, "a request waits");
}

#[test]
fn bounds_hold_at_once() {
    assert_eq!(chosen(&Config { min: 3, ..CONFIG }, &steady(0.0), 1).replicas, 3);
    assert_eq!(chosen(&Config { max: 4, ..CONFIG }, &Window::default(), 9).replicas, 4);
    assert_eq!(chosen(&CONFIG, &steady(0.0), 0).replicas, 1);
    let one = Config { min: 0, max: 1, target: None, ..CONFIG };
    assert_eq!([0, 1].map(|replicas| chosen(&one, &steady(50.0), replicas).replicas), [1, 1]);
}

/// Whatever is seen: within the bounds, down only on what is known, and the same again once it is so.
#[test]
fn no_decision_breaks_its_rules() {
    let mut seed = 7_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
    for _ in 0..20_000 {
        let min = i32::try_from(random(4)).unwrap();
        let config = Config {
            min,
            max: min.max(1) + i32::try_from(random(30)).unwrap(),
            target: (random(4) > 0).then(|| (random(100) + 1) as f64 / 10.0),
            to_zero_after: Duration::from_secs(5 + random(60)),
            ..CONFIG
        };
        let load = |n: u64| if n == 0 { 0.0 } else { n as f64 / 7.0 };
        let window = Window {
            short: load(random(200)),
            middle: load(random(200)),
            long: (random(3) > 0).then(|| load(random(200))),
            peak: (random(3) > 0).then(|| load(random(200))),
            idle: Duration::from_secs(random(80)),
            complete: random(3) > 0,
            lowered: (random(3) == 0).then(|| now - SignedDuration::from_secs(20)),
            latency: None,
            blind: None,
        };
        let replicas = i32::try_from(random(40)).unwrap();
        let decision = decide(&config, &window, State { replicas, available: replicas }, now);
        let case = format!("{config:?} {window:?} {replicas}: {decision:?}");
        assert!(decision.replicas <= config.max && decision.replicas >= config.min, "{case}");
        assert!(decision.replicas > 0 || window.idle >= config.to_zero_after || replicas == 0, "{case}");
        let down = decision.replicas < replicas;
        assert!(!down || replicas > config.max || window.complete, "{case}");
        assert!(
            !down || replicas > config.max || decision.replicas == 0 || decision.replicas * 2 >= replicas,
            "{case}"
        );
        if !down {
            let again = decide(&config, &window, State { replicas: decision.replicas, available: replicas }, now);
            assert!(
                again.replicas >= decision.replicas || decision.replicas == 0 || again.replicas == 0,
                "{case}: {again:?}"
            );
        }
    }
}

#[test]
fn who_sets_the_number_follows_from_what_is_written() {
    let read = |json: serde_json::Value| -> Scale { serde_json::from_value(json).unwrap() };
    let of = |json: serde_json::Value| {
        let scale = read(json);
        (mode(Some(&scale)), starts_from_zero(Some(&scale)))
    };
    let bounds = |min, max, target, seconds| {
        let to_zero_after = Duration::from_secs(seconds);
        Mode::Chosen(Config { min, max, target, to_zero_after, ..CONFIG })
    };
    assert_eq!((mode(None), starts_from_zero(None)), (Mode::Left, false));
    for (json, wanted) in [
        (serde_json::json!({}), (Mode::Left, false)),
        (serde_json::json!({ "replicas": 3 }), (Mode::Pinned(3), false)),
        (serde_json::json!({ "replicas": 0 }), (Mode::Pinned(0), false)),
        (serde_json::json!({ "min": 0 }), (bounds(0, 1, None, 300), true)),
        (serde_json::json!({ "min": 3 }), (bounds(3, 3, None, 300), false)),
        (serde_json::json!({ "max": 4, "target": 2 }), (bounds(1, 4, Some(2.0), 300), false)),
        (
            serde_json::json!({ "min": 0, "max": 4, "target": 0.5, "toZeroAfter": "10s" }),
            (bounds(0, 4, Some(0.5), 10), true),
        ),
        (serde_json::json!({ "min": 0, "max": 4, "target": 2, "replicas": 7 }), (Mode::Pinned(7), false)),
        (serde_json::json!({ "metric": "External" }), (Mode::Left, true)),
        (serde_json::json!({ "metric": "External", "replicas": 2 }), (Mode::Pinned(2), true)),
        (
            serde_json::json!({ "metric": "External", "replicas": 0, "toZeroAfter": "1m" }),
            (bounds(0, 1, None, 60), true),
        ),
    ] {
        assert_eq!(of(json.clone()), wanted, "{json}");
    }
}
