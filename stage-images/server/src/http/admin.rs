//! What the operator asks, on a port of its own: callers of the model, who come through a router, do not reach it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use millrace_contract::DRIFT_PATH;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::Listener;
use super::answer::{Answer, json, refuse, wrong_method};
use crate::serving::{LookupError, Serving};

/// Connections at once: one operator asks.
const CONNECTIONS: usize = 16;
/// From the first byte to the last one of the answer.
const WHOLE: Duration = Duration::from_secs(10);
/// Seconds of a window.
const WINDOW: std::ops::RangeInclusive<u64> = 60..=7 * 24 * 3600;

/// Answers for as long as the process lives.
pub async fn answer_operator(listener: Listener, serving: Arc<Serving>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Who comes when all places are taken waits in the kernel.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = listener.next().await;
        let serving = Arc::clone(&serving);
        tokio::spawn(async move {
            connection(stream, &serving).await;
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, serving: &Serving) {
    let service = service_fn(|request| {
        let answer = answer(serving, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).keep_alive(false);
    // A caller that breaks off is no event of ours.
    drop(tokio::time::timeout(WHOLE, builder.serve_connection(TokioIo::new(stream), service)).await);
}

fn answer(serving: &Serving, request: &Request<Incoming>) -> Answer {
    if request.method() != Method::GET {
        return wrong_method("GET");
    }
    if request.uri().path() != DRIFT_PATH {
        return refuse(StatusCode::NOT_FOUND, format_args!("unknown path: served is {DRIFT_PATH}?window=<seconds>"));
    }
    let Some(seconds) = window(request.uri().query().unwrap_or_default()) else {
        let (least, most) = WINDOW.into_inner();
        let why = format_args!("write the window in seconds, from {least} to {most}: {DRIFT_PATH}?window=3600");
        return refuse(StatusCode::BAD_REQUEST, why);
    };
    let name = serving.config.model_name.as_deref().unwrap_or_default();
    match serving.model(name, None) {
        Ok(model) => {
            let window = Duration::from_secs(seconds);
            let counts = model.watch.counts(&model.name, &model.version, window, Instant::now());
            match serde_json::to_vec(&counts) {
                Ok(body) => json(StatusCode::OK, body),
                Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error),
            }
        }
        Err(error @ LookupError::Loading { .. }) => refuse(StatusCode::SERVICE_UNAVAILABLE, error),
        Err(error) => refuse(StatusCode::NOT_FOUND, error),
    }
}

fn window(query: &str) -> Option<u64> {
    let seconds = query.strip_prefix("window=")?.parse().ok()?;
    WINDOW.contains(&seconds).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_number_of_seconds_within_bounds() {
        assert_eq!([window("window=60"), window("window=604800")], [Some(60), Some(604_800)]);
        for wrong in ["", "window=", "window=59", "window=604801", "window=1h", "window=-60", "length=60"] {
            assert_eq!(window(wrong), None, "{wrong:?}");
        }
    }
}
