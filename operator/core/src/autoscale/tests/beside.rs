//! A step of the load, answered by this decider and by what Knative's autoscaler and the HPA are documented to do with their defaults: the
//! seconds until as many pods are asked for as the new load needs. How long a pod takes to come is the same for all and is left out.
//!
//! Knative: a decision every 2 s by the mean of 60 s; by that of 6 s while it asks for at least twice the pods that are ready.
//! HPA: a decision every 15 s by the mean of the last 15 s, of metrics without a delay, with a tolerance of a tenth, and at most twice as many or 4 more pods in 15 s.

use super::simulated::Run;

/// Requests in flight before the step; one to a pod.
const BEFORE: f64 = 10.0;
const STEP: usize = 300;
const END: usize = STEP + 240;

/// The load of each second.
fn loads(factor: f64) -> Vec<f64> {
    (0..END).map(|second| if second < STEP { BEFORE } else { BEFORE * factor }).collect()
}

fn mean(loads: &[f64], until: usize, seconds: usize) -> f64 {
    loads[until - seconds..until].iter().sum::<f64>() / seconds as f64
}

/// Seconds from the step to the first second in which enough is asked for.
fn answered(factor: f64, mut chosen: impl FnMut(usize) -> f64) -> usize {
    // As for the HPA, a tenth less is enough.
    let enough = BEFORE * factor / 1.1;
    let mut at = (60..END).map(|second| (second, chosen(second)));
    at.find(|(second, pods)| *second > STEP && *pods >= enough).map_or(usize::MAX, |(second, _)| second - STEP)
}

fn knative(factor: f64) -> usize {
    let loads = loads(factor);
    let (mut pods, mut panics) = (BEFORE, None);
    answered(factor, |second| {
        if second % 2 == 0 {
            let (stable, panic) = (mean(&loads, second, 60).ceil(), mean(&loads, second, 6).ceil());
            if panic / pods >= 2.0 {
                panics = Some(second);
            }
            panics = panics.filter(|since| second - since <= 60);
            pods = if panics.is_some() { stable.max(panic).max(pods) } else { stable };
        }
        pods
    })
}

/// `phase`: how long after a decision the step comes.
fn hpa(factor: f64, phase: usize) -> usize {
    let loads = loads(factor);
    let mut pods = BEFORE;
    answered(factor, |second| {
        if (second + phase - STEP % 15).is_multiple_of(15) {
            let ratio = mean(&loads, second, 15) / pods;
            if ratio > 1.1 {
                pods = (pods * ratio).ceil().min((pods * 2.0).max(pods + 4.0));
            }
        }
        pods
    })
}

fn millrace(factor: f64) -> usize {
    let mut run = Run::new(1.0, 1000);
    let loads = loads(factor);
    let mut second = 0;
    answered(factor, |until| {
        while second < until {
            run.load(thousandths(loads[second]), 1, 900);
            second += 1;
        }
        f64::from(run.replicas)
    })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn thousandths(load: f64) -> u64 {
    (load * 1000.0).round() as u64
}

#[test]
fn a_step_is_answered_in_seconds_where_others_take_a_minute() {
    let row = |factor| {
        let hpa: Vec<usize> = (0..15).map(|phase| hpa(factor, phase)).collect();
        (millrace(factor), knative(factor), *hpa.iter().min().unwrap(), *hpa.iter().max().unwrap())
    };
    // Millrace, Knative, the HPA at best and at worst.
    assert_eq!([1.5, 2.0, 10.0].map(row), [(2, 38, 10, 24), (2, 50, 13, 27), (2, 6, 46, 60)]);
}
