//! What is answered to a request.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::event::{EventError, lines};
use super::health::Health;
use super::spool::{Spool, SpoolError};
use crate::say;

const ONE: &str = "application/cloudevents+json";
const MANY: &str = "application/cloudevents-batch+json";
/// Four times what waits in a router at most.
const BODY_BYTES: usize = 16 << 20;
/// Of what is refused so much is read, so that who sends it reads the answer.
const PASSED_BYTES: usize = 64 << 20;
/// A body comes in such a time.
const BODY_TIME: Duration = Duration::from_secs(10);
/// All bodies that are in hand, in units.
const ROOM_BYTES: usize = 32 << 20;
const UNIT: usize = 1 << 10;
/// For room. A router waits five seconds for its answer.
const ROOM_TIME: Duration = Duration::from_secs(4);

type Answer = Response<Full<Bytes>>;

pub struct Door {
    spool: Arc<Mutex<Spool>>,
    health: Arc<Health>,
    changed: Arc<Notify>,
    room: Arc<Semaphore>,
}

/// Why a body is not there.
enum Unread {
    TooLong,
    TooSlow,
    NoRoom,
    Broken(hyper::Error),
}

/// Why its events are not taken.
enum Untaken {
    Event(EventError),
    Spool(SpoolError),
    Ended,
}

impl Door {
    pub fn new(spool: Arc<Mutex<Spool>>, health: Arc<Health>, changed: Arc<Notify>) -> Self {
        Self { spool, health, changed, room: Arc::new(Semaphore::new(ROOM_BYTES / UNIT)) }
    }

    pub async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        if head.method == Method::GET && head.uri.path() == "/healthz" {
            return match self.health.unready() {
                Some(why) => plain(StatusCode::SERVICE_UNAVAILABLE, &why),
                None => plain(StatusCode::OK, "ok"),
            };
        }
        if head.method != Method::POST {
            let mut refused = refuse(StatusCode::METHOD_NOT_ALLOWED, "send events with POST", body).await;
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return refused;
        }
        let batched = match kind(&head.headers) {
            Ok(batched) => batched,
            Err(why) => return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, &why, body).await,
        };
        if let Some(why) = self.health.unwell() {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, &why, body).await;
        }
        let (body, room) = match self.read(body).await {
            Ok(read) => read,
            Err(answer) => return answer,
        };
        match self.take(body, batched, room).await {
            Ok(()) => plain(StatusCode::ACCEPTED, ""),
            Err(Untaken::Event(error)) => plain(StatusCode::BAD_REQUEST, &say::one_line(&error)),
            Err(Untaken::Spool(error)) => {
                plain(StatusCode::SERVICE_UNAVAILABLE, &self.health.full(&say::one_line(&error)))
            }
            Err(Untaken::Ended) => plain(StatusCode::SERVICE_UNAVAILABLE, "this program ends; send it again"),
        }
    }

    /// The body, and its share of the room.
    async fn read(&self, mut body: Incoming) -> Result<(Vec<u8>, OwnedSemaphorePermit), Answer> {
        let unread = match self.collect(&mut body).await {
            Ok(read) => return Ok(read),
            Err(unread) => unread,
        };
        let (status, why) = match unread {
            Unread::TooLong => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body has more than {BODY_BYTES} bytes; send fewer events at once"),
            ),
            Unread::TooSlow => {
                (StatusCode::REQUEST_TIMEOUT, format!("the body did not come in {} s", BODY_TIME.as_secs()))
            }
            Unread::NoRoom => {
                (StatusCode::SERVICE_UNAVAILABLE, "too many events come at once; send it again".to_owned())
            }
            Unread::Broken(error) => (StatusCode::BAD_REQUEST, format!("the body broke off: {error}")),
        };
        Err(refuse(status, &why, body).await)
    }

    async fn collect(&self, body: &mut Incoming) -> Result<(Vec<u8>, OwnedSemaphorePermit), Unread> {
        let declared = body.size_hint().upper().map_or(Ok(BODY_BYTES), usize::try_from);
        let most = declared.ok().filter(|bytes| *bytes <= BODY_BYTES).ok_or(Unread::TooLong)?;
        let units = u32::try_from(most.div_ceil(UNIT)).map_err(|_| Unread::TooLong)?;
        let room = timeout(ROOM_TIME, self.room.clone().acquire_many_owned(units)).await;
        let room = room.ok().and_then(Result::ok).ok_or(Unread::NoRoom)?;
        let all = async {
            let mut all = Vec::new();
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(Unread::Broken)?.into_data() else { continue };
                if all.len() + data.len() > BODY_BYTES {
                    return Err(Unread::TooLong);
                }
                all.extend_from_slice(&data);
            }
            Ok(all)
        };
        Ok((timeout(BODY_TIME, all).await.map_err(|_| Unread::TooSlow)??, room))
    }

    /// One request after the other is read and written: so many lines are in memory as one has. Whoever has asked may have gone meanwhile.
    async fn take(&self, body: Vec<u8>, batched: bool, room: OwnedSemaphorePermit) -> Result<(), Untaken> {
        let mut spool = self.spool.clone().lock_owned().await;
        let changed = self.changed.clone();
        let taken = tokio::task::spawn_blocking(move || {
            let _room = room;
            let mut all = Vec::new();
            lines(&body, batched, &mut all).map_err(Untaken::Event)?;
            drop(body);
            if !all.is_empty() && spool.push(&all).map_err(Untaken::Spool)? {
                changed.notify_one();
            }
            Ok(())
        });
        taken.await.unwrap_or(Err(Untaken::Ended))
    }
}

/// Whether the body is a list of events. Otherwise what is wrong.
fn kind(headers: &HeaderMap) -> Result<bool, String> {
    let found = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let plain = found.split(';').next().unwrap_or_default().trim();
    if plain.eq_ignore_ascii_case(MANY) {
        return Ok(true);
    }
    if plain.eq_ignore_ascii_case(ONE) {
        return Ok(false);
    }
    Err(format!("content-type: found {:?}, expected {ONE} or {MANY}", say::excerpt(found, 60)))
}

/// Answers when the body was passed over: who still sends may not read.
async fn refuse(status: StatusCode, why: &str, mut body: Incoming) -> Answer {
    let passed = async {
        let mut passed = 0;
        while let Some(frame) = body.frame().await {
            passed += frame.ok()?.data_ref().map_or(0, Bytes::len);
            if passed > PASSED_BYTES {
                return None;
            }
        }
        Some(())
    };
    let whole = timeout(BODY_TIME, passed).await.ok().flatten().is_some();
    let mut refused = plain(status, why);
    if !whole {
        refused.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    refused
}

fn plain(status: StatusCode, text: &str) -> Answer {
    let line = if text.is_empty() { String::new() } else { format!("{text}\n") };
    let mut response = Response::new(Full::new(Bytes::from(line)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_body_says_whether_it_is_a_list() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_str(text).unwrap());
            kind(&headers)
        };
        assert_eq!(of("application/cloudevents+json; charset=utf-8"), Ok(false));
        assert_eq!(of("Application/CloudEvents-Batch+JSON"), Ok(true));
        assert!(of("application/json").unwrap_err().contains("found \"application/json\", expected application/cloud"));
        assert!(kind(&HeaderMap::new()).unwrap_err().contains("found \"\""));
    }
}
