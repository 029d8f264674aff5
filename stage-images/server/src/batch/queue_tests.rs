//! The queue between threads.

use std::sync::Arc;
use std::time::Duration;

use super::super::test_jobs::job;
use super::*;

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
            while let Some(jobs) = queue.take(1) {
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
    assert_eq!(queue.take(8).map(|jobs| jobs.len()), Some(1));
    assert!(queue.take(8).is_none());
}
