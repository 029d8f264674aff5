//! One request to a graph, from the door to its answer.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use millrace_routes::Outcome;

use super::Graph;
use super::answer::{Failure, LEFT_OUT};
use super::counts;
use super::held::{Held, Unheld};
use super::run::{Payload, Run};
use crate::body::{Copies, RequestBody, ResponseBody, Source};
use crate::headers;
use crate::proxy::Caller;
use crate::refuse::Why;
use crate::state::lock;

/// Steps that a header names, at most.
const NAMED: usize = 16;

/// Answers for a graph. `request` has passed its door.
pub async fn serve(
    caller: &Caller,
    graph: &Arc<Graph>,
    request: Request<Incoming>,
    arrived: Instant,
) -> Response<ResponseBody> {
    match route(request.method(), request.uri().path(), &caller.model.name) {
        Ok(()) => {}
        Err(Routed::Healthy) => return healthy(),
        Err(Routed::Not(failure)) => return failure.response(),
    }
    let counted = counts::Request::begin(&graph.totals, arrived);
    let answered = match tokio::time::timeout(graph.timeout, answer(caller, graph, request)).await {
        Ok(answered) => answered,
        Err(_) => Err(Failure::late()),
    };
    match answered {
        Ok(response) => {
            counted.ends(Outcome::Success);
            response
        }
        Err(failure) => {
            counted.ends(failure.outcome());
            failure.response()
        }
    }
}

enum Routed {
    Healthy,
    Not(Failure),
}

/// A graph is asked at `/`, or as a model of the Open Inference Protocol.
fn route(method: &Method, path: &str, graph: &str) -> Result<(), Routed> {
    let own = path.strip_prefix("/v2/models/").and_then(|rest| rest.strip_prefix(graph));
    let asks = path == "/" || own == Some("/infer");
    let looks = own == Some("/ready") || path == "/v2/health/ready" || path == "/v2/health/live";
    let not = |status, says: String| Err(Routed::Not(Failure::new(status, says)));
    match *method {
        Method::POST if asks => Ok(()),
        Method::GET if looks => Err(Routed::Healthy),
        _ if asks => not(StatusCode::METHOD_NOT_ALLOWED, "a graph is asked by POST".to_owned()),
        _ => not(StatusCode::NOT_FOUND, format!("a graph is asked at / or at /v2/models/{graph}/infer")),
    }
}

fn healthy() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::own("{}\n"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn answer(
    caller: &Caller,
    graph: &Arc<Graph>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Failure> {
    let (parts, body) = request.into_parts();
    let encoded = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    if parts.headers.get_all(CONTENT_ENCODING).iter().any(encoded) {
        return Err(Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a graph looks into bodies: send it without content-encoding",
        ));
    }
    let held = read(caller, graph, body, &parts.headers).await?;
    let mut headers = parts.headers;
    of_steps(&mut headers, parts.uri.authority().map(Authority::as_str));
    let run = Run { caller, graph, headers, uri: parts.uri, left_out: Mutex::default() };
    let response = run.node(&graph.document.root, held, true).await?;
    let left_out = std::mem::take(&mut *lock(&run.left_out));
    let (parts, payload) = response.into_parts();
    let mut response = match payload {
        Payload::Passing(body) => Response::from_parts(parts, body),
        Payload::Held(held) => {
            let mut response = Response::from_parts(parts, ());
            response.headers_mut().remove(CONTENT_LENGTH);
            held.tell(response.headers_mut());
            response.map(|()| ResponseBody::held(held.bytes, held.room))
        }
    };
    if !left_out.is_empty() {
        let text = left_out.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
        response.headers_mut().extend(HeaderValue::from_str(&text).ok().map(|text| (LEFT_OUT, text)));
    }
    Ok(response)
}

/// The whole body of the caller.
async fn read(caller: &Caller, graph: &Graph, body: Incoming, said: &HeaderMap) -> Result<Held, Failure> {
    let refused = |why: Why| {
        if let Some(reason) = why.reason() {
            caller.model.refused(reason);
        }
        Failure::of(why)
    };
    // Nothing is read of one that says itself that it is too long.
    if body.size_hint().lower() > graph.body_bytes as u64 {
        return Err(refused(Why::TooLong));
    }
    let mut body = RequestBody::new(Source::Client(body), Copies::default());
    let fault = body.bound(Some(graph.body_bytes as u64), caller.silence);
    let read = Held::read(body, said, graph.body_bytes, &caller.state.graphs).await;
    read.map_err(|unheld| match unheld {
        Unheld::TooLong => refused(Why::TooLong),
        Unheld::NoRoom => Failure::no_room(),
        Unheld::Broken(_) => match fault.and_then(|fault| fault.why()) {
            Some(why) => refused(why),
            None => Failure::new(StatusCode::BAD_REQUEST, "the request's body broke off"),
        },
    })
}

/// What every step gets of the caller's headers: not what is said of its body, nor what would have answers compressed.
fn of_steps(headers: &mut HeaderMap, authority: Option<&str>) {
    // Nor what is said of its connection: nothing of it may become a websocket.
    headers::strip(headers);
    for name in [ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, EXPECT] {
        headers.remove(name);
    }
    if let Some(host) = authority.and_then(|authority| HeaderValue::from_str(authority).ok()) {
        headers.entry(HOST).or_insert(host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_is_asked_where_a_model_is() {
        let of = |method: Method, path: &str| match route(&method, path, "g") {
            Ok(()) => 0,
            Err(Routed::Healthy) => 200,
            Err(Routed::Not(failure)) => failure.status.as_u16(),
        };
        assert_eq!((of(Method::POST, "/"), of(Method::POST, "/v2/models/g/infer")), (0, 0));
        assert_eq!((of(Method::GET, "/v2/health/ready"), of(Method::GET, "/v2/models/g/ready")), (200, 200));
        assert_eq!((of(Method::GET, "/"), of(Method::POST, "/v2/models/gg/infer")), (405, 404));
        assert_eq!((of(Method::POST, "/v2/health/ready"), of(Method::GET, "/other")), (404, 404));
    }
}
