//! The decider beside a load that steps: pods that take a time to come, routers that are asked once a second.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::api::{Percentile, ScaleMetric};
use crate::autoscale::{Config, Counted, History, State, decide};

/// Of a second.
const TICK: u64 = 100;

pub struct Run {
    history: History,
    config: Config,
    pub replicas: i32,
    now_ms: u64,
    counted: [Counted; 2],
    /// Every number that was chosen, and when.
    chosen: Vec<(u64, i32)>,
}

impl Run {
    pub fn new(target: f64, max: i32) -> Self {
        let config = Config {
            min: 1,
            max,
            metric: ScaleMetric::Concurrency,
            target: Some(target),
            to_zero_after: Duration::MAX,
            percentile: Percentile::P95,
        };
        Self {
            history: History::new(Timestamp::UNIX_EPOCH),
            config,
            replicas: 1,
            now_ms: 0,
            counted: [1, 2].map(|boot| Counted { boot, ..Counted::default() }),
            chosen: Vec::new(),
        }
    }

    /// So many thousandths of a request in flight at both routers together, for so long. `offset` is how long after the full second they
    /// are asked.
    pub fn load(&mut self, flight: u64, seconds: u64, offset: u64) {
        for _ in 0..seconds * 1000 / TICK {
            self.now_ms += TICK;
            let now = Timestamp::UNIX_EPOCH + SignedDuration::from_millis(i64::try_from(self.now_ms).unwrap());
            for counted in &mut self.counted {
                counted.at_us += TICK * 1000;
                counted.demand_us += flight / 2 * TICK;
                counted.in_flight = flight / 2000;
            }
            if self.now_ms % 1000 != offset {
                continue;
            }
            for (name, counted) in ["a", "b"].into_iter().zip(self.counted) {
                self.history.heard(name, counted, now);
            }
            self.history.saw(self.replicas, now);
            let window = self.history.window(ScaleMetric::Concurrency, &BTreeSet::from(["a", "b"]), now);
            let decision =
                decide(&self.config, &window, State { replicas: self.replicas, available: self.replicas }, now);
            if decision.replicas != self.replicas {
                self.chosen.push((self.now_ms, decision.replicas));
                self.replicas = decision.replicas;
            }
        }
    }
}

#[test]
fn a_step_of_the_load_is_answered_within_three_seconds() {
    for (factor, wanted) in [(1500, 6), (2000, 8), (10_000, 40)] {
        for offset in [0, 300, 900] {
            let mut run = Run::new(1.0, 100);
            run.load(4000, 300, offset);
            assert_eq!(run.replicas, 4);
            let step = run.now_ms;
            run.load(4 * factor, 10, offset);
            // A tenth less is enough until the mean of a minute says otherwise.
            let enough = run.chosen.iter().find(|(_, replicas)| replicas * 11 >= wanted * 10).map(|(at, _)| at - step);
            assert!(enough.is_some_and(|ms| ms <= 3000), "x{factor}, asked at {offset}: {enough:?} {:?}", run.chosen);
            run.load(4 * factor, 90, offset);
            assert_eq!(run.replicas, wanted, "and no more than that");
        }
    }
}

#[test]
fn what_is_gone_for_a_minute_takes_its_pods_along_and_a_short_pause_does_not() {
    let mut run = Run::new(1.0, 100);
    run.load(20_000, 120, 0);
    assert_eq!(run.replicas, 20);
    for _ in 0..5 {
        run.load(500, 30, 0);
        assert_eq!(run.replicas, 20, "a pause");
        run.load(20_000, 10, 0);
    }
    let end = run.now_ms;
    run.chosen.clear();
    run.load(500, 240, 0);
    let steps: Vec<i32> = run.chosen.iter().map(|(_, replicas)| *replicas).collect();
    assert_eq!(steps, [10, 5, 3, 2, 1]);
    let first = run.chosen[0].0 - end;
    assert!((55_000..=70_000).contains(&first), "{first}");
}

#[test]
fn a_load_that_swings_about_the_target_does_not_swing_the_pods() {
    let mut run = Run::new(1.0, 100);
    for second in 0..600 {
        run.load(if second % 2 == 0 { 5000 } else { 3000 }, 1, 0);
    }
    assert!(run.chosen.len() <= 3, "{:?}", run.chosen);
}
