//! One request, from its arrival to its end, for the counts. Dropped before it ended, the client left.

use std::sync::Arc;
use std::time::Instant;

use hyper::{HeaderMap, StatusCode};
use millrace_routes::Outcome;

use crate::state::Revision;

#[derive(Debug)]
pub struct Flight {
    revision: Arc<Revision>,
    arrived: Instant,
    /// What a pod's answer counts as, once it is complete.
    answer: Option<Outcome>,
    end: Option<Outcome>,
}

impl Flight {
    pub fn begin(revision: Arc<Revision>, arrived: Instant) -> Self {
        revision.counters.came(arrived);
        Self { revision, arrived, answer: None, end: None }
    }

    /// It is another revision's from now on.
    pub fn move_to(&mut self, revision: Arc<Revision>) {
        self.revision.counters.moved(Instant::now());
        revision.counters.came(self.arrived);
        self.revision = revision;
    }

    /// The head of a pod's answer is there.
    pub fn answered(&mut self, outcome: Outcome) {
        self.revision.counters.first_byte.observe(self.arrived.elapsed());
        self.answer = Some(outcome);
    }

    /// Counts as this, whatever happens.
    pub fn ends_as(&mut self, outcome: Outcome) {
        self.end = Some(outcome);
    }

    /// The answer is complete.
    pub fn complete(mut self) {
        self.end = self.end.or(self.answer);
        self.revision.counters.duration.observe(self.arrived.elapsed());
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.revision.counters.went(Instant::now(), self.end.unwrap_or(Outcome::ClientLeft));
    }
}

/// What a pod's answer counts as, by its head.
pub fn outcome(status: StatusCode, headers: &HeaderMap, is_grpc: bool) -> Outcome {
    match status.as_u16() {
        200 if is_grpc => grpc_outcome(headers).unwrap_or(Outcome::Success),
        100..=199 => Outcome::Upgraded,
        200..=299 => Outcome::Success,
        300..=399 => Outcome::Redirection,
        400..=499 => Outcome::ClientError,
        _ => Outcome::ServerError,
    }
}

/// By `grpc-status`, which is in the trailers, or in the headers if there is no body. The classes are those of the HTTP codes that
/// grpc/doc/http-grpc-status-mapping.md and google.rpc.Code give.
pub fn grpc_outcome(headers: &HeaderMap) -> Option<Outcome> {
    let status: u8 = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    Some(match status {
        0 => Outcome::Success,
        // Cancelled.
        1 => Outcome::ClientLeft,
        // Invalid argument, not found, already exists, permission denied, resource exhausted, failed precondition, aborted, out of
        // range, unauthenticated.
        3 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 16 => Outcome::ClientError,
        // Unknown, deadline exceeded, unimplemented, internal, unavailable, data loss.
        _ => Outcome::ServerError,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_status_counts_as_its_class_and_only_for_grpc() {
        let with = |status: &str| HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]);
        assert_eq!(outcome(StatusCode::OK, &with("13"), true), Outcome::ServerError);
        assert_eq!(outcome(StatusCode::OK, &with("13"), false), Outcome::Success);
        assert_eq!(outcome(StatusCode::OK, &with("3"), true), Outcome::ClientError);
        assert_eq!(outcome(StatusCode::OK, &HeaderMap::new(), true), Outcome::Success);
        assert_eq!(outcome(StatusCode::SERVICE_UNAVAILABLE, &HeaderMap::new(), true), Outcome::ServerError);
        assert_eq!(outcome(StatusCode::NOT_FOUND, &HeaderMap::new(), false), Outcome::ClientError);
    }
}
