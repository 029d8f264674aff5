//! When there is something to tell, and how long to wait until then.

use std::time::Duration;

use millrace_contract::{LookReport, LookTask};

use super::{Fault, Seen};

/// A fault that may pass is told when it came so many times in a row.
const TIMES: u32 = 3;
/// Between tries of what may pass, at first.
const SOON: Duration = Duration::from_secs(2);
/// A place that is known to fail is looked at ever more rarely, up to this, or to `poll` if that is longer.
const RARELY: Duration = Duration::from_mins(10);

pub(super) enum Next {
    Tell(LookReport),
    After(Duration),
}

/// What came of the looks so far.
pub(super) struct Wait<'a> {
    task: &'a LookTask,
    /// A new version, and since when it is there.
    settles: Option<(String, Duration)>,
    failures: u32,
}

impl<'a> Wait<'a> {
    pub(super) fn new(task: &'a LookTask) -> Self {
        Self { task, settles: None, failures: 0 }
    }

    /// How long to wait for the first look; `now` in seconds since 1970. No longer than `poll`, whatever the two clocks say.
    pub(super) fn first(&self, now: u64) -> Duration {
        let after = self.task.after.and_then(|after| u64::try_from(after).ok()).unwrap_or_default();
        Duration::from_secs(after.saturating_sub(now)).min(self.poll())
    }

    /// `now` is the time since the program began.
    pub(super) fn next(&mut self, looked: Result<Seen, Fault>, now: Duration) -> Next {
        match looked {
            Ok(seen) => {
                self.failures = 0;
                self.seen(seen, now)
            }
            Err(fault) => {
                self.failures = self.failures.saturating_add(1);
                self.failed(fault)
            }
        }
    }

    fn seen(&mut self, seen: Seen, now: Duration) -> Next {
        let known = self.task.known.as_ref();
        let news =
            seen.version.as_ref().filter(|version| known.and_then(|known| known.version.as_ref()) != Some(version));
        let Some(version) = news else {
            self.settles = None;
            // The first look, or the first one that goes well again.
            let tells = known.is_none_or(|known| known.error.is_some());
            return if tells { Next::Tell(seen.into()) } else { Next::After(self.poll()) };
        };
        let since = match &self.settles {
            Some((settles, since)) if settles == version => *since,
            _ => {
                self.settles = Some((version.clone(), now));
                now
            }
        };
        let settled = since + Duration::from_secs(self.task.settle);
        if now >= settled { Next::Tell(seen.into()) } else { Next::After(self.poll().min(settled.saturating_sub(now))) }
    }

    fn failed(&self, fault: Fault) -> Next {
        let known = self.task.known.as_ref().and_then(|known| known.error.as_deref());
        if known == Some(fault.reason) {
            let longer = self.poll().saturating_mul(1 << self.failures.min(10));
            return Next::After(longer.min(self.poll().max(RARELY)));
        }
        if !fault.passing || self.failures >= TIMES {
            return Next::Tell(LookReport::Failed(fault.into()));
        }
        Next::After(self.poll().min(SOON * self.failures))
    }

    fn poll(&self) -> Duration {
        Duration::from_secs(self.task.poll.max(1))
    }
}

#[cfg(test)]
#[allow(clippy::unnecessary_wraps, reason = "they are looks that go well")]
mod tests {
    use millrace_contract::{LookAccess, LookKnown};

    use super::*;

    fn task(known: Option<(Option<&str>, Option<&str>)>, settle: u64) -> LookTask {
        let known = known
            .map(|(version, error)| LookKnown { version: version.map(str::to_owned), error: error.map(str::to_owned) });
        LookTask { uri: "https://x/y".into(), poll: 60, settle, access: LookAccess::default(), known, after: None }
    }

    fn seen(version: &str) -> Result<Seen, Fault> {
        Ok(Seen::new(version.to_owned(), "1 file".to_owned()))
    }

    fn nothing() -> Result<Seen, Fault> {
        Ok(Seen::nothing())
    }

    /// What is told after these looks, each with its second; or the seconds to wait after the last one.
    fn after(task: &LookTask, looks: Vec<(u64, Result<Seen, Fault>)>) -> Result<String, u64> {
        let mut wait = Wait::new(task);
        let mut pause = 0;
        for (second, looked) in looks {
            match wait.next(looked, Duration::from_secs(second)) {
                Next::Tell(LookReport::Found { version, .. }) => return Ok(version.unwrap_or("nothing".into())),
                Next::Tell(LookReport::Failed(fault)) => return Ok(fault.reason),
                Next::After(wait) => pause = wait.as_secs(),
            }
        }
        Err(pause)
    }

    #[test]
    fn what_is_known_is_not_told_again_and_what_is_new_is() {
        let known = task(Some((Some("a"), None)), 0);
        assert_eq!(after(&known, vec![(0, seen("a"))]), Err(60));
        assert_eq!(after(&known, vec![(0, nothing())]), Err(60), "what is gone starts nothing");
        assert_eq!(after(&known, vec![(0, seen("a")), (60, seen("b"))]), Ok("b".into()));
        assert_eq!(after(&task(None, 0), vec![(0, seen("a"))]), Ok("a".into()));
        assert_eq!(after(&task(None, 30), vec![(0, nothing())]), Ok("nothing".into()));
        assert_eq!(after(&task(Some((None, None)), 0), vec![(0, nothing()), (60, seen("a"))]), Ok("a".into()));
    }

    #[test]
    fn a_new_version_counts_when_it_has_stayed_for_a_while() {
        let known = task(Some((Some("a"), None)), 90);
        assert_eq!(after(&known, vec![(0, seen("b"))]), Err(60));
        assert_eq!(after(&known, vec![(0, seen("b")), (60, seen("b"))]), Err(30));
        assert_eq!(after(&known, vec![(0, seen("b")), (60, seen("c")), (90, seen("c"))]), Err(60));
        assert_eq!(after(&known, vec![(0, seen("b")), (60, seen("b")), (90, seen("b"))]), Ok("b".into()));
        // It went back to what it was: nothing is new.
        assert_eq!(after(&known, vec![(0, seen("b")), (60, seen("a")), (120, seen("b"))]), Err(60));
    }

    #[test]
    fn a_fault_is_told_once_and_so_is_its_end() {
        let refused = || Err(Fault::lasting("Refused", "no"));
        let away = || Err(Fault::passing("Unreachable", "no"));
        let known = task(Some((Some("a"), None)), 0);
        assert_eq!(after(&known, vec![(0, refused())]), Ok("Refused".into()));
        assert_eq!(after(&known, vec![(0, away()), (2, away())]), Err(4));
        assert_eq!(after(&known, vec![(0, away()), (2, away()), (6, away())]), Ok("Unreachable".into()));
        let failing = task(Some((Some("a"), Some("Refused"))), 0);
        assert_eq!(after(&failing, vec![(0, refused())]), Err(120));
        assert_eq!(after(&failing, vec![(0, refused()); 5]), Err(600));
        assert_eq!(after(&failing, vec![(0, seen("a"))]), Ok("a".into()), "it goes well again");
        assert_eq!(after(&failing, vec![(0, nothing())]), Ok("nothing".into()));
    }

    #[test]
    fn after_a_look_that_found_something_the_next_pod_waits_for_poll_and_no_longer() {
        let first =
            |after, now| Wait::new(&LookTask { after, ..task(Some((Some("1"), None)), 0) }).first(now).as_secs();
        assert_eq!(first(None, 1000), 0);
        assert_eq!(first(Some(1040), 1000), 40);
        assert_eq!(first(Some(900), 1000), 0);
        assert_eq!(first(Some(-5), 1000), 0);
        // A clock that goes wrong.
        assert_eq!(first(Some(9000), 1000), 60);
    }
}
