//! What a web server says of a file: its head, without its bytes.

use reqwest::header::{AUTHORIZATION, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED};
use reqwest::{Client, Response, StatusCode};
use url::Url;

use super::{Fault, Seen, size};
use crate::ingest::http::{client, shown};
use crate::say;

/// The value of the header `Authorization`, if there is one.
const AUTHORIZATION_ENV: &str = "HTTP_AUTHORIZATION";

pub(super) async fn look(address: &str) -> Result<Seen, Fault> {
    let url = Url::parse(address).map_err(|error| Fault::lasting("BadAddress", format!("no address: {error}")))?;
    let name = shown(&url);
    let client = client().map_err(|error| Fault::passing("Unreachable", say::one_line(&error.without_url())))?;
    let mut answer = ask(&client, false, &url, &name).await?;
    // Some servers know no HEAD; an address that was signed is signed for GET.
    if matches!(answer.status().as_u16(), 400 | 403 | 405 | 501) {
        answer = ask(&client, true, &url, &name).await?;
    }
    let status = answer.status();
    if status.is_success() { found(&name, answer.headers()) } else { refused(&name, status) }
}

async fn ask(client: &Client, get: bool, url: &Url, name: &str) -> Result<Response, Fault> {
    let mut request = if get { client.get(url.clone()) } else { client.head(url.clone()) };
    if let Some(given) = std::env::var(AUTHORIZATION_ENV).ok().filter(|value| !value.is_empty()) {
        let value = HeaderValue::from_str(given.trim());
        let mut value =
            value.map_err(|_| Fault::lasting("BadSecret", format!("{AUTHORIZATION_ENV} is no value of a header")))?;
        // Never logged, and not sent on to another host.
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    let sent = request.send().await;
    sent.map_err(|error| Fault::passing("Unreachable", format!("{name}: {}", say::one_line(&error.without_url()))))
}

/// The `ETag`, as `ingest` gives it as `source_version`; else when the file was last changed, and its length.
fn found(name: &str, headers: &HeaderMap) -> Result<Seen, Fault> {
    let text = |header: HeaderName| headers.get(header).and_then(|value| value.to_str().ok());
    let length = text(reqwest::header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let version = match (text(ETAG), text(LAST_MODIFIED)) {
        (Some(tag), _) => tag.trim_matches('"').to_owned(),
        (None, Some(changed)) => format!("{changed}, {} bytes", length.unwrap_or_default()),
        (None, None) => {
            let message =
                format!("{name}: the server says neither ETag nor Last-Modified, so nobody can tell what is new");
            return Err(Fault::lasting("NoVersion", message));
        }
    };
    Ok(Seen::new(version, length.map_or_else(|| "a file".to_owned(), size)))
}

fn refused(name: &str, status: StatusCode) -> Result<Seen, Fault> {
    let said = format!("{name}: {status}");
    match status.as_u16() {
        404 | 410 => Ok(Seen::nothing()),
        401 | 403 => Err(Fault::lasting(
            "Refused",
            format!(
                "{said}; use an address that needs no sign-in, or name a Secret with {AUTHORIZATION_ENV} in secretRef"
            ),
        )),
        429 | 500..=599 => Err(Fault::passing("ServerError", said)),
        _ => Err(Fault::lasting("BadAddress", format!("{said}; correct the address"))),
    }
}
