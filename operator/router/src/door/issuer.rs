//! The keys of an issuer that publishes them: fetched, fetched again, and kept for a while where it does not answer.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use millrace_routes::{Entry, Published, Use};

use super::keyset::KeySet;
use super::part::{Reading, say};
use crate::state::{lock, read, write};

/// Characters of what is said of a failure.
const LONGEST: usize = 300;

/// When keys are fetched, and how long they are good.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// While all is well. What the answer says of caches does not count: an issuer's mistake there must not stop a rotation.
    pub every: Duration,
    /// After a failure; and no sooner for a token that names a key which is not there: whoever reaches the model may send one.
    pub again: Duration,
    /// While there are no keys, and nobody is let in.
    pub closed: Duration,
    /// The last keys are good for so long: an issuer that nobody reaches cannot take one back. Few tokens live longer than a day, and it makes
    /// no new ones meanwhile.
    pub keep: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            every: Duration::from_mins(5),
            again: Duration::from_secs(30),
            closed: Duration::from_secs(5),
            keep: Duration::from_hours(24),
        }
    }
}

#[derive(Debug)]
pub struct Issuer {
    pub published: Published,
    pace: Pace,
    /// Its certificate authority is not mounted into this pod.
    absent: Option<String>,
    now: RwLock<Option<Arc<KeySet>>>,
    problems: RwLock<Vec<String>>,
    /// A token has named a key that is not in the set.
    wanted: AtomicBool,
    times: Mutex<Times>,
}

#[derive(Debug, Default)]
struct Times {
    asking: bool,
    /// When the last question was asked.
    asked: Option<Instant>,
    /// When that of the last good answer was.
    good: Option<Instant>,
    /// There was an answer, or none in time.
    tried: bool,
}

impl Issuer {
    pub fn new(published: &Published, mounted: &Path, pace: Pace) -> Self {
        let absent = published.ca.as_ref().and_then(|Entry { of, name, key }| {
            let there = mounted.join(of.folder(name, Use::Issuer(key))).is_dir();
            let object = of.as_str();
            let says = format!(
                "{object} {name} with its entry {key} is not mounted into this router: one that has it is on its way"
            );
            (!there).then_some(says)
        });
        Self {
            published: published.clone(),
            pace,
            problems: RwLock::new(vec![format!("{}: the keys have not been fetched yet", published.uri)]),
            absent,
            now: RwLock::default(),
            wanted: AtomicBool::default(),
            times: Mutex::default(),
        }
    }

    pub fn now(&self) -> Option<Arc<KeySet>> {
        read(&self.now).clone()
    }

    pub fn problems(&self) -> Vec<String> {
        read(&self.problems).clone()
    }

    pub fn absent(&self) -> Option<String> {
        self.absent.clone()
    }

    /// It has been asked for its keys, with or without an answer.
    pub fn is_tried(&self) -> bool {
        lock(&self.times).tried
    }

    /// Somebody has shown a token that names a key which is not there. The issuer may have a new one.
    pub fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Whether it is to be asked now. Keys that have been kept for too long go.
    pub fn is_due(&self, now: Instant) -> bool {
        let mut times = lock(&self.times);
        if times.good.is_some_and(|good| good + self.pace.keep <= now) {
            times.good = None;
            *write(&self.now) = None;
            let hours = self.pace.keep.as_secs() / 3600;
            let mut problems = self.problems();
            problems.insert(
                0,
                format!("{}: no keys for {hours} h, so the last ones are not good any more", self.published.uri),
            );
            say(&self.problems, problems);
        }
        let pause = match times.good {
            None => self.pace.closed,
            Some(good) if Some(good) != times.asked || self.wanted.load(Ordering::Relaxed) => self.pace.again,
            Some(_) => self.pace.every,
        };
        let due = !times.asking && times.asked.is_none_or(|asked| asked + pause <= now);
        if due {
            (times.asking, times.asked) = (true, Some(now));
            self.wanted.store(false, Ordering::Relaxed);
        }
        due
    }

    /// What it has answered to the question that was asked last.
    pub fn take(&self, answer: Result<&[u8], String>) {
        let uri = &self.published.uri;
        let read = match answer {
            Ok(body) => KeySet::parse(body, uri),
            Err(why) => Reading::Keep(vec![plain(&format!("{uri}: {why}"))]),
        };
        let mut times = lock(&self.times);
        (times.asking, times.tried) = (false, true);
        let problems = match read {
            Reading::Use(keys, problems) => {
                times.good = times.asked;
                let mut now = write(&self.now);
                if now.as_deref() != Some(&keys) {
                    tracing::info!(uri, "keys taken");
                    *now = Some(Arc::new(keys));
                }
                problems
            }
            Reading::Keep(problems) => problems,
            Reading::Close(problems) => {
                times.good = None;
                *write(&self.now) = None;
                problems
            }
        };
        say(&self.problems, problems);
    }
}

/// Bounded, and in one line: it becomes part of a condition.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(Published::LONGEST + LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use millrace_routes::Source;

    use super::*;

    const SET: &str = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE", "kid": "1"}]}"#;

    fn issuer() -> Issuer {
        let published = Published { uri: "https://issuer/keys".to_owned(), ca: None };
        Issuer::new(&published, Path::new("/nowhere"), Pace::default())
    }

    fn refused() -> Result<&'static [u8], String> {
        Err("refused\nby all".to_owned())
    }

    #[test]
    fn keys_are_fetched_every_five_minutes_and_never_twice_at_once() {
        let (issuer, began) = (issuer(), Instant::now());
        let due = |seconds: u64| issuer.is_due(began + Duration::from_secs(seconds));
        assert!(!issuer.is_tried() && issuer.now().is_none());
        assert_eq!(issuer.problems(), ["https://issuer/keys: the keys have not been fetched yet"]);
        assert_eq!([due(0), due(1), due(600)], [true, false, false], "it has not answered yet");
        issuer.take(Ok(SET.as_bytes()));
        assert!(issuer.is_tried() && issuer.now().unwrap().knows("1") && issuer.problems().is_empty());
        assert_eq!([due(299), due(300), due(301)], [false, true, false]);
    }

    #[test]
    fn a_key_that_is_not_there_is_fetched_soon_and_at_most_every_thirty_seconds() {
        let (issuer, began) = (issuer(), Instant::now());
        let due = |seconds: u64| issuer.is_due(began + Duration::from_secs(seconds));
        assert!(due(0));
        issuer.take(Ok(SET.as_bytes()));
        issuer.want();
        assert_eq!([due(1), due(29), due(30)], [false, false, true]);
        // Whoever asks for it again and again gets no more.
        for second in 31..60 {
            issuer.want();
            assert!(!due(second), "{second}");
        }
        issuer.take(Ok(SET.as_bytes()));
        assert!(due(60));
        issuer.take(Ok(SET.as_bytes()));
        assert_eq!([due(90), due(359), due(360)], [false, false, true], "nobody has asked for another one");
    }

    #[test]
    fn what_is_no_answer_leaves_the_keys_for_a_day() {
        let (issuer, began) = (issuer(), Instant::now());
        let due = |seconds: u64| issuer.is_due(began + Duration::from_secs(seconds));
        let day = 24 * 3600;
        assert!(due(0));
        issuer.take(Ok(SET.as_bytes()));
        for (second, answer, says) in [
            (300, refused(), "https://issuer/keys: refused by all"),
            (330, Ok(&b"<html>s3cret"[..]), "https://issuer/keys is no JWKS (line 1, column 1)"),
            (day - 1, refused(), "https://issuer/keys: refused by all"),
        ] {
            assert!(due(second), "{second}");
            issuer.take(answer);
            assert_eq!((issuer.now().is_some(), issuer.problems()), (true, vec![says.to_owned()]));
        }
        assert!(!due(day));
        assert!(issuer.now().is_none());
        let gone = "https://issuer/keys: no keys for 24 h, so the last ones are not good any more";
        assert_eq!(issuer.problems(), [gone, "https://issuer/keys: refused by all"]);
        assert!(due(day + 4));
        issuer.take(Ok(SET.as_bytes()));
        assert!(issuer.now().is_some() && issuer.problems().is_empty());
    }

    #[test]
    fn before_the_first_keys_it_is_tried_often_and_a_set_without_a_key_closes() {
        let (issuer, began) = (issuer(), Instant::now());
        let due = |seconds: u64| issuer.is_due(began + Duration::from_secs(seconds));
        assert!(due(0));
        issuer.take(refused());
        assert!(issuer.now().is_none() && issuer.is_tried());
        assert_eq!([due(4), due(5)], [false, true]);
        issuer.take(Ok(SET.as_bytes()));
        assert!(issuer.now().is_some());
        assert!(due(305));
        issuer.take(Ok(br#"{"keys": []}"#));
        assert!(issuer.now().is_none() && issuer.problems()[0].starts_with("https://issuer/keys has no public key"));
        assert_eq!([due(309), due(310)], [false, true]);
    }

    #[test]
    fn what_is_said_of_a_failure_is_bounded() {
        let issuer = issuer();
        issuer.take(Err("long\n".repeat(1000)));
        let said = issuer.problems().remove(0);
        assert!(said.chars().count() == Published::LONGEST + LONGEST && !said.contains('\n'), "{said}");
    }

    #[test]
    fn an_authority_that_is_not_mounted_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Entry { of: Source::ConfigMap, name: "ca".to_owned(), key: "ca.crt".to_owned() };
        let published = Published { uri: "https://issuer/keys".to_owned(), ca: Some(ca) };
        let of = || Issuer::new(&published, folder.path(), Pace::default());
        let says = "ConfigMap ca with its entry ca.crt is not mounted into this router: one that has it is on its way";
        assert_eq!(of().absent().as_deref(), Some(says));
        std::fs::create_dir_all(folder.path().join("configmaps/ca/issuer/ca.crt")).unwrap();
        assert_eq!(of().absent(), None);
    }
}
