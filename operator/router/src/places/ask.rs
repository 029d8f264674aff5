//! Asks the keeper for a place.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::{HeaderMap, Request, Response, StatusCode};

use super::{FAILED, POD, START, parsed};
use crate::body::{Copies, RequestBody, Source};
use crate::state::{Held, Lease, Pod, Refusal, Revision};
use crate::upstream::{self, Taken};

/// One that takes no connection for so long is passed by; all who wait for it begin to count at the same time.
const CONNECT_WITHIN: Duration = Duration::from_millis(500);
/// A keeper that is stuck is given up so long after it should have said that there is no place.
const LATE: Duration = Duration::from_secs(1);

/// A place that another router keeps, until it is dropped.
#[derive(Debug)]
pub struct Grant {
    /// Its end is what the keeper sees.
    _answer: Incoming,
    _taken: Taken,
}

/// What is asked for.
pub struct Wanted<'a> {
    pub model: &'a str,
    pub revision: &'a Arc<Revision>,
    /// Whoever does not wait has none.
    pub deadline: Option<Instant>,
    /// A pod that was given before and took no connection.
    pub failed: Option<IpAddr>,
}

/// `None`: the keeper does not say. `slot` is the pool of this thread.
pub async fn ask(keeper: &Pod, slot: usize, wanted: &Wanted<'_>) -> Option<Result<(Lease, Option<Held>), Refusal>> {
    let began = Instant::now();
    let within = wanted.deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(began));
    let request = request(keeper, within, wanted)?;
    let asked = async {
        let taken = tokio::time::timeout(CONNECT_WITHIN, upstream::take_router(keeper, slot)).await;
        let mut taken = taken.ok()?.ok()?;
        let response = taken.send(request).await.ok()?;
        Some((response, taken))
    };
    let Ok(answer) = tokio::time::timeout(within + LATE, asked).await else {
        keeper.suspect();
        return wanted.deadline.map(|_| Err(Refusal::Timeout));
    };
    let Some((response, taken)) = answer else {
        keeper.suspect();
        return None;
    };
    let (status, headers) = (response.status(), response.headers().clone());
    match status {
        StatusCode::OK => granted(wanted, began, &headers, response, taken).map(Ok),
        StatusCode::SERVICE_UNAVAILABLE => Some(Err(Refusal::Overflow)),
        StatusCode::GATEWAY_TIMEOUT => Some(Err(Refusal::Timeout)),
        // It has other routes for the moment.
        _ => None,
    }
}

fn request(keeper: &Pod, within: Duration, wanted: &Wanted<'_>) -> Option<Request<RequestBody>> {
    let Wanted { model, revision, failed, deadline } = wanted;
    // One that waits asks for no less than the least that can be written.
    let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).max(u64::from(deadline.is_some()));
    let uri = format!("http://{}/places/{model}/{}?within={millis}", keeper.address, revision.name);
    let mut request = Request::get(uri).body(RequestBody::new(Source::held(Bytes::new()), Copies::default())).ok()?;
    let failed = failed.and_then(|failed| HeaderValue::from_str(&failed.to_string()).ok());
    request.headers_mut().extend(failed.map(|failed| (FAILED, failed)));
    Some(request)
}

fn granted(
    wanted: &Wanted<'_>,
    began: Instant,
    headers: &HeaderMap,
    response: Response<Incoming>,
    taken: Taken,
) -> Option<(Lease, Option<Held>)> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let pod: IpAddr = text(POD)?.parse().ok()?;
    let lease = wanted.revision.granted(pod, Grant { _answer: response.into_body(), _taken: taken });
    let start = text(START).and_then(parsed);
    Some((lease, start.map(|start| Held { waited: began.elapsed(), start: Some(start) })))
}
