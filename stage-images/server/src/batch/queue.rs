//! The bounded queue between the threads that serve sockets and the thread that runs the model.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Job;
use super::group::{self, Next, Rules};

/// What waits. `push` never blocks; `take` blocks its thread.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    /// The runner waits on `wake`. Without this each push would cost a system call.
    idle: bool,
    closed: bool,
}

/// The queue holds as many jobs as it may.
#[derive(Debug)]
pub struct Full;

impl Queue {
    pub fn new(capacity: usize) -> Self {
        Self { state: Mutex::default(), wake: Condvar::new(), capacity }
    }

    /// How many jobs wait.
    pub fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    pub fn push(&self, job: Job) -> Result<(), Full> {
        let mut state = self.lock();
        if state.jobs.len() >= self.capacity {
            // Those whose callers have left take no place.
            state.jobs.retain(|job| !job.reply.is_closed());
        }
        if state.jobs.len() >= self.capacity || state.closed {
            return Err(Full);
        }
        state.jobs.push_back(job);
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        if idle {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// The next jobs that run together by these rules. Waits for them; `None` once the queue is closed and empty. A closed
    /// queue delays nothing.
    pub fn take(&self, rules: Rules) -> Option<Vec<Job>> {
        let mut state = self.lock();
        loop {
            let max_delay = if state.closed { Duration::ZERO } else { rules.max_delay };
            match group::next(&mut state.jobs, Rules { max_delay, ..rules }, Instant::now()) {
                Next::Run(jobs) if !jobs.is_empty() => return Some(jobs),
                // All callers have left meanwhile.
                Next::Run(_) => {}
                Next::Wait(until) => {
                    state.idle = true;
                    let time = until.saturating_duration_since(Instant::now());
                    state = self.wake.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0;
                }
                Next::Rest if state.closed => return None,
                Next::Rest => {
                    state.idle = true;
                    state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Takes no more jobs; those that wait still run.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
