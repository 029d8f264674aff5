//! Which model a revision serves: a registered version, or what `spec.model.uri` names. People, servers and messages call both a version.

use std::collections::BTreeMap;
use std::fmt;

use super::{DIGEST_ANNOTATION, URI_ANNOTATION, VERSION_ANNOTATION};
use crate::api::ServedArtifact;

/// Hex characters of a digest that tell the models of one ModelDeployment apart.
const SHORT: usize = 12;

/// What is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    Registered(i64),
    Unregistered(ServedArtifact),
}

impl Version {
    /// As a status has it.
    #[must_use]
    pub fn of(number: Option<i64>, artifact: Option<&ServedArtifact>) -> Option<Self> {
        number.map(Self::Registered).or_else(|| artifact.cloned().map(Self::Unregistered))
    }

    /// As a status has the number of a registered one.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Registered(number) => Some(*number),
            Self::Unregistered(_) => None,
        }
    }

    /// As a status has the other one.
    #[must_use]
    pub fn artifact(&self) -> Option<&ServedArtifact> {
        match self {
            Self::Registered(_) => None,
            Self::Unregistered(artifact) => Some(artifact),
        }
    }

    /// As the annotations of a revision's Deployment have it.
    pub(super) fn noted(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let noted = |key: &str| annotations.get(key).cloned();
        let artifact = || Some(ServedArtifact { uri: noted(URI_ANNOTATION)?, digest: noted(DIGEST_ANNOTATION)? });
        let number = noted(VERSION_ANNOTATION).and_then(|number| number.parse().ok());
        Self::of(number, artifact().as_ref())
    }

    /// What is noted there.
    pub(super) fn annotations(&self) -> BTreeMap<String, String> {
        match self {
            Self::Registered(number) => BTreeMap::from([(VERSION_ANNOTATION.to_owned(), number.to_string())]),
            Self::Unregistered(ServedArtifact { uri, digest }) => BTreeMap::from([
                (URI_ANNOTATION.to_owned(), uri.clone()),
                (DIGEST_ANNOTATION.to_owned(), digest.clone()),
            ]),
        }
    }
}

/// As its server calls it: the number, or the beginning of the digest.
impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered(number) => number.fmt(out),
            Self::Unregistered(ServedArtifact { digest, .. }) => {
                let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
                hex.get(..SHORT).unwrap_or(hex).fmt(out)
            }
        }
    }
}
