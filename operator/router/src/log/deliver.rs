//! Empties one ring into its sink: one request after the other over one connection, tried again where that may help.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use millrace_routes::{Sink, Use};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::record::Record;
use super::{Outlet, event};
use crate::dial::{self, Reach, Stream};

/// What the router calls itself.
pub const AGENT: &str = "millrace-router";
const STRUCTURED: &str = "application/cloudevents+json";
const BATCHED: &str = "application/cloudevents-batch+json";
/// What it sends to sinks.
pub const KINDS: [&str; 2] = [STRUCTURED, BATCHED];
/// Requests whose events are in one batch, and bytes of their bodies.
const BATCH: usize = 64;
const BATCH_BYTES: u64 = 1 << 20;
/// A sink that has not answered in this time has not taken it.
const WITHIN: Duration = Duration::from_secs(5);
/// Before it is tried again. A sink that has failed is tried once for each that comes, after the longest of these.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// A longer answer is not read, and its connection is not used again.
const ANSWER_BYTES: usize = 64 << 10;
const HEAD_BYTES: usize = 16 << 10;
/// Characters of what is said of a failure.
const LONGEST: usize = 300;

/// Until the ring's sender is gone and it is empty, or it is stopped.
pub async fn run(sink: Sink, mut records: mpsc::Receiver<Record>, outlet: Arc<Outlet>, reach: Arc<Reach>) {
    let mut line = Line { sink, reach, open: None, well: true };
    tokio::select! {
        () = outlet.stopped.notified() => {}
        () = line.empty(&mut records, &outlet) => {}
    }
    // Requests that are still collected find it closed.
    records.close();
    while let Some(record) = records.recv().await {
        outlet.counts.drops(record.events());
    }
}

/// What waits already: nothing waits for a batch to fill.
fn fill(batch: &mut Vec<Record>, records: &mut mpsc::Receiver<Record>) {
    let bytes = |record: &Record| {
        let answer = record.answer.as_ref().map_or(0, |answer| answer.payload.data.len());
        (record.request.data.len() + answer) as u64
    };
    let mut all: u64 = batch.iter().map(bytes).sum();
    while batch.len() < BATCH && all < BATCH_BYTES {
        let Ok(next) = records.try_recv() else { return };
        all += bytes(&next);
        batch.push(next);
    }
}

/// Events in hand. Those of which nothing is known when the sending stops are dropped.
struct Left<'a> {
    outlet: &'a Outlet,
    events: u64,
}

impl Left<'_> {
    fn note(&mut self, events: u64, delivered: Result<(), String>) {
        self.events -= events;
        match delivered {
            Ok(()) => self.outlet.delivers(events),
            Err(why) => self.outlet.fails(events, &plain(&why)),
        }
    }
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.outlet.counts.drops(self.events);
    }
}

/// Bounded, and in one line: it becomes part of a condition.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

/// The way to a sink.
struct Line {
    sink: Sink,
    reach: Arc<Reach>,
    open: Option<SendRequest<Full<Bytes>>>,
    /// The last one was taken.
    well: bool,
}

/// Why a sink has not taken it, and whether it may take the same later.
struct Failed {
    why: String,
    again: bool,
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self { why, again: true }
    }
}

impl Line {
    /// Until the ring's sender is gone.
    async fn empty(&mut self, records: &mut mpsc::Receiver<Record>, outlet: &Outlet) {
        while let Some(first) = records.recv().await {
            let mut batch = vec![first];
            if self.sink.batched {
                fill(&mut batch, records);
            }
            let events: Vec<String> = batch.iter().flat_map(event::events).collect();
            let count = events.len() as u64;
            let mut left = Left { outlet, events: count };
            if self.sink.batched {
                let sent = self.deliver(&format!("[{}]", events.join(",")), BATCHED).await;
                left.note(count, sent);
            } else {
                for event in events {
                    let sent = self.deliver(&event, STRUCTURED).await;
                    left.note(1, sent);
                }
            }
            // Their bytes are taken until here.
            drop(batch);
        }
    }

    async fn deliver(&mut self, body: &str, kind: &'static str) -> Result<(), String> {
        if !self.well {
            tokio::time::sleep(PAUSES[1]).await;
        }
        let mut pauses = PAUSES.iter().filter(|_| self.well).collect::<Vec<_>>().into_iter();
        loop {
            let sent = tokio::time::timeout(WITHIN, self.send(body, kind)).await;
            let sent = sent.unwrap_or_else(|_| Err(format!("no answer in {} s", WITHIN.as_secs()).into()));
            let Err(Failed { why, again }) = sent else {
                self.well = true;
                return Ok(());
            };
            self.open = None;
            match pauses.next().filter(|_| again) {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => {
                    // What it will never take says nothing of the next.
                    self.well = !again;
                    return Err(format!("{}: {why}", self.sink.address));
                }
            }
        }
    }

    async fn send(&mut self, body: &str, kind: &'static str) -> Result<(), Failed> {
        let address = &self.sink.address;
        let uri: Uri = address.parse().map_err(|_| format!("{address} is no address"))?;
        let mut request = Request::post(uri.path())
            .header(HOST, uri.authority().map(ToString::to_string).unwrap_or_default())
            .header(USER_AGENT, AGENT)
            .header(CONTENT_TYPE, kind)
            .body(Full::new(Bytes::from(body.to_owned())))
            .map_err(|error| error.to_string())?;
        if let Some(token) = &self.sink.token {
            let value = dial::bearer(token, |key| Use::Log(key), &self.reach)?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let broken = |error: hyper::Error| format!("the connection broke: {error}");
        let kept = match self.open.take() {
            Some(mut open) => open.ready().await.ok().map(|()| open),
            None => None,
        };
        let mut sender = match kept {
            Some(open) => open,
            None => match dial::open(&uri, self.sink.ca.as_ref(), |key| Use::Log(key), &self.reach).await? {
                Stream::Plain(stream) => begin(stream).await?,
                Stream::Tls(stream) => begin(stream).await?,
            },
        };
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let mut said = Bytes::new();
        if let Ok(body) = Limited::new(response.into_body(), ANSWER_BYTES).collect().await {
            self.open = Some(sender);
            said = body.to_bytes();
        }
        if status.is_success() {
            return Ok(());
        }
        let again =
            status.is_server_error() || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
        let hint = if status.is_redirection() { ", and redirects are not followed" } else { "" };
        let why = match String::from_utf8_lossy(&said).trim() {
            said if self.sink.tells && !said.is_empty() => said.to_owned(),
            _ => format!("the sink answers {}{hint}", status.as_u16()),
        };
        Err(Failed { why, again })
    }
}

async fn begin<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| format!("the connection broke: {error}"))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a sink broke");
        }
    });
    Ok(sender)
}
