//! How a failure is told: with its status, the step that it happened in, and what the model said.

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use millrace_routes::Outcome;
use serde_json::{Value, json};

use crate::body::ResponseBody;
use crate::refuse::Why;

/// Node and step in which a request failed.
pub const STEP: HeaderName = HeaderName::from_static("x-millrace-graph-step");
/// Those that failed and are left out.
pub const LEFT_OUT: HeaderName = HeaderName::from_static("x-millrace-graph-left-out");
/// Characters of a model's own words.
const WORDS: usize = 2000;

/// Why there is no answer.
#[derive(Clone, Debug)]
pub struct Failure {
    pub status: StatusCode,
    pub says: String,
    /// `node/step`.
    pub at: Option<String>,
    pub retry_after: Option<HeaderValue>,
}

impl Failure {
    pub fn new(status: StatusCode, says: impl Into<String>) -> Self {
        Self { status, says: says.into(), at: None, retry_after: None }
    }

    /// The router's own answer in place of a model's.
    pub fn of(why: Why) -> Self {
        let (status, says, retry) = why.told();
        Self { retry_after: retry.map(HeaderValue::from), ..Self::new(status, says) }
    }

    pub fn no_room() -> Self {
        let says = "the router holds too much of other requests to graphs";
        Self { retry_after: Some(HeaderValue::from(1)), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, says) }
    }

    pub fn late() -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "there is no answer in time")
    }

    /// What a model answered instead of a result.
    pub fn answered(status: StatusCode, body: &[u8], retry_after: Option<HeaderValue>) -> Self {
        let error: Option<Value> = serde_json::from_slice(body).ok();
        let own = error.as_ref().and_then(|error| error.get("error")).and_then(Value::as_str).map(str::to_owned);
        let words = own.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
        let words: String = words.trim().chars().take(WORDS).collect();
        // A redirection leads nowhere from here.
        let passed = status.is_client_error() || status.is_server_error();
        let status_out = if passed { status } else { StatusCode::BAD_GATEWAY };
        let says = if words.is_empty() || !passed { format!("it answered {}", status.as_u16()) } else { words };
        Self { retry_after, ..Self::new(status_out, says) }
    }

    /// Where it happened: the innermost step is kept.
    pub fn within(mut self, node: &str, step: &str, model: Option<&str>) -> Self {
        if self.at.is_none() {
            self.at = Some(format!("{node}/{step}"));
            let model = model.map_or_else(String::new, |model| format!(", model {model}"));
            self.says = format!("step {node}/{step}{model}: {}", self.says);
        }
        self
    }

    pub fn outcome(&self) -> Outcome {
        match self.status {
            StatusCode::GATEWAY_TIMEOUT => Outcome::Timeout,
            StatusCode::PAYLOAD_TOO_LARGE => Outcome::Refused,
            status if status.is_client_error() => Outcome::ClientError,
            _ => Outcome::ServerError,
        }
    }

    pub fn response(self) -> Response<ResponseBody> {
        let Self { status, says, at, retry_after } = self;
        let mut response = Response::new(ResponseBody::own(format!("{}\n", json!({ "error": says }))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(at) = at.and_then(|at| HeaderValue::from_str(&at).ok()) {
            headers.insert(STEP, at);
        }
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, seconds);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_where_and_what_the_model_said() {
        let failed = Failure::answered(StatusCode::BAD_REQUEST, br#"{"error": "no input x"}"#, None);
        let failed = failed.within("pick", "young", Some("m")).within("main", "pick", None);
        assert_eq!(
            (failed.says.as_str(), failed.at.as_deref()),
            ("step pick/young, model m: no input x", Some("pick/young"))
        );
        assert_eq!(failed.outcome(), Outcome::ClientError);
        let response = failed.response();
        assert_eq!(
            (response.status(), response.headers()[STEP].as_bytes()),
            (StatusCode::BAD_REQUEST, &b"pick/young"[..])
        );
        let plain = Failure::answered(StatusCode::INTERNAL_SERVER_ERROR, b"boom\n", None);
        assert_eq!((plain.says.as_str(), plain.outcome()), ("boom", Outcome::ServerError));
        let moved = Failure::answered(StatusCode::FOUND, b"there", None);
        assert_eq!((moved.status, moved.says.as_str()), (StatusCode::BAD_GATEWAY, "it answered 302"));
        assert_eq!(Failure::answered(StatusCode::CONFLICT, &[b'x'; 10_000], None).says.len(), WORDS);
    }
}
