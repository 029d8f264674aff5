//! Callers that show a token: what it must say, and where the keys are from that it is checked with.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::HeaderMap;
use millrace_routes::{Entry, Jwks, Jwt, Use};

use super::bearer;
use super::issuer::Issuer;
use super::issuers::Issuers;
use super::jwt::{self, Bad};
use super::keyset::KeySet;
use super::part::Part;
use crate::refuse::Why;

#[derive(Clone, Debug)]
pub struct Tokens {
    rules: Arc<Jwt>,
    keys: Keys,
}

#[derive(Clone, Debug)]
enum Keys {
    Mounted(Arc<Part<KeySet>>),
    Published(Arc<Issuer>),
}

impl Tokens {
    /// What is the same as before keeps what it has read.
    pub fn new(old: Option<&Self>, rules: &Jwt, mounted: &Path, issuers: &Issuers) -> Self {
        let keys = match &rules.jwks {
            Jwks::Entry(Entry { of, name, key }) => {
                let old = old.and_then(|old| match &old.keys {
                    Keys::Mounted(part) => Some(part),
                    Keys::Published(_) => None,
                });
                Keys::Mounted(Part::of(old, *of, name, Use::Jwks(key), mounted))
            }
            Jwks::Published(published) => Keys::Published(issuers.of(published)),
        };
        Self { rules: Arc::new(rules.clone()), keys }
    }

    /// Whom the token is of. Nothing is waited for: who comes with a key that is not there yet is refused, and it is fetched for later ones.
    pub fn subject(&self, headers: &HeaderMap) -> Result<String, Why> {
        let keys = self.keys.now().ok_or(Why::Closed)?;
        let token = bearer::token(headers)?;
        jwt::subject(token, &self.rules, &keys, SystemTime::now()).map_err(|bad| {
            if let (Bad::UnknownKey, Keys::Published(issuer)) = (bad, &self.keys) {
                issuer.want();
            }
            Why::BadToken(bad.says())
        })
    }

    /// What is wrong with the keys, and whether there are none.
    pub fn state(&self) -> (Vec<String>, bool) {
        let problems = match &self.keys {
            Keys::Mounted(part) => part.problems(),
            Keys::Published(issuer) => issuer.problems(),
        };
        (problems, self.keys.now().is_none())
    }

    pub fn absent(&self) -> Option<String> {
        match &self.keys {
            Keys::Mounted(part) => part.absent(),
            Keys::Published(issuer) => issuer.absent(),
        }
    }

    /// They are being fetched for the first time.
    pub fn are_on_their_way(&self) -> bool {
        matches!(&self.keys, Keys::Published(issuer) if !issuer.is_tried())
    }

    pub fn look(&self) {
        match &self.keys {
            Keys::Mounted(part) => part.look(),
            Keys::Published(_) => {}
        }
    }
}

impl Keys {
    fn now(&self) -> Option<Arc<KeySet>> {
        match self {
            Self::Mounted(part) => part.now(),
            Self::Published(issuer) => issuer.now(),
        }
    }
}
