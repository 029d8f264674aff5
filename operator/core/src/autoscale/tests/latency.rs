//! A target for the latency: what is decided, and what becomes of it beside a model of pods that get slower with their load.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use millrace_routes::Histogram;

use crate::api::{Percentile, ScaleMetric};
use crate::autoscale::latencies::Seen;
use crate::autoscale::{Config, Counted, Decision, Follow, History, Latency, State, Timed, Window, decide};

/// Seconds until a new pod serves.
const STARTS: u64 = 10;

fn config(target: f64) -> Config {
    Config {
        min: 1,
        max: 100,
        metric: ScaleMetric::Latency,
        target: Some(target),
        to_zero_after: Duration::MAX,
        percentile: Percentile::P95,
    }
}

/// How a pod answers.
#[derive(Clone, Copy)]
enum Pod {
    /// One request after the other, or all at once ever slower: with `c` in it, `rate · c / (1 + c)` end in a second.
    Queue { rate: f64 },
    /// Always as long, however many there are: it waits for something else.
    Constant { seconds: f64 },
    /// Nothing ends.
    Stuck,
}

/// Requests that come whatever the answers are, in seconds.
struct Run {
    history: History,
    config: Config,
    pod: Pod,
    second: u64,
    replicas: i32,
    available: i32,
    coming: Option<u64>,
    /// Requests here.
    here: f64,
    /// Milliseconds that they take now.
    took: f64,
    ended: f64,
    counted: Counted,
    timed: Timed,
    chosen: Vec<(u64, i32)>,
}

impl Run {
    fn new(pod: Pod, config: Config) -> Self {
        Self {
            history: History::new(Timestamp::UNIX_EPOCH),
            config,
            pod,
            second: 0,
            replicas: 1,
            available: 1,
            coming: None,
            here: 0.0,
            took: 0.0,
            ended: 0.0,
            counted: Counted { boot: 1, ..Counted::default() },
            timed: Timed { boot: 1, ..Timed::default() },
            chosen: Vec::new(),
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]
    fn load(&mut self, arrivals: f64, seconds: u64) {
        for _ in 0..seconds {
            self.second += 1;
            let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(self.second as i64);
            // In steps of a hundredth of a second.
            let mut ended = 0.0;
            for _ in 0..100 {
                let pods = f64::from(self.available);
                let rate = match self.pod {
                    Pod::Queue { rate } => pods * rate * (self.here / pods) / (1.0 + self.here / pods),
                    Pod::Constant { seconds } => self.here / seconds,
                    Pod::Stuck => 0.0,
                };
                ended += rate / 100.0;
                self.here += (arrivals - rate) / 100.0;
                self.counted.demand_us += (self.here * 1e4) as u64;
                self.took = if rate > 0.0 { self.here / rate * 1e3 } else { f64::INFINITY };
            }
            self.ended += ended;
            let whole = self.ended.floor();
            self.ended -= whole;
            if whole > 0.0 {
                let buckets = BTreeMap::from([((self.took * 1e3) as u64, whole as u64)]);
                self.timed.duration = self.timed.duration.clone().plus(&Histogram { buckets, sum_us: 0 });
            }
            self.counted.at_us = self.second * 1_000_000;
            self.timed.at_us = self.counted.at_us;
            self.counted.in_flight = self.here as u64;
            self.counted.arrived += arrivals as u64;
            self.history.heard("a", self.counted, now);
            self.history.took("a", self.timed.clone(), now);
            self.decide(now);
        }
    }

    fn decide(&mut self, now: Timestamp) {
        if self.coming.is_some_and(|at| at <= self.second) {
            (self.available, self.coming) = (self.replicas, None);
        }
        self.history.saw(self.replicas, now);
        self.history.serves(self.available, now);
        let follow = Follow { metric: self.config.metric, percentile: self.config.percentile, query: None };
        let window = self.history.look(&follow, &BTreeSet::from(["a"]), now);
        let state = State { replicas: self.replicas, available: self.available };
        let Decision { replicas, .. } = decide(&self.config, &window, state, now);
        if replicas != self.replicas {
            self.chosen.push((self.second, replicas));
            self.coming = (replicas > self.available).then_some(self.second + STARTS);
            self.available = self.available.min(replicas);
            self.replicas = replicas;
        }
    }
}

#[test]
fn pods_come_until_the_target_holds_and_then_stay() {
    // How many times an idle pod's latency the target is: what the ratio alone would swing about.
    for times in [1.3, 2.0, 4.0, 8.0, 20.0] {
        let mut run = Run::new(Pod::Queue { rate: 10.0 }, config(100.0 * times));
        run.load(200.0, 1800);
        let settled = run.chosen.len();
        run.load(200.0, 3600);
        assert_eq!(run.chosen.len(), settled, "target {times} times: {:?}", run.chosen);
        assert!(run.took <= 110.0 * times, "{} ms of {times} times with {} pods", run.took, run.replicas);
        // As many as are busy all the time, by the share that the target leaves: not many times as many.
        let needed = 20.0 / (1.0 - 1.0 / times);
        let most = if times < 1.5 { 100.0 } else { 2.0 * needed + 1.0 };
        assert!(f64::from(run.replicas) <= most, "{} pods where {needed:.0} do ({times} times)", run.replicas);
    }
}

#[test]
fn a_step_of_the_load_is_answered_and_its_end_too() {
    let mut run = Run::new(Pod::Queue { rate: 10.0 }, config(300.0));
    run.load(20.0, 1200);
    let before = run.replicas;
    assert!(run.took <= 330.0 && before <= 5, "{} ms, {before} pods", run.took);
    run.load(80.0, 600);
    assert!(run.took <= 330.0, "{} ms with {} pods: {:?}", run.took, run.replicas, run.chosen);
    run.load(20.0, 3600);
    assert!(run.took <= 330.0 && run.replicas <= before + 2, "{} ms, {} pods", run.took, run.replicas);
    run.load(0.0, 3600);
    assert_eq!(run.replicas, 1);
}

#[test]
fn beside_concurrency_it_ends_with_about_as_many_pods_where_both_mean_the_same() {
    // Two requests at a time in a pod take three times as long as one alone: 15 pods.
    let concurrency = Config { metric: ScaleMetric::Concurrency, target: Some(2.0), ..config(0.0) };
    let pods = [concurrency, config(300.0)].map(|config| {
        let mut run = Run::new(Pod::Queue { rate: 10.0 }, config);
        run.load(100.0, 3600);
        run.replicas
    });
    assert!(pods[1] >= 15 && pods[1] <= pods[0] * 2, "{pods:?}");
}

#[test]
fn a_model_that_is_slow_by_itself_gets_no_more_pods_than_requests() {
    let mut run = Run::new(Pod::Constant { seconds: 0.5 }, config(100.0));
    run.load(10.0, 3600);
    assert!(run.replicas <= 6, "five at a time: {:?}", run.chosen);
    assert!(run.chosen.len() <= 4, "{:?}", run.chosen);
}

#[test]
fn where_nothing_ends_it_goes_up_by_what_waits_and_not_beyond_max() {
    let mut run = Run::new(Pod::Stuck, Config { max: 7, ..config(100.0) });
    run.load(5.0, 600);
    assert_eq!(run.replicas, 7);
    assert!(run.chosen.windows(2).all(|pair| pair[1].1 <= pair[0].1 * 2), "{:?}", run.chosen);
}

fn seen(took: f64, concurrency: f64) -> Seen {
    Seen { took: Some(took), mean: took, concurrency }
}

fn chosen(soon: Seen, calm: Option<Seen>, replicas: i32, available: i32) -> (i32, String) {
    let latency = Some(Latency { soon, calm });
    let window = Window { latency, complete: true, short: soon.concurrency, ..Window::default() };
    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
    let Decision { replicas, why } =
        decide(&Config { max: 20, ..config(200.0) }, &window, State { replicas, available }, now);
    (replicas, why)
}

#[test]
fn what_is_decided_says_why() {
    for (soon, replicas, available, expected, why) in [
        (seen(412.0, 30.0), 2, 2, 4, "LatencyP95 412 ms over 10 s, target 200: 4 pods"),
        (seen(900.0, 30.0), 3, 3, 6, "LatencyP95 900 ms over 10 s, target 200: 6 pods"),
        (seen(390.0, 30.0), 15, 15, 20, "LatencyP95 390 ms over 10 s, target 200: 20 pods, and max is 20"),
        (seen(390.0, 3.0), 3, 3, 3, "LatencyP95 390 ms over 10 s, target 200: 3 pods, and more would have no request"),
        (seen(215.0, 30.0), 3, 3, 3, "LatencyP95 215 ms over 10 s, target 200: 3 pods"),
        (seen(900.0, 30.0), 3, 2, 3, "LatencyP95 is not looked at while pods come: 3 pods"),
        (Seen::default(), 3, 3, 3, "too few requests to tell: 3 pods"),
        (Seen::default(), 30, 30, 20, "max is 20: 20 pods"),
        (Seen::default(), 0, 0, 1, "min is 1: 1 pod"),
    ] {
        assert_eq!(chosen(soon, None, replicas, available), (expected, why.to_owned()));
    }
    let (replicas, why) = chosen(seen(60.0, 2.0), Some(seen(70.0, 2.0)), 8, 8);
    assert_eq!((replicas, why.as_str()), (6, "LatencyP95 70 ms over 60 s, target 200: 6 pods"));
    // One more request at a time, and the last of them would be late.
    assert_eq!(chosen(seen(60.0, 16.0), Some(seen(120.0, 16.0)), 8, 8).0, 8);
    assert_eq!(
        chosen(Seen::default(), Some(Seen::default()), 8, 8),
        (6, "few requests in a minute: 6 pods".to_owned())
    );
}

#[test]
fn a_pod_that_does_not_come_in_a_minute_keeps_none_from_coming_and_lets_none_go() {
    let says = |soon, calm, available| chosen(soon, calm, 3, available).0;
    let (late, early) = (seen(500.0, 30.0), seen(20.0, 1.0));
    assert_eq!((says(late, None, 2), says(late, Some(late), 2)), (3, 5), "2 pods at two and a half times the target");
    assert_eq!((says(early, Some(early), 2), says(early, Some(early), 3)), (3, 2));
    assert_eq!(says(late, Some(late), 0), 3, "nothing was measured of no pod");
}

#[test]
fn what_was_measured_with_other_pods_counts_for_nothing() {
    let mut history = History::new(Timestamp::UNIX_EPOCH);
    let follow = Follow { metric: ScaleMetric::Latency, percentile: Percentile::P50, query: None };
    let mut look = |second: i64, pods: i32, us: u64| {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
        let at = u64::try_from(second).unwrap();
        history.serves(pods, now);
        history.heard("a", Counted { boot: 1, at_us: at * 1_000_000, in_flight: 1, ..Counted::default() }, now);
        let buckets = BTreeMap::from([(us, at * 50)]);
        let duration = Histogram { buckets, sum_us: 0 };
        history.took("a", Timed { boot: 1, at_us: at * 1_000_000, of: 1, duration }, now);
        history.look(&follow, &BTreeSet::from(["a"]), now).latency.unwrap()
    };
    for second in 1..=100 {
        let latency = look(second, 1, 100_000);
        assert_eq!(latency.soon.took.is_some(), second >= 6, "{second}");
        assert_eq!(latency.calm.is_some(), second >= 66, "{second}");
    }
    let after = look(101, 2, 100_000);
    assert_eq!((after.soon.took, after.calm), (None, None));
}
