//! What the program prints is kept in a store of objects: as it goes, bounded in the store, in memory and in how often it is written, and
//! without a say in how fast the program is.
//!
//! It lies in `attempts/<n>/log/<since>/`, in objects named by the place of their first byte, as on a claim. `<since>` is when this pod began:
//! another pod of the attempt has its own. Nothing of it passes the program's hands, which cannot spoil it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millrace_contract::{LOG_DIR, TaskSource};
use millrace_files::digest::Stop;
use object_store::ObjectStoreExt;

use super::error::Doing;
use super::log_parts::{Parts, Wanted};
use super::{Remote, RemoteError, worker};
use crate::archive::{self, Bounds, Scribe};

/// So long a single request is tried again.
const PATIENCE: Duration = Duration::from_secs(10);
/// What was printed first is in the store after this, should the pod be killed; later it takes longer and longer.
const SOON: Duration = Duration::from_millis(250);
/// … but never longer.
const LATE: Duration = Duration::from_secs(10);
/// A program that prints and prints is written no more often than this. What falls out of the middle meanwhile is left out.
const OFTEN: Duration = Duration::from_secs(1);

/// A store in which nothing moves for so long is not waited for when the program has ended. A pod that is deleted waits less.
const STUCK: Duration = Duration::from_secs(20);

/// The log of one pod of an attempt, and the thread that writes it.
pub struct RemoteLog(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    parts: Parts,
    /// Objects that were written: shows whether the store still moves.
    written: u64,
    /// Nothing more comes.
    closed: bool,
    /// The thread has ended.
    done: bool,
    trouble: Option<String>,
}

impl RemoteLog {
    /// Starts to write below the stage's folder. The error is for people.
    pub fn open(stage: &TaskSource, attempt: u32, bounds: Bounds) -> Result<Self, String> {
        // In the order of their names the pods of an attempt are in the order in which they began.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let key = format!("{}/attempts/{attempt}/{LOG_DIR}/{since:016}", stage.key);
        let place = TaskSource { store: stage.store.clone(), key };
        let remote = Remote::open(&place, PATIENCE).map_err(|error| error.to_string())?;
        let state = State { parts: Parts::new(bounds), written: 0, closed: false, done: false, trouble: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        worker::spawn("archive", &shared, move |shared| shared.write(&remote))?;
        Ok(Self(shared))
    }
}

impl Scribe for RemoteLog {
    fn push(&self, bytes: &[u8]) {
        self.0.state().parts.push(bytes);
        self.0.changed.notify_all();
    }

    fn finish(&self, late: Stop<'_>) -> Option<String> {
        let mut state = self.0.state();
        state.closed = true;
        self.0.changed.notify_all();
        let (mut written, mut moved_at) = (state.written, Instant::now());
        while !state.done {
            state = self.0.wait(state, Duration::from_millis(200));
            if state.written != written {
                (written, moved_at) = (state.written, Instant::now());
            } else if moved_at.elapsed() > STUCK {
                return Some(state.trouble.clone().unwrap_or_else(|| "the store does not answer".to_owned()));
            }
            // Every part that is written begins the time above anew.
            if !state.done && late() {
                return Some(state.trouble.clone().unwrap_or_else(|| "the store is too slow".to_owned()));
            }
        }
        state.trouble.clone()
    }
}

impl worker::Shared for Shared {
    fn ended(&self, trouble: Option<String>) {
        let mut state = self.state();
        state.done = true;
        state.trouble = trouble.or(state.trouble.take());
        self.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Writes until the last byte, or until the store fails after that. While the program runs it may come back.
    fn write(&self, remote: &Remote) {
        let (mut last, mut pause) = (Instant::now(), SOON);
        while let Some((begins, bytes)) = self.next(last, pause) {
            let length = bytes.len();
            let put = put(remote, begins, bytes);
            let mut state = self.state();
            (last, pause) = (Instant::now(), (pause * 2).min(LATE));
            match put {
                Ok(()) => {
                    state.parts.stored(begins, length);
                    state.written += 1;
                    state.trouble = None;
                }
                Err(error) => {
                    state.trouble = Some(error.to_string());
                    if state.closed {
                        return;
                    }
                    pause = LATE;
                }
            }
            let gone = state.parts.take_gone();
            drop(state);
            for begins in gone {
                remove(remote, begins);
            }
        }
    }

    /// The next part, when its time has come; none at the end. `last` is when something was written.
    fn next(&self, last: Instant, pause: Duration) -> Option<(u64, Vec<u8>)> {
        let mut state = self.state();
        loop {
            if state.closed {
                return state.parts.next(Wanted::Last);
            }
            let since = last.elapsed();
            // After a store that failed nothing is written more often.
            let often = if state.trouble.is_some() { pause } else { OFTEN.min(pause) };
            if since >= often && state.parts.waits(Wanted::Full) {
                return state.parts.next(Wanted::Full);
            }
            if since >= pause && state.parts.waits(Wanted::Grown) {
                return state.parts.next(Wanted::Grown);
            }
            let due = if since < often { often } else { pause };
            // If it is over, something new wakes this up.
            let time = due.checked_sub(since).filter(|time| !time.is_zero());
            state = self.wait(state, time.unwrap_or(LATE));
        }
    }
}

fn put(remote: &Remote, begins: u64, bytes: Vec<u8>) -> Result<(), RemoteError> {
    let key = remote.key(&archive::name(begins));
    remote.wait(&|| false, async {
        let put = remote.store.put(&key, bytes.into()).await;
        put.map(|_| ()).map_err(remote.failed(Doing::Write, &key))
    })
}

/// What stays because the store refuses is found by its name, and only more than was promised.
fn remove(remote: &Remote, begins: u64) {
    let key = remote.key(&archive::name(begins));
    let _ =
        remote.wait(&|| false, async { remote.store.delete(&key).await.map_err(remote.failed(Doing::Write, &key)) });
}
