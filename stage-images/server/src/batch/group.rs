//! Which of the waiting jobs run together, and when. Pure, apart from looking whether a caller has gone.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Job;

/// How a model's jobs are grouped.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Rows that run together at most, unless one job has more.
    pub max_rows: usize,
    /// How long a job waits for others if its group is not full.
    pub max_delay: Duration,
}

/// What the runner does next.
#[derive(Debug)]
pub enum Next {
    Run(Vec<Job>),
    /// All groups may still grow until then.
    Wait(Instant),
    /// Nobody waits.
    Rest,
}

/// Jobs of the same shapes but for the first dimension are a group. Runs the oldest group that is full or has waited long
/// enough; without a delay, that is the group of the first job. The others keep their order; an unlike job at the front of
/// the queue is first the next time, so none starves.
pub fn next(jobs: &mut VecDeque<Job>, rules: Rules, now: Instant) -> Next {
    while jobs.front().is_some_and(|job| job.reply.is_closed()) {
        jobs.pop_front();
    }
    let Some(first) = jobs.front() else { return Next::Rest };
    let until = first.since + rules.max_delay;
    if until <= now {
        return Next::Run(take(jobs, 0, rules.max_rows));
    }
    jobs.retain(|job| !job.reply.is_closed());
    full(jobs, rules.max_rows).map_or(Next::Wait(until), |start| Next::Run(take(jobs, start, rules.max_rows)))
}

/// The first job of the oldest group to which no more could come.
fn full(jobs: &VecDeque<Job>, max_rows: usize) -> Option<usize> {
    // The first job of each group and the group's rows.
    let mut groups: Vec<(usize, usize)> = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        let group = groups.iter_mut().find(|(start, _)| alike(&jobs[*start], job));
        match group {
            Some((_, rows)) => *rows += job.rows,
            None => groups.push((index, job.rows)),
        }
    }
    groups.into_iter().find(|(_, rows)| *rows >= max_rows).map(|(start, _)| start)
}

/// Takes the job at `start` and every later one that fits behind it, at most `max_rows` rows in all.
fn take(jobs: &mut VecDeque<Job>, start: usize, max_rows: usize) -> Vec<Job> {
    let mut taken: Vec<Job> = Vec::new();
    let mut rows = 0;
    let mut left = VecDeque::new();
    for index in 0.. {
        let Some(job) = jobs.pop_front() else { break };
        let fits = match taken.first() {
            None => index >= start,
            Some(first) => rows + job.rows <= max_rows && alike(first, &job),
        };
        if job.reply.is_closed() {
            continue;
        }
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
