//! One question over HTTP: no redirect is followed, and no more is read than a number needs.

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use millrace_routes::{Query, Use};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::dial::{self, Reach, Stream};

/// A longer answer is none: one sample with many labels is a few KiB.
const ANSWER_BYTES: usize = 64 << 10;
const HEAD_BYTES: usize = 16 << 10;

pub struct Said {
    pub status: StatusCode,
    pub body: Bytes,
}

/// What the address answers to the query, or why it does not.
pub async fn ask(query: &Query, reach: &Reach) -> Result<Said, String> {
    let uri: Uri = query.address.parse().map_err(|_| format!("{} is no address", query.address))?;
    let request = request(query, &uri, reach)?;
    match dial::open(&uri, query.ca.as_ref(), |key| Use::Prometheus(key), reach).await? {
        Stream::Plain(stream) => exchange(stream, request).await,
        Stream::Tls(stream) => exchange(stream, request).await,
    }
}

fn request(query: &Query, uri: &Uri, reach: &Reach) -> Result<Request<Empty<Bytes>>, String> {
    let asked: String = form_urlencoded::byte_serialize(query.query.as_bytes()).collect();
    let path = format!("{}/api/v1/query?query={asked}", uri.path().trim_end_matches('/'));
    let host = uri.authority().map(ToString::to_string).unwrap_or_default();
    let mut request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, "millrace-router")
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    if let Some(token) = &query.token {
        request.headers_mut().insert(AUTHORIZATION, dial::bearer(token, |key| Use::Prometheus(key), reach)?);
    }
    Ok(request)
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Said, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |error: hyper::Error| format!("the connection broke: {error}");
    let mut builder = hyper::client::conn::http1::Builder::new();
    let (mut sender, connection) =
        builder.max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        let body =
            body.map_err(|error| format!("the answer broke off or is longer than {ANSWER_BYTES} bytes: {error}"))?;
        Ok(Said { status, body: body.to_bytes() })
    };
    let (_closed, said) = futures::join!(connection, answer);
    said
}
