//! What an answer to a message means.

use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::HeaderValue;

use super::way::{Said, Unsaid};

/// Before the model is asked again: twice as long each time.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);
/// What a model says of a message with 500 it may say for other reasons: so often it is asked.
pub const TRIES: u32 = 5;
/// Bytes of an answer that a dead letter has.
const EXCERPT: usize = 1024;

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Answer {
        body: Bytes,
        content_type: Option<HeaderValue>,
    },
    /// The model does not take this message.
    Refused(Refusal),
    /// Nothing was said of the message: it is asked again, for as long as it takes.
    Later(String),
    /// The model failed over it: it is asked some times.
    Failed(Refusal),
    /// A server had it, and ended before its answer did.
    Ended(Refusal),
    /// There is no room for so many bytes yet.
    NoRoom(usize),
}

/// Who says that a message gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By its answer.
    Model,
    /// By its end.
    Server,
    /// Who were to take the answer.
    Brokers,
}

/// Why a message gets no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub by: By,
    pub status: Option<u16>,
    /// Without anything of the answer, which may repeat the message.
    pub says: String,
    /// The beginning of the answer, for the dead letter alone.
    pub excerpt: Bytes,
}

pub fn judge(said: Result<Said, Unsaid>, path: &str) -> Verdict {
    let by = By::Model;
    let Said { status, content_type, body } = match said {
        Ok(said) => said,
        Err(Unsaid::Nobody(why)) => return Verdict::Later(why),
        Err(Unsaid::NoRoom(bytes)) => return Verdict::NoRoom(bytes),
        Err(Unsaid::Broke) => {
            let says = "a server broke off without an answer, as one that ends over it does".to_owned();
            return Verdict::Ended(Refusal { by: By::Server, status: None, says, excerpt: Bytes::new() });
        }
    };
    let Some(body) = body else {
        let says = "the answer is too long".to_owned();
        return Verdict::Refused(Refusal { by, status: Some(status.as_u16()), says, excerpt: Bytes::new() });
    };
    if status.is_success() {
        return Verdict::Answer { body, content_type };
    }
    let refusal = || {
        let says = format!("{path} answers {}", status.as_u16());
        Refusal { by, status: Some(status.as_u16()), says, excerpt: body.slice(..body.len().min(EXCERPT)) }
    };
    match status {
        // Nobody is there to answer, or too many ask.
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Verdict::Later(refusal().says),
        // It is so with every message: where it asks is wrong, and not what.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            Verdict::Later(format!("{}: is spec.stream.path right?", refusal().says))
        }
        _ if status.is_client_error() => Verdict::Refused(refusal()),
        _ if status.is_server_error() => Verdict::Failed(refusal()),
        _ => Verdict::Later(format!("{}, which is no answer: is spec.stream.path right?", refusal().says)),
    }
}

/// After so many tries.
pub fn pause(tries: u32) -> Duration {
    FIRST.saturating_mul(1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16) -> Verdict {
        let status = StatusCode::from_u16(status).unwrap();
        judge(Ok(Said { status, content_type: None, body: Some(Bytes::from_static(b"secret")) }), "/p")
    }

    #[test]
    fn what_is_said_of_a_message_is_told_from_what_is_said_of_the_model() {
        assert!(matches!(said(200), Verdict::Answer { .. }));
        for refused in [400, 413, 415, 422] {
            assert!(matches!(said(refused), Verdict::Refused(_)), "{refused}");
        }
        for later in [302, 401, 403, 404, 408, 429, 502, 503, 504] {
            assert!(matches!(said(later), Verdict::Later(_)), "{later}");
        }
        assert!(matches!(said(500), Verdict::Failed(_)));
        assert_eq!(judge(Err(Unsaid::Nobody("gone".to_owned())), "/p"), Verdict::Later("gone".to_owned()));
        assert!(matches!(judge(Err(Unsaid::Broke), "/p"), Verdict::Ended(_)));
        let status = StatusCode::OK;
        assert!(matches!(judge(Ok(Said { status, content_type: None, body: None }), "/p"), Verdict::Refused(_)));
    }

    #[test]
    fn nothing_of_the_answer_is_in_what_people_read() {
        let Verdict::Refused(refusal) = said(400) else { panic!("it is refused") };
        assert_eq!((refusal.says.as_str(), refusal.excerpt.as_ref()), ("/p answers 400", b"secret".as_slice()));
        let Verdict::Later(says) = said(404) else { panic!("it is asked again") };
        assert_eq!(says, "/p answers 404: is spec.stream.path right?");
    }

    #[test]
    fn pauses_grow_up_to_half_a_minute() {
        let pauses: Vec<u128> = [1, 2, 3, 8, 9, 1000].into_iter().map(|tries| pause(tries).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 25_600, 30_000, 30_000]);
    }
}
