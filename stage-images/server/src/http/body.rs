//! Reads a request's body, within its own limit and within the server's budget.
//!
//! A body that is too large is refused by its stated length, before a byte of it is read.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

use crate::budget::{Budget, BudgetError, Share};
use crate::protocol::short;

/// The binary extension's header: how many bytes at the start of a body are JSON.
pub const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Why there is no body to work with.
#[derive(Debug, Error)]
pub enum BodyError {
    #[error(
        "the body is larger than the {limit} bytes that this server takes: send fewer rows, or raise --max-body, security.maxBodyBytes of a ModelDeployment"
    )]
    TooLarge { limit: usize },
    #[error("the body did not arrive within {} s", .0.as_secs_f64())]
    TooSlow(Duration),
    #[error(transparent)]
    Budget(#[from] BudgetError),
    #[error("the body ended before it was complete")]
    Broken,
    #[error("Content-Type {0:?} is not served: send application/json")]
    ContentType(String),
    #[error("Content-Encoding {0:?} is not served: send the body as it is")]
    Encoding(String),
    #[error("Inference-Header-Content-Length is {0:?}, not a number of bytes")]
    Header(String),
}

impl BodyError {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } | Self::Budget(BudgetError::Never { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Budget(BudgetError::InUse) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken | Self::Header(_) => StatusCode::BAD_REQUEST,
            Self::ContentType(_) | Self::Encoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }
}

/// A whole body, and its share of the server's memory.
#[derive(Debug)]
pub struct Buffered<'b> {
    pub bytes: Bytes,
    pub share: Share<'b>,
}

/// Reads the whole body.
pub async fn read(
    mut body: Incoming,
    limit: usize,
    time: Duration,
    budget: &Budget,
) -> Result<Buffered<'_>, BodyError> {
    let too_large = |bytes: usize| if bytes > limit { Err(BodyError::TooLarge { limit }) } else { Ok(()) };
    let mut share = budget.share();
    if let Some(length) = body.size_hint().exact() {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        too_large(length)?;
        budget.could_hold(length)?;
    }
    let whole = async {
        // Nearly every body comes in one piece, which needs no copy.
        let Some(first) = next(&mut body).await? else { return Ok::<_, BodyError>(Bytes::new()) };
        let mut bytes = first;
        let mut joined: Option<BytesMut> = None;
        while let Some(piece) = next(&mut body).await? {
            let all = joined.get_or_insert_with(|| BytesMut::from(&bytes[..]));
            too_large(all.len() + piece.len())?;
            share.grow(all.len() + piece.len())?;
            all.extend_from_slice(&piece);
        }
        if let Some(all) = joined {
            bytes = all.freeze();
        }
        too_large(bytes.len())?;
        share.grow(bytes.len())?;
        Ok(bytes)
    };
    let bytes = tokio::time::timeout(time, whole).await.map_err(|_| BodyError::TooSlow(time))??;
    Ok(Buffered { bytes, share })
}

/// The next piece of data; trailers are read over.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, BodyError> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(_)) => return Err(BodyError::Broken),
        }
    }
}

/// How many bytes of a REST body are JSON, if the request is in the binary extension; then its type says nothing.
pub fn json_length(headers: &HeaderMap) -> Result<Option<usize>, BodyError> {
    let text = |value: &HeaderValue| short(&String::from_utf8_lossy(value.as_bytes()));
    if let Some(encoding) = headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        return Err(BodyError::Encoding(text(encoding)));
    }
    if let Some(length) = headers.get(HEADER_LENGTH) {
        let number = length.to_str().ok().and_then(|length| length.parse().ok());
        return number.map(Some).ok_or_else(|| BodyError::Header(text(length)));
    }
    match headers.get(CONTENT_TYPE) {
        Some(content_type) if !is_json(content_type.as_bytes()) => Err(BodyError::ContentType(text(content_type))),
        _ => Ok(None),
    }
}

/// `application/json`, `application/vnd.x+json`, each with parameters if it likes.
fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let essence = essence.to_ascii_lowercase();
    essence == b"application/json" || (essence.starts_with(b"application/") && essence.ends_with(b"+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_recognised_with_parameters_and_in_any_case() {
        for right in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.kserve+json"] {
            assert!(is_json(right.as_bytes()), "{right}");
        }
        for wrong in ["", "text/json", "application/octet-stream", "application/jsonp", "text/plain"] {
            assert!(!is_json(wrong.as_bytes()), "{wrong}");
        }
    }
}
