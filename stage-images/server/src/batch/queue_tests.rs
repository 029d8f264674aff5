//! The queue between threads.

use std::sync::Arc;

use super::super::test_jobs::job;
use super::*;

fn rules(max_rows: usize) -> Rules {
    Rules { max_rows, max_delay: Duration::ZERO }
}

#[test]
fn a_full_queue_refuses_and_callers_that_left_take_no_place() {
    let queue = Queue::new(2);
    let (first, first_caller) = job(1, 1);
    let (second, _second_caller) = job(1, 1);
    let (third, _third_caller) = job(1, 1);
    let (fourth, _fourth_caller) = job(1, 1);
    assert!(queue.push(first).is_ok());
    assert!(queue.push(second).is_ok());
    assert!(queue.push(third).is_err());
    drop(first_caller);
    assert!(queue.push(fourth).is_ok());
    assert_eq!(queue.len(), 2);
}

#[test]
fn a_waiting_runner_is_woken_by_each_job() {
    let queue = Arc::new(Queue::new(8));
    let runner = std::thread::spawn({
        let queue = Arc::clone(&queue);
        move || {
            let mut taken = 0;
            while let Some(jobs) = queue.take(rules(1)) {
                taken += jobs.len();
            }
            taken
        }
    });
    let mut callers = Vec::new();
    for _ in 0..5 {
        let (job, caller) = job(1, 1);
        assert!(queue.push(job).is_ok());
        callers.push(caller);
        std::thread::sleep(Duration::from_millis(2));
    }
    queue.close();
    assert_eq!(runner.join().unwrap(), 5);
}

#[test]
fn a_closed_queue_gives_what_it_has_and_takes_no_more() {
    let queue = Queue::new(8);
    let (first, _caller) = job(1, 1);
    let (second, _other) = job(1, 1);
    assert!(queue.push(first).is_ok());
    queue.close();
    assert!(queue.push(second).is_err());
    assert_eq!(queue.take(rules(8)).map(|jobs| jobs.len()), Some(1));
    assert!(queue.take(rules(8)).is_none());
}

#[test]
fn a_delay_ends_with_its_time_and_with_the_queue() {
    let queue = Queue::new(8);
    let (first, _first) = job(1, 1);
    let since = first.since;
    assert!(queue.push(first).is_ok());
    let max_delay = Duration::from_millis(30);
    assert_eq!(queue.take(Rules { max_rows: 8, max_delay }).map(|jobs| jobs.len()), Some(1));
    assert!(since.elapsed() >= max_delay);
    let (second, _second) = job(1, 1);
    assert!(queue.push(second).is_ok());
    queue.close();
    let max_delay = Duration::from_mins(10);
    assert_eq!(queue.take(Rules { max_rows: 8, max_delay }).map(|jobs| jobs.len()), Some(1));
}

#[test]
fn a_group_that_becomes_full_runs_before_its_time() {
    let queue = Arc::new(Queue::new(8));
    let runner = std::thread::spawn({
        let queue = Arc::clone(&queue);
        let rules = Rules { max_rows: 3, max_delay: Duration::from_mins(10) };
        move || queue.take(rules).map(|jobs| jobs.len())
    });
    let mut callers = Vec::new();
    for _ in 0..3 {
        let (job, caller) = job(1, 1);
        assert!(queue.push(job).is_ok());
        callers.push(caller);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(runner.join().unwrap(), Some(3));
}
