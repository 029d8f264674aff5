//! Whether events are taken, and otherwise why not. What changes is printed, once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::say;

/// A hiccup of the store is over by then, and the spool loses nothing meanwhile.
const PATIENCE: Duration = Duration::from_mins(1);
/// Until then the table was looked at once, or nobody waits for it any more: the kubelet ends in a minute what does not say that it is well.
const FIRST_LOOK: Duration = Duration::from_secs(30);
/// Characters of what is said to who sends.
const LONGEST: usize = 299;

pub struct Health {
    /// The table's address.
    table: String,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    opened: bool,
    failing: Option<Failing>,
    /// Why the spool takes no more.
    full: Option<String>,
    said: Said,
}

/// Since when no attempt came through, and why the last one did not.
struct Failing {
    since: Instant,
    why: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Said {
    #[default]
    Nothing,
    Closed,
    Well,
    Hiccup,
    Failing,
    Full,
}

impl Health {
    pub fn new(table: &str) -> Self {
        Self { table: table.to_owned(), began: Instant::now(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table was read.
    pub fn opened(&self) {
        let mut state = self.state();
        // Of an append that fails afterwards this says nothing.
        if !state.opened {
            state.failing = None;
        }
        state.opened = true;
        self.tell(&mut state);
    }

    /// The table has what waited.
    pub fn appended(&self) {
        let mut state = self.state();
        (state.failing, state.full) = (None, None);
        self.tell(&mut state);
    }

    /// An attempt that began then did not come through.
    pub fn failed(&self, began: Instant, why: &str) {
        let mut state = self.state();
        let since = state.failing.as_ref().map_or(began, |failing| failing.since);
        state.failing = Some(Failing { since, why: why.to_owned() });
        self.tell(&mut state);
    }

    /// The spool does not take what came: what is answered.
    pub fn full(&self, why: &str) -> String {
        let mut state = self.state();
        let cause = state.failing.as_ref().map(|failing| format!("; nothing is appended: {}", failing.why));
        let why = format!("{why}{}", cause.unwrap_or_default());
        state.full = Some(why.clone());
        self.tell(&mut state);
        say::excerpt(&why, LONGEST)
    }

    /// Why no events are to come yet. They come when the table was looked at, whatever was found: what is wrong with it is told to who sends them, and
    /// so it gets to the operator. From a pod to which no Service leads nobody would hear it.
    pub fn unready(&self) -> Option<String> {
        let state = self.state();
        let looked = state.opened || state.failing.is_some() || self.began.elapsed() >= FIRST_LOOK;
        (!looked).then(|| self.unread())
    }

    fn unread(&self) -> String {
        format!("{} has not been read yet; send it again", self.table)
    }

    /// Why nothing is taken, whatever comes.
    pub fn unwell(&self) -> Option<String> {
        let mut state = self.state();
        self.tell(&mut state);
        let why = match (&state.failing, state.opened) {
            (None, false) => self.unread(),
            (Some(failing), false) => failing.why.clone(),
            (Some(failing), true) if failing.since.elapsed() >= PATIENCE => {
                let seconds = failing.since.elapsed().as_secs();
                format!("nothing could be appended for {seconds} s: {}", failing.why)
            }
            _ => return None,
        };
        Some(say::excerpt(&why, LONGEST))
    }

    /// A line where it is not as it was said last.
    fn tell(&self, state: &mut State) {
        let (table, State { failing, full, .. }) = (&self.table, &*state);
        let (now, text) = match (failing, full) {
            (None, _) if !state.opened => return,
            (Some(Failing { why, .. }), _) if !state.opened => {
                (Said::Closed, format!("nothing is taken until {table} can be read: {why}"))
            }
            (Some(Failing { since, why }), _) if since.elapsed() >= PATIENCE => {
                (Said::Failing, format!("nothing is taken, because nothing could be appended for a minute: {why}"))
            }
            (_, Some(why)) => (Said::Full, why.clone()),
            (Some(Failing { why, .. }), None) => (Said::Hiccup, format!("not appended, tried again: {why}")),
            (None, None) => (Said::Well, format!("events are taken for {table}")),
        };
        if state.said != now {
            state.said = now;
            say::line(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_before_the_table_was_read() {
        let health = Health::new("s3://lake/log");
        assert_eq!(health.unwell().unwrap(), "s3://lake/log has not been read yet; send it again");
        health.failed(Instant::now(), &"é".repeat(400));
        assert_eq!(health.unwell().unwrap().chars().count(), 300);
        health.opened();
        assert_eq!(health.unwell(), None);
    }

    #[test]
    fn events_may_come_when_the_table_was_looked_at_and_nobody_waits_for_ever() {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let (good, bad) = (Health::new("t"), Health::new("t"));
        assert!(good.unready().is_some() && bad.unready().is_some());
        good.opened();
        bad.failed(Instant::now(), "no such bucket");
        assert!(good.unready().is_none() && bad.unready().is_none());
        assert!(Health { began: ago(25), ..Health::new("t") }.unready().is_some());
        assert!(Health { began: ago(31), ..Health::new("t") }.unready().is_none());
    }

    #[test]
    fn a_hiccup_is_borne_and_a_failure_of_a_minute_is_not() {
        let health = Health::new("t");
        health.opened();
        let long_ago = Instant::now().checked_sub(Duration::from_secs(61)).unwrap();
        health.failed(Instant::now(), "gone");
        health.opened();
        assert_eq!(health.unwell(), None);
        // The first of several in a row counts.
        health.appended();
        health.failed(long_ago, "gone");
        health.failed(Instant::now(), "still gone");
        assert_eq!(health.unwell().unwrap(), "nothing could be appended for 61 s: still gone");
        health.appended();
        assert_eq!(health.unwell(), None);
    }

    #[test]
    fn a_full_spool_says_why_nothing_leaves_it() {
        let health = Health::new("t");
        health.opened();
        assert_eq!(health.full("the spool is full"), "the spool is full");
        health.failed(Instant::now(), "no such bucket");
        assert_eq!(health.full("the spool is full"), "the spool is full; nothing is appended: no such bucket");
        assert_eq!(health.unwell(), None, "a smaller one may have room");
    }
}
