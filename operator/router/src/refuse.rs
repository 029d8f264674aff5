//! The router's own answers: JSON as the Open Inference Protocol has it, or a status as gRPC has it.

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use millrace_routes::Outcome;

use crate::body::ResponseBody;

/// Tells this process itself that a pod had the request: a 502 may say that none took it, too.
pub const BROKEN: HeaderName = HeaderName::from_static("millrace-broken");

/// Why the router answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    NoRevision,
    Connect,
    TooManyHeaders,
    TooLong,
    /// The rest of the request body did not come.
    Silent,
    /// No room for one more request of its connection.
    Full,
    Overflow,
    NoPodInTime,
    NoAnswerInTime,
    Unreachable,
    Broken,
    /// The connection is from before TLS was asked for.
    NotTls,
    /// Keys are missing, so nobody can be let in.
    Closed,
    NoKey,
    BadKey,
    NoToken,
    /// Why it lets nobody in.
    BadToken(&'static str),
    /// It is a graph.
    NoGrpc,
    /// After so many seconds a request may come again.
    TooFast(u32),
}

/// What is counted of refusals that no revision has to do with, and of bodies that are too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NoCredential,
    BadCredential,
    TooFast,
    BodyTooLong,
    Closed,
    NotTls,
    /// TLS could not begin.
    Handshake,
}

impl Reason {
    pub const ALL: [Self; 7] = [
        Self::NoCredential,
        Self::BadCredential,
        Self::TooFast,
        Self::BodyTooLong,
        Self::Closed,
        Self::NotTls,
        Self::Handshake,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCredential => "NoCredential",
            Self::BadCredential => "BadCredential",
            Self::TooFast => "TooFast",
            Self::BodyTooLong => "BodyTooLong",
            Self::Closed => "Closed",
            Self::NotTls => "NotTls",
            Self::Handshake => "Handshake",
        }
    }
}

struct Answer {
    status: StatusCode,
    /// A code of google.rpc.Code.
    grpc: &'static str,
    outcome: Outcome,
    says: &'static str,
    /// Seconds after which the caller may come again.
    retry: Option<u32>,
}

impl Why {
    pub fn outcome(self) -> Outcome {
        self.answer().outcome
    }

    /// Status, words, and seconds after which the caller may come again.
    pub fn told(self) -> (StatusCode, &'static str, Option<u32>) {
        let Answer { status, says, retry, grpc: _, outcome: _ } = self.answer();
        (status, says, retry)
    }

    pub fn response(self, is_grpc: bool) -> Response<ResponseBody> {
        let answer = self.answer();
        let mut response = if is_grpc {
            let mut response = Response::new(ResponseBody::own(""));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from_static(answer.grpc));
            headers.insert("grpc-message", HeaderValue::from_static(answer.says));
            response
        } else {
            let mut response = Response::new(ResponseBody::own(format!("{{\"error\":\"{}\"}}\n", answer.says)));
            *response.status_mut() = answer.status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        };
        if let Some(seconds) = answer.retry {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = self.challenge() {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }

    /// What a 401 says of how to come in (RFC 6750, 3).
    fn challenge(self) -> Option<&'static str> {
        match self {
            Self::NoKey | Self::NoToken => Some("Bearer"),
            Self::BadKey | Self::BadToken(_) => Some("Bearer error=\"invalid_token\""),
            _ => None,
        }
    }

    /// What it is counted as beside the outcome of a revision.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::NotTls => Some(Reason::NotTls),
            Self::Closed => Some(Reason::Closed),
            Self::NoKey | Self::NoToken => Some(Reason::NoCredential),
            Self::BadKey | Self::BadToken(_) => Some(Reason::BadCredential),
            Self::TooFast(_) => Some(Reason::TooFast),
            Self::TooLong => Some(Reason::BodyTooLong),
            Self::NoRevision
            | Self::Connect
            | Self::TooManyHeaders
            | Self::Silent
            | Self::Full
            | Self::Overflow
            | Self::NoPodInTime
            | Self::NoAnswerInTime
            | Self::Unreachable
            | Self::NoGrpc
            | Self::Broken => None,
        }
    }

    fn answer(self) -> Answer {
        let (status, grpc, outcome, says, retry) = match self {
            Self::NoRevision => (503, "14", Outcome::Overflow, "no revision of this model is served", Some(1)),
            Self::Connect => (405, "12", Outcome::Refused, "CONNECT is not served here", None),
            Self::TooLong => (413, "8", Outcome::Refused, "the request body is longer than this model takes", None),
            Self::TooManyHeaders => (431, "8", Outcome::Refused, "the request has more than 96 header lines", None),
            Self::Silent => (408, "4", Outcome::Refused, "the rest of the request body did not come in time", None),
            Self::Full => (503, "14", Outcome::Overflow, "the router has no room for more requests", Some(1)),
            Self::Overflow => (503, "14", Outcome::Overflow, "too many requests wait for this model", Some(1)),
            Self::NoPodInTime => (504, "4", Outcome::Timeout, "no pod of this model was free in time", Some(1)),
            Self::NoAnswerInTime => (504, "4", Outcome::Timeout, "the model did not begin to answer in time", None),
            Self::Unreachable => (502, "14", Outcome::Unreachable, "no pod of this model took the connection", Some(1)),
            Self::Broken => {
                (502, "14", Outcome::Broken, "the model's pod closed the connection without an answer", None)
            }
            Self::NoGrpc => (415, "12", Outcome::Refused, "a graph is asked by HTTP and JSON, not by gRPC", None),
            Self::NotTls => (403, "7", Outcome::Refused, "this model is reached by TLS only", None),
            Self::Closed => {
                (503, "14", Outcome::Refused, "the keys of this model are not there: its status says why", Some(5))
            }
            Self::NoKey => (401, "16", Outcome::Refused, "an API key is asked for, in x-api-key or as a Bearer", None),
            Self::BadKey => (401, "16", Outcome::Refused, "the API key is not one of this model", None),
            Self::NoToken => (401, "16", Outcome::Refused, "a token is asked for, in authorization as a Bearer", None),
            Self::BadToken(says) => (401, "16", Outcome::Refused, says, None),
            Self::TooFast(seconds) => (429, "8", Outcome::Refused, "too many requests for now", Some(seconds)),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        Answer { status, grpc, outcome, says, retry }
    }
}
