//! The door of a model: TLS, who is let in, and how fast. What it needs lies in mounted Secrets and ConfigMaps and is read again when it
//! changes, or is fetched from an issuer of tokens. Nothing that is missing or broken opens it, and nothing that lies there gets into a log, a
//! metric or an answer.

mod bearer;
mod certificate;
mod issuer;
mod issuers;
mod jwt;
mod keys;
mod keyset;
pub mod mounted;
mod part;
mod rate;
mod tokens;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use millrace_routes::{ApiKeys, Auth as Document, Security, SecurityStats, Source, Use};
use rustls::ServerConfig;

use crate::refuse::Why;
use crate::state::State;
use bearer::API_KEY;
use certificate::Certificate;
pub use issuer::Pace;
pub use issuers::{Issuers, follow as follow_issuers};
use keys::Keys;
use part::Part;
use rate::Limiter;
use tokens::Tokens;

/// How often mounted files are looked at. The kubelet brings them up to date within a minute or so.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const NO_SENSE: &str = "spec.security.auth makes no sense: it must have apiKeys, or jwt with the jwks of one ConfigMap, Secret or uri with https://";

/// What a document asks of a model's callers. It stays while the document says the same.
#[derive(Debug)]
pub struct Door {
    asked: Security,
    tls: Option<Arc<Part<Certificate>>>,
    auth: Option<Auth>,
    limiter: Option<Arc<Limiter>>,
    /// What is asked for is not mounted into this pod, so what was asked for before stays.
    waits: Vec<String>,
}

#[derive(Clone, Debug)]
enum Auth {
    Keys(Arc<Part<Keys>>),
    Tokens(Tokens),
    Nobody,
}

impl Door {
    /// The door that a document asks for. What is the same as before keeps what it has read and counted.
    pub fn next(
        before: Option<&Arc<Self>>,
        asked: Option<&Security>,
        mounted: &Path,
        issuers: &Issuers,
    ) -> Option<Arc<Self>> {
        let asked = asked?;
        if let Some(same) = before.filter(|before| before.asked == *asked) {
            return Some(same.clone());
        }
        let before = before.map(AsRef::as_ref);
        let mut waits = Vec::new();
        let tls = asked.tls.as_ref().map(|tls| {
            let old = before.and_then(|before| before.tls.as_ref());
            let new = Part::of(old, Source::Secret, &tls.secret, Use::Tls, mounted);
            kept(old, new, &mut waits, |part| part.absent())
        });
        let auth = asked.auth.as_ref().map(|auth| {
            let old = before.and_then(|before| before.auth.as_ref());
            kept(old, Auth::new(old, auth, mounted, issuers), &mut waits, Auth::absent)
        });
        let same_rate = before.filter(|before| before.asked.rate == asked.rate);
        let limiter = match same_rate {
            Some(before) => before.limiter.clone(),
            None => asked.rate.as_ref().map(|rate| Arc::new(Limiter::new(rate))),
        };
        Some(Arc::new(Self { asked: asked.clone(), tls, auth, limiter, waits }))
    }

    /// The port speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// What TLS begins with; `None` while there is no certificate.
    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        Some(self.tls.as_ref()?.now()?.config())
    }

    /// Whether a request may come in. Nothing is allocated where callers need not say who they are.
    pub fn admit(&self, headers: &HeaderMap, over_tls: bool) -> Result<(), Why> {
        // A connection from before TLS was asked for.
        if self.is_tls() && !over_tls {
            return Err(Why::NotTls);
        }
        match &self.auth {
            None => self.limit("", ""),
            Some(Auth::Keys(keys)) => {
                let keys = keys.now().ok_or(Why::Closed)?;
                self.limit("caller ", keys.find(bearer::key(headers)?).ok_or(Why::BadKey)?)
            }
            Some(Auth::Nobody) => Err(Why::Closed),
            Some(Auth::Tokens(tokens)) => self.limit("caller ", &tokens.subject(headers)?),
        }
    }

    /// Whether a graph of this name may ask for one of its callers now.
    pub fn admit_graph(&self, graph: &str) -> Result<(), Why> {
        self.limit("graph ", graph)
    }

    /// `kind` is before every name that is not "": a subject is whatever its issuer writes, and must not be able to be somebody else.
    fn limit(&self, kind: &str, name: &str) -> Result<(), Why> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        limiter.take(&format!("{kind}{name}"), Instant::now()).map_err(Why::TooFast)
    }

    /// What has let a caller in goes no further.
    pub fn strip(&self, headers: &mut HeaderMap) {
        match &self.auth {
            None | Some(Auth::Nobody) => {}
            Some(Auth::Keys(_)) => {
                headers.remove(API_KEY);
                headers.remove(AUTHORIZATION);
            }
            Some(Auth::Tokens(_)) => {
                headers.remove(AUTHORIZATION);
            }
        }
    }

    pub fn stats(&self) -> SecurityStats {
        let tls = self.tls.as_ref().map(|part| (part.problems(), part.now().is_none(), part.absent()));
        let auth = self.auth.as_ref().map(|auth| match auth {
            Auth::Keys(part) => (part.problems(), part.now().is_none(), part.absent()),
            Auth::Tokens(tokens) => {
                let (problems, closed) = tokens.state();
                (problems, closed, tokens.absent())
            }
            Auth::Nobody => (vec![NO_SENSE.to_owned()], true, None),
        });
        let (mut problems, mut closed, mut waits) = (self.waits.clone(), false, !self.waits.is_empty());
        for (said, missing, absent) in [tls, auth].into_iter().flatten() {
            problems.extend(said);
            closed |= missing;
            waits |= absent.is_some();
        }
        waits |= matches!(&self.auth, Some(Auth::Tokens(tokens)) if tokens.are_on_their_way());
        // What another router has to bring, or an issuer, is not in force here.
        let id = if waits { String::new() } else { self.asked.id.clone() };
        SecurityStats { id, closed, problems }
    }

    fn look(&self) {
        if let Some(part) = &self.tls {
            part.look();
        }
        match &self.auth {
            None | Some(Auth::Nobody) => {}
            Some(Auth::Keys(part)) => part.look(),
            Some(Auth::Tokens(tokens)) => tokens.look(),
        }
    }
}

impl Auth {
    fn new(old: Option<&Self>, asked: &Document, mounted: &Path, issuers: &Issuers) -> Self {
        match asked {
            Document::Nobody => Self::Nobody,
            Document::ApiKeys(ApiKeys { secret }) => {
                let old = old.and_then(|old| match old {
                    Self::Keys(part) => Some(part),
                    Self::Tokens(_) | Self::Nobody => None,
                });
                Self::Keys(Part::of(old, Source::Secret, secret, Use::ApiKeys, mounted))
            }
            Document::Jwt(rules) => {
                let old = old.and_then(|old| match old {
                    Self::Tokens(tokens) => Some(tokens),
                    Self::Keys(_) | Self::Nobody => None,
                });
                Self::Tokens(Tokens::new(old, rules, mounted, issuers))
            }
        }
    }

    fn absent(&self) -> Option<String> {
        match self {
            Self::Nobody => None,
            Self::Keys(part) => part.absent(),
            Self::Tokens(tokens) => tokens.absent(),
        }
    }
}

/// What was asked for before, where what is asked for now is not mounted into this pod: another router with it is on its way.
fn kept<T: Clone>(old: Option<&T>, new: T, waits: &mut Vec<String>, absent: fn(&T) -> Option<String>) -> T {
    match (absent(&new), old) {
        (Some(why), Some(old)) => {
            waits.push(why);
            old.clone()
        }
        _ => new,
    }
}

/// Looks at what is mounted for as long as the process lives.
pub async fn follow(state: Arc<State>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for model in state.models() {
            if let Some(door) = &model.policy().door {
                door.look();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use millrace_routes::{Entry, Jwks, Jwt, Per, Published, Rate, Tls};

    use super::*;
    use crate::dial::Reach;

    const KEY: &str = "0123456789abcdef0123";

    fn issuers(folder: &Path) -> Issuers {
        Issuers::new(Arc::new(Reach { mounted: folder.to_owned(), loopback: false }), Pace::default())
    }

    fn next(before: Option<&Arc<Door>>, asked: Option<&Security>, folder: &Path) -> Option<Arc<Door>> {
        Door::next(before, asked, folder, &issuers(folder))
    }

    fn keys(secret: &str) -> Security {
        let auth = Some(Document::ApiKeys(ApiKeys { secret: secret.to_owned() }));
        Security { id: secret.to_owned(), auth, ..Security::default() }
    }

    fn admits(door: &Door, key: &str) -> Result<(), Why> {
        let headers = HeaderMap::from_iter([(API_KEY, HeaderValue::from_str(key).unwrap())]);
        door.admit(&headers, false)
    }

    fn put(folder: &Path, name: &str, key: &str) {
        let folder = folder.join("secrets").join(name).join("keys");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("app"), key).unwrap();
    }

    #[test]
    fn what_is_not_mounted_here_leaves_the_keys_that_there_were_and_never_opens() {
        let folder = tempfile::tempdir().unwrap();
        let first = next(None, Some(&keys("a")), folder.path()).unwrap();
        assert_eq!(admits(&first, KEY), Err(Why::Closed));
        let stats = first.stats();
        assert!(stats.closed && stats.id.is_empty() && stats.problems[0].contains("Secret a"), "{stats:?}");
        put(folder.path(), "b", KEY);
        let second = next(Some(&first), Some(&keys("b")), folder.path()).unwrap();
        assert_eq!((admits(&second, KEY), admits(&second, "0123456789abcdef0124")), (Ok(()), Err(Why::BadKey)));
        assert_eq!(second.stats(), SecurityStats { id: "b".to_owned(), closed: false, problems: vec![] });
        let third = next(Some(&second), Some(&keys("c")), folder.path()).unwrap();
        assert_eq!(admits(&third, KEY), Ok(()));
        let stats = third.stats();
        assert!(!stats.closed && stats.id.is_empty() && stats.problems[0].contains("Secret c"), "{stats:?}");
        assert!(next(Some(&third), None, folder.path()).is_none());
    }

    #[test]
    fn another_entry_of_an_object_that_is_mounted_leaves_the_set_that_there_was() {
        let folder = tempfile::tempdir().unwrap();
        let set = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"}]}"#;
        let first = folder.path().join("configmaps/k/jwks/a.json");
        std::fs::create_dir_all(&first).unwrap();
        std::fs::write(first.join("a.json"), set).unwrap();
        let of = |key: &str| {
            let jwks = Jwks::Entry(Entry { of: Source::ConfigMap, name: "k".to_owned(), key: key.to_owned() });
            let jwt = Jwt { issuer: "i".to_owned(), audiences: vec!["a".to_owned()], jwks };
            Security { id: key.to_owned(), auth: Some(Document::Jwt(jwt)), ..Security::default() }
        };
        let before = next(None, Some(&of("a.json")), folder.path()).unwrap();
        assert_eq!(before.stats(), SecurityStats { id: "a.json".to_owned(), closed: false, problems: vec![] });
        let door = next(Some(&before), Some(&of("b.json")), folder.path()).unwrap();
        assert_eq!(door.admit(&HeaderMap::new(), false), Err(Why::NoToken), "it is not closed");
        let SecurityStats { id, closed, problems } = door.stats();
        assert!(id.is_empty() && !closed);
        assert_eq!(
            problems,
            ["ConfigMap k with its entry b.json is not mounted into this router: one that has it is on its way"]
        );
    }

    /// Tokens of an issuer that publishes its keys.
    fn published(id: &str) -> Security {
        let jwks = Jwks::Published(Published { uri: "https://issuer/keys".to_owned(), ca: None });
        let jwt = Jwt { issuer: "i".to_owned(), audiences: vec!["a".to_owned()], jwks };
        Security { id: id.to_owned(), auth: Some(Document::Jwt(jwt)), ..Security::default() }
    }

    #[test]
    fn before_the_first_keys_of_an_issuer_nobody_is_let_in() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "a", KEY);
        let issuers = issuers(folder.path());
        let open = next(None, Some(&Security::default()), folder.path()).unwrap();
        let locked = next(None, Some(&keys("a")), folder.path()).unwrap();
        assert_eq!((open.admit(&HeaderMap::new(), false), admits(&locked, KEY)), (Ok(()), Ok(())));
        let mut doors = Vec::new();
        for before in [None, Some(&open), Some(&locked)] {
            let door = Door::next(before, Some(&published("1")), folder.path(), &issuers).unwrap();
            assert_eq!(admits(&door, KEY), Err(Why::Closed));
            let stats = door.stats();
            assert!(stats.closed && stats.id.is_empty(), "it is on its way: {stats:?}");
            assert_eq!(stats.problems, ["https://issuer/keys: the keys have not been fetched yet"]);
            doors.push(door);
        }
        let asked = Published { uri: "https://issuer/keys".to_owned(), ca: None };
        issuers.of(&asked).take(Err("refused".to_owned()));
        for door in doors {
            assert_eq!(admits(&door, KEY), Err(Why::Closed));
            let problems = vec!["https://issuer/keys: refused".to_owned()];
            assert_eq!(door.stats(), SecurityStats { id: "1".to_owned(), closed: true, problems });
        }
    }

    #[test]
    fn auth_that_makes_no_sense_lets_nobody_in() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "a", KEY);
        let before = next(None, Some(&keys("a")), folder.path()).unwrap();
        let asked = Security { id: "1".to_owned(), auth: Some(Document::Nobody), ..Security::default() };
        let door = next(Some(&before), Some(&asked), folder.path()).unwrap();
        assert_eq!(admits(&door, KEY), Err(Why::Closed));
        assert_eq!(
            door.stats(),
            SecurityStats { id: "1".to_owned(), closed: true, problems: vec![NO_SENSE.to_owned()] }
        );
    }

    #[test]
    fn a_rate_goes_on_counting_where_other_settings_change() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "a", KEY);
        let rate = Some(Rate { per_second: 0.001, burst: 1, per: Per::Caller });
        let first = next(None, Some(&Security { rate: rate.clone(), ..keys("a") }), folder.path()).unwrap();
        assert_eq!(admits(&first, KEY), Ok(()));
        put(folder.path(), "b", KEY);
        let second = next(Some(&first), Some(&Security { rate, ..keys("b") }), folder.path()).unwrap();
        assert!(matches!(admits(&second, KEY), Err(Why::TooFast(990..=1000))), "{:?}", admits(&second, KEY));
    }

    #[test]
    fn a_caller_with_the_name_of_a_graph_is_not_the_graph() {
        let folder = tempfile::tempdir().unwrap();
        let rate = Some(Rate { per_second: 0.001, burst: 1, per: Per::Caller });
        let door = next(None, Some(&Security { rate, ..Security::default() }), folder.path()).unwrap();
        for name in ["g", "graph g", "caller g", ""] {
            assert_eq!((door.admit_graph(name), door.limit("caller ", name)), (Ok(()), Ok(())), "{name}");
        }
        assert_eq!(door.admit(&HeaderMap::new(), false), Ok(()), "nor is nobody");
        assert!(matches!(
            (door.admit_graph("g"), door.limit("caller ", "g")),
            (Err(Why::TooFast(_)), Err(Why::TooFast(_)))
        ));
    }

    #[test]
    fn a_connection_from_before_tls_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let asked = Security { tls: Some(Tls { secret: "t".to_owned() }), ..Security::default() };
        let door = next(None, Some(&asked), folder.path()).unwrap();
        assert_eq!(door.admit(&HeaderMap::new(), false), Err(Why::NotTls));
        assert!(door.tls().is_none() && door.stats().closed);
    }
}
