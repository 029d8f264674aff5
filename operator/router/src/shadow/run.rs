//! Sends copies to the shadow and compares its answers, on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Limited};
use hyper::Request;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use millrace_routes::{Outcome, Protocol};
use tokio::sync::{Semaphore, mpsc};

use super::compare::{Answer, agree};
use super::tee::Copied;
use crate::body::RequestBody;
use crate::flight::{self, Flight};
use crate::places::{self, Wanted};
use crate::proxy::address;
use crate::state::{Lease, State};
use crate::upstream;

/// Copies that are sent at once.
const AT_ONCE: usize = 64;
/// A shadow that takes longer has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The server can tell copies from requests.
const MARK: &str = "x-millrace-shadow";

/// `slot` is the pool of this thread.
pub async fn run(mut copies: mpsc::Receiver<Copied>, state: Arc<State>, slot: usize) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(copied) = copies.recv().await {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let state = state.clone();
        tokio::spawn(async move {
            one(copied, &state, slot).await;
            drop(place);
        });
    }
}

/// A place without waiting and without a start from zero: a shadow is not worth it.
async fn place(copied: &Copied, state: &State, slot: usize) -> Option<Lease> {
    let Copied { model, revision, .. } = copied;
    let keeper = if revision.is_bounded() { state.keeper(&model.name, &revision.name) } else { None };
    if let Some(keeper) = keeper {
        let wanted = Wanted { model: &model.name, revision, deadline: None, failed: None };
        if let Some(given) = places::ask(&keeper, slot, &wanted).await {
            return given.ok().map(|(lease, _)| lease);
        }
    }
    revision.try_acquire()
}

async fn one(mut copied: Copied, state: &State, slot: usize) {
    let counters = &copied.revision.counters;
    let Some(lease) = place(&copied, state, slot).await else {
        counters.dropped.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let mut flight = Flight::begin(copied.revision.clone(), Instant::now());
    copied.parts.headers.insert(MARK, HeaderValue::from_static("true"));
    let is_grpc = copied.parts.headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
    let http2 = match copied.revision.settings().protocol {
        Protocol::Auto => is_grpc,
        Protocol::Http1 => false,
        Protocol::Http2 => true,
    };
    let mut request = Request::from_parts(copied.parts.clone(), RequestBody::copy(std::mem::take(&mut copied.request)));
    address(&mut request, http2);
    let exchange = async {
        let mut taken = upstream::take(&lease.pod, slot, http2).await.ok()?;
        let response = taken.send(request).await.ok()?;
        let (head, body) = response.into_parts();
        flight.answered(flight::outcome(head.status, &head.headers, is_grpc));
        // What is longer than that differs from an answer that was not.
        let body = Limited::new(body, copied.body_bytes).collect().await.ok()?;
        let trailers = body.trailers().cloned();
        taken.give_back(&lease.pod);
        Some((head.status, head.headers, body.to_bytes(), trailers))
    };
    match tokio::time::timeout(ANSWER_WITHIN, exchange).await {
        Ok(Some((status, headers, body, trailers))) => {
            if is_grpc && let Some(outcome) = trailers.as_ref().and_then(flight::grpc_outcome) {
                flight.ends_as(outcome);
            }
            flight.complete();
            let theirs = Answer { status, headers: &headers, trailers: trailers.as_ref(), body: &[body] };
            let counter = if compare(&copied, &theirs) { &counters.agreed } else { &counters.differed };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Ok(None) | Err(_) => {
            flight.ends_as(Outcome::Broken);
            counters.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn compare(copied: &Copied, theirs: &Answer) -> bool {
    let Copied { parts, status, headers, trailers, response, .. } = copied;
    let callers = Answer { status: *status, headers, trailers: trailers.as_ref(), body: response };
    agree(parts.uri.path(), &callers, theirs)
}
