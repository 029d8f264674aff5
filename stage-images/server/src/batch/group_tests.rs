//! What runs together, by rows and widths.

use super::super::test_jobs::job;
use super::*;

/// Takes groups until the queue is empty. Jobs are `(rows, width)`; each group is the rows of its jobs.
fn groups(jobs: &[(usize, usize)], max_rows: usize) -> Vec<Vec<usize>> {
    let made: Vec<_> = jobs.iter().map(|(rows, width)| job(*rows, *width)).collect();
    let (mut queue, callers): (VecDeque<Job>, Vec<_>) = made.into_iter().unzip();
    let mut groups = Vec::new();
    loop {
        let group = next(&mut queue, max_rows);
        if group.is_empty() {
            drop(callers);
            return groups;
        }
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
    let group = next(&mut queue, 8);
    assert_eq!(group.iter().map(|job| job.rows).collect::<Vec<_>>(), [2]);
    assert!(queue.is_empty());
}
