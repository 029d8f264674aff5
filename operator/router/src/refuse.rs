//! The router's own answers: JSON as the Open Inference Protocol has it, or a status as gRPC has it.

use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use millrace_routes::Outcome;

use crate::body::ResponseBody;

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
}

struct Answer {
    status: StatusCode,
    /// A code of google.rpc.Code.
    grpc: &'static str,
    outcome: Outcome,
    says: &'static str,
    retry: bool,
}

impl Why {
    pub fn outcome(self) -> Outcome {
        self.answer().outcome
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
        if answer.retry {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    fn answer(self) -> Answer {
        let (status, grpc, outcome, says, retry) = match self {
            Self::NoRevision => (503, "14", Outcome::Overflow, "no revision of this model is served", true),
            Self::Connect => (405, "12", Outcome::Refused, "CONNECT is not served here", false),
            Self::TooLong => (413, "8", Outcome::Refused, "the request body is longer than this model takes", false),
            Self::TooManyHeaders => (431, "8", Outcome::Refused, "the request has more than 96 header lines", false),
            Self::Silent => (408, "4", Outcome::Refused, "the rest of the request body did not come in time", false),
            Self::Full => (503, "14", Outcome::Overflow, "the router has no room for more requests", true),
            Self::Overflow => (503, "14", Outcome::Overflow, "too many requests wait for this model", true),
            Self::NoPodInTime => (504, "4", Outcome::Timeout, "no pod of this model was free in time", true),
            Self::NoAnswerInTime => (504, "4", Outcome::Timeout, "the model did not begin to answer in time", false),
            Self::Unreachable => (502, "14", Outcome::Unreachable, "no pod of this model took the connection", true),
            Self::Broken => {
                (502, "14", Outcome::Broken, "the model's pod closed the connection without an answer", false)
            }
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        Answer { status, grpc, outcome, says, retry }
    }
}
