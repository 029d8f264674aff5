//! What a store's refusal means: nobody can read a page of XML in a status.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use millrace_files::short;
use thiserror::Error;

/// A longer answer is cut.
const LONGEST: usize = 300;

#[derive(Debug, Error)]
pub enum RemoteError {
    #[error("{uri} cannot be used: {message}")]
    Settings { uri: String, message: String },
    #[error("there is no {uri}")]
    NotFound { uri: String },
    /// Somebody else has written it before.
    #[error("{uri} is there already")]
    Exists { uri: String },
    #[error("{uri} cannot be {}: {answer}; {remedy}", doing.word())]
    Refused { uri: String, doing: Doing, answer: String, remedy: &'static str },
    #[error("{uri} cannot be {}: the store does not answer as it should: {answer}; look at the store's endpoint and at the network", doing.word())]
    Unreachable { uri: String, doing: Doing, answer: String },
    #[error("{uri} cannot be used: {why}")]
    Bad { uri: String, why: String },
    #[error("failed to use {}: {source}; {}", short(path), disk(source))]
    Disk { path: PathBuf, source: io::Error },
    #[error("stopped while files were moved between the pod and the store")]
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Read,
    Write,
}

impl Doing {
    fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "written",
        }
    }
}

fn disk(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the node's disk is full: let the stage ask for as much `ephemeral-storage` as its inputs and outputs need"
        }
        _ => "inputs and outputs lie on the node's disk while the stage runs",
    }
}

const NO_BUCKET: &str = "correct the bucket, or make it: Millrace makes none";
const ACCESS: &str = "let the store's Secret have valid credentials that may read, write and list below the prefix";
const AUTHORITY: &str = "put the certificate of the store's authority into its Secret as ca.crt";
const SETTINGS: &str = "look at the store's endpoint, region and bucket";

/// What an answer of the store means.
pub fn of(uri: &str, doing: Doing, error: &object_store::Error) -> RemoteError {
    let uri = uri.to_owned();
    let all = text(error);
    let refused = |remedy| RemoteError::Refused { uri: uri.clone(), doing, answer: answer(&all), remedy };
    match error {
        _ if all.contains("NoSuchBucket") || all.contains("ContainerNotFound") => refused(NO_BUCKET),
        object_store::Error::NotFound { .. } => RemoteError::NotFound { uri },
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
            RemoteError::Exists { uri }
        }
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => refused(ACCESS),
        _ if all.contains("invalid peer certificate") => refused(AUTHORITY),
        _ => match status(&all) {
            Some(401 | 403) => refused(ACCESS),
            // Too slow, too many: both pass.
            Some(408 | 429) | None => RemoteError::Unreachable { uri, doing, answer: answer(&all) },
            Some(400..=499) => refused(SETTINGS),
            Some(_) => RemoteError::Unreachable { uri, doing, answer: answer(&all) },
        },
    }
}

/// The error with its causes in one line, each once.
pub fn text(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(found) = cause {
        let words = found.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = found.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The status of the server's answer, if it gave one.
fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// Code and words of an answer in XML; else the text, cut.
fn answer(text: &str) -> String {
    let tag = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once('<').map(|(inside, _)| inside)
    };
    let said = match (tag("Code"), tag("Message")) {
        (Some(code), Some(message)) => {
            // Azure says in each answer which request it was and when: the same trouble would be a new message every time.
            let message = message.split_once("RequestId:").map_or(message, |(said, _)| said);
            format!("{code}: {message}")
        }
        (Some(code), None) => code.to_owned(),
        (None, _) => {
            // What stands before the cause says nothing: which request, how often it was tried.
            let cause = text.rfind(" - ").map_or(text, |at| &text[at + 3..]);
            cause.to_owned()
        }
    };
    let end = said.floor_char_boundary(LONGEST);
    said[..end].trim_end_matches(['.', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn what_a_store_answers_is_told_with_what_to_do() {
        for (answer, says) in [
            (
                "Error performing PUT http://s/b/k in 1ms - Server returned non-2xx status code: 400 Bad Request: <Error><Code>AuthorizationHeaderMalformed</Code><Message>the region is wrong.</Message></Error>",
                "s3://b/k cannot be written: AuthorizationHeaderMalformed: the region is wrong; look at the store's endpoint, region and bucket",
            ),
            (
                "Server returned non-2xx status code: 404 Not Found: <Error><Code>NoSuchBucket</Code><Message>no such bucket</Message></Error>",
                "s3://b/k cannot be written: NoSuchBucket: no such bucket; correct the bucket, or make it: Millrace makes none",
            ),
            (
                "Error performing PUT http://s/b/k in 60s, after 9 retries - HTTP error: error sending request: connection refused",
                "s3://b/k cannot be written: the store does not answer as it should: HTTP error: error sending request: connection refused; look at",
            ),
            (
                "Server returned non-2xx status code: 404 The specified container does not exist.: <Error><Code>ContainerNotFound</Code><Message>The specified container does not exist. RequestId:9f3c Time:2026-11-23T08:18:18.473Z</Message></Error>",
                "s3://b/k cannot be written: ContainerNotFound: The specified container does not exist; correct the bucket, or make it: Millrace makes none",
            ),
            ("Server returned non-2xx status code: 503 Slow Down: ", "the store does not answer as it should"),
            ("error: invalid peer certificate: UnknownIssuer", "into its Secret as ca.crt"),
        ] {
            let found = of("s3://b/k", Doing::Write, &generic(answer)).to_string();
            assert!(found.contains(says), "{found}");
        }
    }

    #[test]
    fn a_page_of_an_answer_is_cut() {
        let found = of("s3://b/k", Doing::Read, &generic(&"ä".repeat(5000))).to_string();
        assert!(found.len() < 500, "{found}");
    }
}
