//! Fetches a file by HTTP into a folder, with a few more tries where that can help.

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use tokio::io::AsyncWriteExt;
use url::Url;

use super::source::{SourceError, SourceFile, check_size};

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("parameter source: {address} is no address")]
    Address {
        address: String,
        #[source]
        source: url::ParseError,
    },
    #[error("failed to start the HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("GET {name}: {status}; {remedy}")]
    Status { name: String, status: StatusCode, remedy: &'static str },
    #[error("GET {name} failed after {tries} tries")]
    Transfer {
        name: String,
        tries: u32,
        #[source]
        source: reqwest::Error,
    },
    #[error("failed to write what was fetched from {name}")]
    Write {
        name: String,
        #[source]
        source: std::io::Error,
    },
}

const TRIES: u32 = 4;

/// Fetches `address` into `folder`. The file and its `ETag`.
pub async fn fetch(
    address: &str,
    folder: &Path,
    limit: Option<u64>,
) -> Result<(SourceFile, Option<String>), SourceError> {
    let url = Url::parse(address).map_err(|source| HttpError::Address { address: without_secrets(address), source })?;
    let name = shown(&url);
    let client = client().map_err(HttpError::Client)?;
    let path = folder.join("source");
    let mut tries = 1;
    loop {
        let error = match attempt(&client, &url, &name, &path, limit).await {
            Ok(version) => return Ok((SourceFile { name, path }, version)),
            Err(SourceError::Http(error)) if tries < TRIES && may_pass(&error) => error,
            Err(SourceError::Http(HttpError::Transfer { name, source, .. })) => {
                return Err(HttpError::Transfer { name, tries, source: source.without_url() }.into());
            }
            Err(error) => return Err(error),
        };
        crate::say::line(format!("{}: trying again", crate::say::one_line(&error)));
        tokio::time::sleep(Duration::from_millis(250 << tries)).await;
        tries += 1;
    }
}

pub fn client() -> reqwest::Result<Client> {
    Client::builder()
        .connect_timeout(Duration::from_secs(20))
        // No limit for the whole: large files take long. A transfer that stands still is ended.
        .read_timeout(Duration::from_mins(1))
        .user_agent(concat!("millrace-data/", env!("CARGO_PKG_VERSION")))
        .build()
}

async fn attempt(
    client: &Client,
    url: &Url,
    name: &str,
    path: &Path,
    limit: Option<u64>,
) -> Result<Option<String>, SourceError> {
    let transfer =
        |source: reqwest::Error| HttpError::Transfer { name: name.into(), tries: 1, source: source.without_url() };
    let write = |source| HttpError::Write { name: name.into(), source };
    let mut response = client.get(url.clone()).send().await.map_err(transfer)?;
    let status = response.status();
    if !status.is_success() {
        return Err(HttpError::Status { name: name.into(), status, remedy: remedy(status) }.into());
    }
    if let Some(length) = response.content_length() {
        check_size(name, length, limit)?;
    }
    let version = response
        .headers()
        .get(reqwest::header::ETAG)
        .and_then(|tag| tag.to_str().ok())
        .map(|tag| tag.trim_matches('"').to_owned());
    let mut file = tokio::fs::File::create(path).await.map_err(write)?;
    let mut total = 0;
    while let Some(chunk) = response.chunk().await.map_err(transfer)? {
        total += chunk.len() as u64;
        check_size(name, total, limit)?;
        file.write_all(&chunk).await.map_err(write)?;
    }
    file.flush().await.map_err(write)?;
    Ok(version)
}

/// Whether the same request may do better a moment later.
fn may_pass(error: &HttpError) -> bool {
    match error {
        HttpError::Transfer { .. } => true,
        HttpError::Status { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
        HttpError::Address { .. } | HttpError::Client(_) | HttpError::Write { .. } => false,
    }
}

fn remedy(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => "the server refuses access: use an address that needs no sign-in, or a signed one",
        404 | 410 => "nothing is there: correct the address",
        429 => "the server asks for fewer requests: run it again later",
        500..=599 => "the server has a fault: run it again later",
        _ => "correct the address",
    }
}

/// An address for people and logs: without user, password and query, which may hold secrets.
pub fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // Fails only for addresses that can have no user at all.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    shown.to_string()
}

/// The same for what is no address.
fn without_secrets(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_an_address_are_not_shown() {
        let url = Url::parse("https://me:secret@host/data.csv?signature=secret#x").unwrap();
        assert_eq!(shown(&url), "https://host/data.csv");
        assert_eq!(without_secrets("http://me:secret@ho st/x?y"), "http://ho st/x");
    }
}
