//! One question over HTTP: no redirect is followed, and no more is read than the answer may have. The caller bounds the time.

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use millrace_routes::Entry;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::dial::{self, Reach, Stream, Usage};

const HEAD_BYTES: usize = 16 << 10;

/// What is asked, and whom.
pub struct Get<'a> {
    pub address: &'a Uri,
    /// With the query.
    pub path: &'a str,
    pub authorization: Option<HeaderValue>,
    pub ca: Option<&'a Entry>,
    pub usage: Usage,
    /// A longer answer is none.
    pub most_bytes: usize,
}

pub struct Said {
    pub status: StatusCode,
    pub body: Bytes,
}

/// What the address answers, or why it does not.
pub async fn get(asked: Get<'_>, reach: &Reach) -> Result<Said, String> {
    let Get { address, path, authorization, ca, usage, most_bytes } = asked;
    let host = address.authority().map(ToString::to_string).unwrap_or_default();
    let mut request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, "millrace-router")
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    if let Some(value) = authorization {
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    match dial::open(address, ca, usage, reach).await? {
        Stream::Plain(stream) => exchange(stream, request, most_bytes).await,
        Stream::Tls(stream) => exchange(stream, request, most_bytes).await,
    }
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>, most_bytes: usize) -> Result<Said, String>
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
        let body = Limited::new(response.into_body(), most_bytes).collect().await;
        let body =
            body.map_err(|error| format!("the answer broke off or is longer than {most_bytes} bytes: {error}"))?;
        Ok(Said { status, body: body.to_bytes() })
    };
    let (_closed, said) = futures::join!(connection, answer);
    said
}
