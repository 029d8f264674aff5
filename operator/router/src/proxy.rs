//! One request: choose a revision, get a place at a pod, pass it on, pass the answer back.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use millrace_routes::Protocol;

use crate::body::{Copies, Hold, RequestBody, ResponseBody, Source};
use crate::callers::{Connection, HEADERS, InHand, Stage};
use crate::count::Span;
use crate::fault::Fault;
use crate::flight::{self, Flight};
use crate::graph;
use crate::headers::{self, Peer};
use crate::log::Recording;
use crate::places::{self, Wanted};
use crate::refuse::{BROKEN, Why};
use crate::shadow::Tee;
use crate::state::{Held, Lease, Model, Phase, Policy, Refusal, Revision, State};
use crate::upgrade;
use crate::upstream::{self, Taken};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// Connections that are tried for one request before a byte went upstream.
const TRIES: usize = 5;

/// One connection of a client.
pub struct Caller {
    pub state: Arc<State>,
    pub model: Arc<Model>,
    pub peer: Peer,
    /// The pool of this thread.
    pub slot: usize,
    pub connection: Arc<Connection>,
    pub over_tls: bool,
    /// This process itself: there is no door for it.
    pub inside: bool,
    /// Between two pieces of a request body.
    pub silence: Duration,
}

/// What is known of a request before a pod is.
struct Asked {
    policy: Arc<Policy>,
    arrived: Instant,
    is_grpc: bool,
    /// It wants to be a websocket.
    upgrade: Option<OnUpgrade>,
    fault: Option<Arc<Fault>>,
    copies: Copies,
}

/// A pod's answer, and all that stays in use until its end.
struct Answered {
    response: Response<Incoming>,
    flight: Flight,
    lease: Lease,
    taken: Taken,
    held: Option<Held>,
    sent: Instant,
    revision: Arc<Revision>,
}

impl Caller {
    /// `in_hand` is `None` where there is no room for the request.
    pub async fn serve(&self, request: Request<Incoming>, in_hand: Option<InHand>) -> Response<ResponseBody> {
        let is_http1 = request.version() < Version::HTTP_2;
        let is_grpc =
            request.headers().get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
        let Some(in_hand) = in_hand else { return Why::Full.response(is_grpc) };
        let routed = self.route(request, is_grpc).await;
        let mut response = routed.unwrap_or_else(|why| {
            if let Some(reason) = why.reason() {
                self.model.refused(reason);
            }
            let mut response = why.response(is_grpc);
            if self.inside && why == Why::Broken {
                response.headers_mut().insert(BROKEN, HeaderValue::from_static("true"));
            }
            response
        });
        if is_http1 && self.state.phase() > Phase::Serving && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|body| body.with(in_hand))
    }

    /// Asks a model for a step of a graph, on this caller's thread. The model's door is passed, but for its rate: who may ask the graph is
    /// asked there, and as a caller of the model the graph is one.
    pub async fn ask(&self, model: Arc<Model>, request: Request<Bytes>) -> Result<Response<ResponseBody>, Why> {
        let policy = model.policy();
        let asker = Self {
            state: self.state.clone(),
            model,
            peer: self.peer.clone(),
            slot: self.slot,
            connection: self.connection.clone(),
            over_tls: self.over_tls,
            inside: true,
            silence: self.silence,
        };
        let rate = policy.door.as_ref().map_or(Ok(()), |door| door.admit_graph(&self.model.name));
        let asked = async {
            rate?;
            asker.forward(policy, Instant::now(), request.map(Source::held), false).await
        };
        asked.await.inspect_err(|why| {
            if let Some(reason) = why.reason() {
                asker.model.refused(reason);
            }
        })
    }

    async fn route(&self, request: Request<Incoming>, is_grpc: bool) -> Result<Response<ResponseBody>, Why> {
        let arrived = Instant::now();
        let policy = self.model.policy();
        if let Some(door) = policy.door.as_ref().filter(|_| !self.inside) {
            // Before a revision is chosen: who may not come in is nobody's error, no load and wakes no pod.
            door.admit(request.headers(), self.over_tls)?;
        }
        let Some(graph) = &policy.graph else {
            return self.forward(policy, arrived, request.map(Source::Client), is_grpc).await;
        };
        if is_grpc {
            return Err(Why::NoGrpc);
        }
        if request.headers().len() > HEADERS {
            return Err(Why::TooManyHeaders);
        }
        let mut request = request;
        if let Some(door) = &policy.door {
            door.strip(request.headers_mut());
        }
        Ok(graph::serve(self, graph, request, arrived).await)
    }

    /// To a pod, and its answer back.
    async fn forward(
        &self,
        policy: Arc<Policy>,
        arrived: Instant,
        mut request: Request<Source>,
        is_grpc: bool,
    ) -> Result<Response<ResponseBody>, Why> {
        // Nor is one that says itself that it is too long. A body whose length is not said is counted while it passes.
        let limit = policy.body_bytes.filter(|limit| request.body().size().upper().is_none_or(|n| n > *limit));
        if limit.is_some() && request.body().size().exact().is_some() {
            return Err(Why::TooLong);
        }
        let revision = choose(&policy, request.headers())?;
        let mut flight = Flight::begin(revision.clone(), arrived);
        let refuse = |mut flight: Flight, why: Why| {
            flight.ends_as(why.outcome());
            why
        };
        if request.method() == Method::CONNECT {
            return Err(refuse(flight, Why::Connect));
        }
        if request.headers().len() > HEADERS {
            return Err(refuse(flight, Why::TooManyHeaders));
        }
        let upgrades = request.version() == Version::HTTP_11 && headers::is_websocket(request.headers());
        let upgrade = upgrades.then(|| hyper::upgrade::on(&mut request));
        headers::request(request.headers_mut(), &self.peer);
        if let Some(door) = &policy.door {
            door.strip(request.headers_mut());
        }
        if upgrades {
            headers::insert_websocket(request.headers_mut());
        }
        let copies = if upgrades { Copies::default() } else { self.copies(&policy, &revision, &request) };
        let mut fault = None;
        let request = request.map(|body| {
            let mut body = RequestBody::new(body, copies.clone());
            fault = body.bound(limit, self.silence);
            body
        });
        let asked = Asked { policy, arrived, is_grpc, upgrade, fault, copies };
        match self.send(&asked, &mut flight, revision, request).await {
            Ok((response, lease, taken, held, sent, revision)) => {
                Ok(self.answer(asked, Answered { response, flight, lease, taken, held, sent, revision }))
            }
            Err(why) => Err(refuse(flight, why)),
        }
    }

    /// Sends it to a pod; to another one if no byte went upstream.
    async fn send(
        &self,
        asked: &Asked,
        flight: &mut Flight,
        mut revision: Arc<Revision>,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease, Taken, Option<Held>, Instant, Arc<Revision>), Why> {
        let mut held: Option<Held> = None;
        let mut connected = true;
        let mut failed = None;
        for tries in 0..TRIES {
            if tries > 0 {
                revision.counters.retries.fetch_add(1, Ordering::Relaxed);
            }
            let (lease, waited) = self.place(asked, flight, &mut revision, request.headers(), failed).await?;
            held = waited.or(held);
            let http2 = match revision.settings().protocol {
                Protocol::Auto => asked.is_grpc,
                Protocol::Http1 => false,
                Protocol::Http2 => asked.upgrade.is_none(),
            };
            let mut taken = match upstream::take(&lease.pod, self.slot, http2).await {
                Ok(taken) => taken,
                Err(error) => {
                    tracing::debug!(%error, model = self.model.name, pod = %lease.pod.address, "failed to connect");
                    lease.pod.suspect();
                    failed = Some(lease.pod.address.ip());
                    connected = false;
                    continue;
                }
            };
            address(&mut request, http2);
            let sent = Instant::now();
            let answer = match asked.policy.answer_within {
                None => taken.send(request).await,
                Some(limit) => {
                    tokio::time::timeout(limit, taken.send(request)).await.map_err(|_| Why::NoAnswerInTime)?
                }
            };
            match answer {
                Ok(response) if switches_unasked(&response, asked) => return Err(Why::Broken),
                Ok(response) => return Ok((response, lease, taken, held, sent, revision)),
                Err(mut error) => match error.take_message() {
                    Some(back) => {
                        connected = true;
                        request = back;
                    }
                    None => return Err(asked.fault.as_ref().and_then(|fault| fault.why()).unwrap_or(Why::Broken)),
                },
            }
        }
        Err(if connected { Why::Broken } else { Why::Unreachable })
    }

    /// A place at a pod. If the revision leaves the routes meanwhile, another one is chosen. `failed` is a pod that took no connection.
    async fn place(
        &self,
        asked: &Asked,
        flight: &mut Flight,
        revision: &mut Arc<Revision>,
        headers: &HeaderMap,
        failed: Option<IpAddr>,
    ) -> Result<(Lease, Option<Held>), Why> {
        loop {
            let bounded = revision.is_bounded();
            if !bounded && let Some(lease) = revision.try_acquire() {
                return Ok((lease, None));
            }
            let deadline = asked.arrived + Duration::from_millis(revision.settings().queue.timeout_ms);
            let keeper = if bounded { self.state.keeper(&self.model.name, &revision.name) } else { None };
            let given = match keeper {
                Some(keeper) => {
                    let wanted = Wanted { model: &self.model.name, revision, deadline: Some(deadline), failed };
                    places::ask(&keeper, self.slot, &wanted).await
                }
                None => None,
            };
            let given = match given {
                Some(given) => given,
                None => revision.acquire(&self.state, deadline).await,
            };
            match given {
                Ok(place) => return Ok(place),
                Err(Refusal::Overflow) => return Err(Why::Overflow),
                Err(Refusal::Timeout) => return Err(Why::NoPodInTime),
                Err(Refusal::Gone) => {
                    let next = choose(&self.model.policy(), headers)?;
                    // A model that left the routes keeps its last policy.
                    if Arc::ptr_eq(&next, revision) {
                        return Err(Why::NoRevision);
                    }
                    flight.move_to(next.clone());
                    *revision = next;
                }
            }
        }
    }

    fn answer(&self, asked: Asked, answered: Answered) -> Response<ResponseBody> {
        let Answered { mut response, mut flight, lease, taken, held, sent, revision } = answered;
        flight.answered(flight::outcome(response.status(), response.headers(), asked.is_grpc));
        let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        headers::response(response.headers_mut());
        if let Some(held) = held {
            let first_byte = sent.elapsed();
            if held.start.is_some() {
                revision.counters.span(Span::FirstByte, first_byte);
            }
            if let Some(value) = timing(&held, first_byte) {
                response.headers_mut().append(SERVER_TIMING, value);
            }
        }
        if let Some(client) = asked.upgrade.filter(|_| upgraded) {
            self.connection.enter(Stage::Upgraded);
            upgrade::join(client, hyper::upgrade::on(&mut response), flight, lease);
            headers::insert_websocket(response.headers_mut());
            return response.map(|_| ResponseBody::own(""));
        }
        let Asked { copies, is_grpc, .. } = asked;
        copies.answered(&response, &revision.name);
        response.map(|body| ResponseBody::pod(body, Hold { flight, lease, taken, copies, is_grpc }))
    }

    fn copies<B>(&self, policy: &Policy, revision: &Arc<Revision>, request: &Request<B>) -> Copies {
        Copies {
            tee: Tee::begin(&self.state, &self.model, policy, revision, request),
            log: Recording::begin(policy, &revision.name, request),
        }
    }
}

/// The pod goes over to a protocol that it was not asked for.
fn switches_unasked(response: &Response<Incoming>, asked: &Asked) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        && !(asked.upgrade.is_some() && headers::is_websocket(response.headers()))
}

fn choose(policy: &Policy, headers: &HeaderMap) -> Result<Arc<Revision>, Why> {
    policy.chooser.choose(headers).and_then(|i| policy.targets.get(i)).cloned().ok_or(Why::NoRevision)
}

/// The target as the protocol to the pod has it: a path and Host, or a whole URI.
pub fn address(request: &mut Request<RequestBody>, http2: bool) {
    if http2 {
        let authority = request
            .uri()
            .authority()
            .cloned()
            .or_else(|| Authority::from_maybe_shared(request.headers().get(HOST)?.clone()).ok());
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(authority.unwrap_or_else(|| Authority::from_static("localhost")));
        parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        request.headers_mut().remove(HOST);
        *request.version_mut() = Version::HTTP_2;
        return;
    }
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str());
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
        if let Ok(host) = host {
            request.headers_mut().insert(HOST, host);
        }
    }
    *request.version_mut() = Version::HTTP_11;
}

/// What a held request waited for, in milliseconds (W3C Server Timing).
fn timing(held: &Held, first_byte: Duration) -> Option<HeaderValue> {
    let mut text = String::with_capacity(128);
    let mut span = |name: &str, took: Duration| write!(text, "{name};dur={:.1}, ", took.as_secs_f64() * 1e3);
    span("queue", held.waited).ok()?;
    if let Some(start) = held.start {
        span(Span::Scale.as_str(), start.scale).ok()?;
        span(Span::Schedule.as_str(), start.schedule).ok()?;
        span(Span::Load.as_str(), start.load).ok()?;
    }
    span(Span::FirstByte.as_str(), first_byte).ok()?;
    HeaderValue::from_str(text.trim_end_matches(", ")).ok()
}
