//! Which of the waiting jobs run together. Pure, apart from looking whether a caller has gone.

use std::collections::VecDeque;

use super::Job;

/// Takes the first job that someone still waits for, and every later one that fits behind it: the same shapes but for
/// the first dimension, at most `max_rows` rows in all. The others keep their order; an unlike job at the front of the
/// queue is first the next time, so none starves.
pub fn next(jobs: &mut VecDeque<Job>, max_rows: usize) -> Vec<Job> {
    let mut taken: Vec<Job> = Vec::new();
    let mut rows = 0;
    let mut left = VecDeque::new();
    while let Some(job) = jobs.pop_front() {
        if job.reply.is_closed() {
            continue;
        }
        let fits = match taken.first() {
            None => true,
            Some(first) => rows + job.rows <= max_rows && alike(first, &job),
        };
        if fits {
            rows += job.rows;
            taken.push(job);
        } else {
            left.push_back(job);
        }
        if rows >= max_rows {
            break;
        }
    }
    // What was passed over stands before what was never looked at.
    while let Some(job) = left.pop_back() {
        jobs.push_front(job);
    }
    taken
}

fn alike(a: &Job, b: &Job) -> bool {
    a.inputs.iter().zip(&b.inputs).all(|(a, b)| a.shape.get(1..) == b.shape.get(1..))
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
