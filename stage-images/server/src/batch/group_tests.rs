//! What runs together, by rows and widths.

use super::super::test_jobs::job;
use super::*;

/// Takes groups until the queue is empty. Jobs are `(rows, width)`; each group is the rows of its jobs.
fn groups(jobs: &[(usize, usize)], max_rows: usize) -> Vec<Vec<usize>> {
    let made: Vec<_> = jobs.iter().map(|(rows, width)| job(*rows, *width)).collect();
    let (mut queue, callers): (VecDeque<Job>, Vec<_>) = made.into_iter().unzip();
    let mut groups = Vec::new();
    loop {
        let rules = Rules { max_rows, max_delay: Duration::ZERO };
        let Next::Run(group) = next(&mut queue, rules, Instant::now()) else {
            drop(callers);
            return groups;
        };
        groups.push(group.iter().map(|job| job.rows).collect());
    }
}

#[test]
fn what_waits_runs_together_up_to_the_largest_batch() {
    assert_eq!(groups(&[(1, 1), (1, 1), (1, 1)], 8), [vec![1, 1, 1]]);
    assert_eq!(groups(&[(1, 1), (1, 1), (1, 1)], 2), [vec![1, 1], vec![1]]);
    assert_eq!(groups(&[(3, 1), (3, 1), (2, 1)], 5), [vec![3, 2], vec![3]]);
}

#[test]
fn a_request_larger_than_a_batch_runs_alone() {
    assert_eq!(groups(&[(1, 1), (100, 1), (1, 1)], 8), [vec![1, 1], vec![100]]);
    assert_eq!(groups(&[(100, 1), (1, 1)], 8), [vec![100], vec![1]]);
}

#[test]
fn shapes_that_differ_behind_the_first_dimension_do_not_mix_and_keep_their_turn() {
    assert_eq!(groups(&[(1, 1), (2, 7), (3, 1), (4, 7)], 8), [vec![1, 3], vec![2, 4]]);
}

#[test]
fn callers_that_have_gone_are_dropped_unrun() {
    let (gone, caller) = job(1, 1);
    let (stays, _waits) = job(2, 1);
    drop(caller);
    let mut queue = VecDeque::from([gone, stays]);
    let rules = Rules { max_rows: 8, max_delay: Duration::ZERO };
    let Next::Run(group) = next(&mut queue, rules, Instant::now()) else { panic!("one waits") };
    assert_eq!(group.iter().map(|job| job.rows).collect::<Vec<_>>(), [2]);
    assert!(queue.is_empty());
}

/// What runs of jobs `(rows, width)` that came just now, and how many are left.
fn delayed(jobs: &[(usize, usize)], passed: Duration) -> (Option<Vec<usize>>, usize) {
    let made: Vec<_> = jobs.iter().map(|(rows, width)| job(*rows, *width)).collect();
    let (mut queue, _callers): (VecDeque<Job>, Vec<_>) = made.into_iter().unzip();
    let since = queue[0].since;
    let rules = Rules { max_rows: 4, max_delay: Duration::from_mins(1) };
    match next(&mut queue, rules, since + passed) {
        Next::Run(group) => (Some(group.iter().map(|job| job.rows).collect()), queue.len()),
        Next::Wait(until) => {
            assert_eq!(until, since + rules.max_delay);
            (None, queue.len())
        }
        Next::Rest => panic!("some wait"),
    }
}

#[test]
fn with_a_delay_a_group_waits_until_it_is_full_or_its_time_has_come() {
    let (now, later) = (Duration::ZERO, Duration::from_mins(1));
    assert_eq!(delayed(&[(1, 1), (2, 1)], now), (None, 2));
    assert_eq!(delayed(&[(1, 1), (2, 1)], later), (Some(vec![1, 2]), 0));
    assert_eq!(delayed(&[(1, 1), (3, 1), (1, 1)], now), (Some(vec![1, 3]), 1));
    // No more could come: the next one does not fit.
    assert_eq!(delayed(&[(3, 1), (2, 1)], now), (Some(vec![3]), 1));
    assert_eq!(delayed(&[(9, 1)], now), (Some(vec![9]), 0));
}

#[test]
fn a_full_group_does_not_wait_for_another_shape() {
    let (now, later) = (Duration::ZERO, Duration::from_mins(1));
    assert_eq!(delayed(&[(1, 1), (2, 7), (1, 1), (2, 7)], now), (Some(vec![2, 2]), 2));
    assert_eq!(delayed(&[(1, 1), (2, 7), (1, 1), (2, 7)], later), (Some(vec![1, 1]), 2));
}
