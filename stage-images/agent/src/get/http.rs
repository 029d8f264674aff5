//! A file from a web server. A connection that breaks is taken up where it broke, if the server says by a strong ETag that the file is the same.

use std::fs::File;
use std::future::Future;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use millrace_files::digest::Stop;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH,
    IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Client, Response, StatusCode, Url};

use super::address::{self, Names};
use super::{Brought, GetError, LONGEST_VALIDATOR};

const CONNECT: Duration = Duration::from_secs(20);
/// A transfer that stands still is ended. There is no limit for the whole: large files take long.
const STILL: Duration = Duration::from_mins(1);
const REDIRECTS: usize = 10;
/// Tries in a row that brought nothing.
const FRUITLESS: u32 = 5;
/// All tries.
const MOST: u32 = 100;
const PAUSE: Duration = Duration::from_millis(250);
/// How often it is looked whether this is to stop.
const LOOK: Duration = Duration::from_millis(250);
/// A file that was changed no longer ago may be changed again under the same time.
const SETTLED: Duration = Duration::from_mins(1);
/// Begins a validator, by what it is.
const TAG: &str = "etag:";
const TIME: &str = "modified:";
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A file of a web server, and how it is asked for.
pub struct Source<'a> {
    pub address: &'a str,
    /// What an earlier run found.
    known: Option<&'a str>,
    authority: Option<String>,
    authorization: Option<String>,
}

impl<'a> Source<'a> {
    /// The names of the variables with what a Secret has begin with `credentials`.
    pub fn new(address: &'a str, credentials: Option<&str>) -> Self {
        let entry = |name: &str| std::env::var(format!("{}{name}", credentials?)).ok().filter(|text| !text.is_empty());
        Self { address, known: None, authority: entry("ca.crt"), authorization: entry("HTTP_AUTHORIZATION") }
    }

    pub fn known(self, known: Option<&'a str>) -> Self {
        Self { known, ..self }
    }

    fn asker(&self) -> Result<Asker, GetError> {
        let mut authorization = None;
        if let Some(given) = &self.authorization {
            let mut value = HeaderValue::from_str(given.trim())
                .map_err(|_| GetError::last("HTTP_AUTHORIZATION of the Secret is no value of a header"))?;
            value.set_sensitive(true);
            authorization = Some(value);
        }
        Ok(Asker {
            url: address::checked(self.address)?,
            client: client(self.authority.as_deref())?,
            authorization,
            shown: address::shown(self.address),
        })
    }
}

/// Brings the file, and says which version it is, if the server does. Nothing is brought if it is the known one still.
pub fn get(source: &Source<'_>, to: &Path, stop: Stop<'_>) -> Result<Brought, GetError> {
    let asker = source.asker()?;
    let file = File::create(to).map_err(|error| GetError::disk(to, &error))?;
    let mut download = Download { asker, to, file, known: source.known, have: 0, whole: None, version: None };
    until(stop, download.all())
}

/// How many bytes the server says that the file has. It is asked as for the file: some answer that alone.
pub fn size(source: &Source<'_>, stop: Stop<'_>) -> Result<Option<u64>, GetError> {
    let asker = source.asker()?;
    until(stop, async {
        for tried in 1..FRUITLESS {
            match asker.ask(None, None).await {
                Err(error) if !error.last => tokio::time::sleep(pause(tried)).await,
                answer => return Ok(answer?.content_length()),
            }
        }
        Ok(asker.ask(None, None).await?.content_length())
    })
}

/// After so many tries in a row that brought nothing.
fn pause(fruitless: u32) -> Duration {
    (PAUSE * (1 << fruitless)).min(LONGEST_PAUSE)
}

/// Does the work, unless it is to stop.
fn until<T>(stop: Stop<'_>, work: impl Future<Output = Result<T, GetError>>) -> Result<T, GetError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| GetError::passing(format!("failed to begin: {error}")))?;
    let stopped = async {
        while !stop() {
            tokio::time::sleep(LOOK).await;
        }
    };
    runtime.block_on(async {
        match select(pin!(work), pin!(stopped)).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => Err(GetError::passing("stopped while it came")),
        }
    })
}

fn client(authority: Option<&str>) -> Result<Client, GetError> {
    let mut builder = Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(STILL)
        .redirect(Policy::custom(follow))
        .referer(false)
        .dns_resolver(Arc::new(Names))
        .user_agent(concat!("millrace-agent/", env!("CARGO_PKG_VERSION")));
    if let Some(authority) = authority {
        let found = Certificate::from_pem_bundle(authority.as_bytes());
        let found = found.map_err(|error| GetError::last(format!("ca.crt is no certificate in PEM: {error}")))?;
        builder = found.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
    }
    builder.build().map_err(|error| GetError::last(format!("failed to begin: {}", chain(&error))))
}

/// Whoever answers does not lead where the address would not have been taken, nor from TLS to none.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let why = {
        let (from, to) = (attempt.previous().last(), attempt.url());
        let down = from.is_some_and(|from| from.scheme() == "https") && to.scheme() != "https";
        if attempt.previous().len() > REDIRECTS {
            Some(format!("it leads on more than {REDIRECTS} times"))
        } else if down {
            Some(format!(
                "it leads from https to {}, where everybody on the way reads along",
                address::shown(to.as_str())
            ))
        } else {
            address::refused(to)
        }
    };
    match why {
        Some(why) => attempt.error(why),
        None => attempt.follow(),
    }
}

/// Who asks the server.
struct Asker {
    client: Client,
    url: Url,
    authorization: Option<HeaderValue>,
    /// The address, for people.
    shown: String,
}

impl Asker {
    async fn ask(&self, rest: Option<(&Version, u64)>, known: Option<&str>) -> Result<Response, GetError> {
        let mut request = self.client.get(self.url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        if let Some((Version { text, .. }, have)) = rest {
            request = request.header(RANGE, format!("bytes={have}-")).header(IF_RANGE, text);
        }
        let condition = known.filter(|_| rest.is_none()).and_then(condition);
        let conditional = condition.is_some();
        if let Some((name, value)) = condition {
            request = request.header(name, value);
        }
        let answer = request.send().await.map_err(|error| self.broke(&error))?;
        let status = answer.status();
        let fits = status == StatusCode::OK
            || rest.is_some() && matches!(status.as_u16(), 206 | 416)
            || conditional && status == StatusCode::NOT_MODIFIED;
        if fits { Ok(answer) } else { Err(refusal(&self.shown, status)) }
    }

    fn broke(&self, error: &reqwest::Error) -> GetError {
        let said = chain(error);
        let last = error.is_redirect() || said.contains("no request goes there");
        let hint = if said.contains("invalid peer certificate") {
            "; if the authority is one of your own, write its certificate as ca.crt into the Secret of access.secretRef; an input takes access.caConfigMap too"
        } else {
            ""
        };
        GetError { said: format!("GET {}: {said}{hint}", self.shown), last, full: false }
    }
}

/// A file on its way.
struct Download<'a> {
    asker: Asker,
    to: &'a Path,
    file: File,
    /// What an earlier run found.
    known: Option<&'a str>,
    /// Bytes that are here.
    have: u64,
    /// Bytes of the whole, once the server said so.
    whole: Option<u64>,
    version: Option<Version>,
}

/// What the server calls the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    text: String,
    /// The same bytes for sure: a rest may be asked for.
    strong: bool,
    /// So it is in another run too, and not only for this download.
    lasting: bool,
}

impl Version {
    /// By what the server is asked later whether it is the same. None where the bytes may differ.
    fn validator(&self) -> Option<String> {
        let kind = if self.text.starts_with('"') { TAG } else { TIME };
        Some(format!("{kind}{}", self.text)).filter(|text| self.lasting && text.len() <= LONGEST_VALIDATOR)
    }
}

/// What the server is asked. Not by time: servers say 304 of a file that is older than the one that is known, too.
fn condition(known: &str) -> Option<(HeaderName, &str)> {
    known.strip_prefix(TAG).map(|tag| (IF_NONE_MATCH, tag))
}

impl Download<'_> {
    async fn all(&mut self) -> Result<Brought, GetError> {
        let mut fruitless = 0;
        for _ in 0..MOST {
            let before = self.have;
            let error = match self.some().await {
                Ok(true) => return Ok(Brought::Unchanged),
                Ok(false) => {
                    let validator = self.version.as_ref().and_then(Version::validator);
                    let version = self.version.take().map(|version| version.text.trim_matches('"').to_owned());
                    return Ok(Brought::New { version, validator });
                }
                Err(error) if error.last => return Err(error),
                Err(error) => error,
            };
            fruitless = if self.have > before { 0 } else { fruitless + 1 };
            if fruitless >= FRUITLESS {
                return Err(error);
            }
            tokio::time::sleep(pause(fruitless)).await;
        }
        Err(GetError::passing(format!("GET {} broke {MOST} times", self.asker.shown)))
    }

    /// One request, until it ends or breaks. True: it is what was known.
    async fn some(&mut self) -> Result<bool, GetError> {
        let strong = self.version.clone().filter(|version| version.strong);
        let Some(rest) = strong.filter(|_| self.have > 0) else {
            self.begin_anew()?;
            let answer = self.asker.ask(None, self.known).await?;
            // A server that looks at no condition says all the same which version it gives.
            let same = || version(answer.headers()).and_then(|version| version.validator()).as_deref() == self.known;
            if answer.status() == StatusCode::NOT_MODIFIED || self.known.is_some() && same() {
                return Ok(true);
            }
            return self.take(answer).await.map(|()| false);
        };
        let answer = self.asker.ask(Some((&rest, self.have)), None).await?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT if self.goes_on(answer.headers()) => self.take(answer).await.map(|()| false),
            // It is another file by now, or the server gives no parts.
            StatusCode::OK => {
                self.begin_anew()?;
                self.take(answer).await.map(|()| false)
            }
            _ => {
                self.version = None;
                Err(GetError::passing(format!("GET {}: the server gives no rest of what it began", self.asker.shown)))
            }
        }
    }

    /// Whether a part begins where the last one ended, in a whole of the same size.
    fn goes_on(&self, headers: &HeaderMap) -> bool {
        let Some((first, whole)) = text(headers, CONTENT_RANGE).and_then(range) else { return false };
        first == self.have && (self.whole.is_none() || whole.is_none() || self.whole == whole)
    }

    fn begin_anew(&mut self) -> Result<(), GetError> {
        (self.have, self.whole, self.version) = (0, None, None);
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)).map(drop));
        emptied.map_err(|error| GetError::disk(self.to, &error))
    }

    async fn take(&mut self, mut answer: Response) -> Result<(), GetError> {
        if self.have == 0 {
            self.version = version(answer.headers());
            self.whole = answer.content_length();
        }
        while let Some(bytes) = answer.chunk().await.map_err(|error| self.asker.broke(&error))? {
            self.file.write_all(&bytes).map_err(|error| GetError::disk(self.to, &error))?;
            self.have += bytes.len() as u64;
        }
        match self.whole {
            Some(whole) if whole != self.have => {
                Err(GetError::passing(format!("GET {}: {} of {whole} bytes came", self.asker.shown, self.have)))
            }
            _ => Ok(()),
        }
    }
}

/// The version that the server gives the file: its ETag, else when it was changed last.
fn version(headers: &HeaderMap) -> Option<Version> {
    if let Some(tag) = text(headers, ETAG) {
        let strong = tag.starts_with('"');
        return Some(Version { text: tag.strip_prefix("W/").unwrap_or(tag).to_owned(), strong, lasting: strong });
    }
    let changed = text(headers, LAST_MODIFIED)?;
    // Within the same second it may have been changed again.
    let date = text(headers, DATE);
    let strong = date.is_some_and(|date| date != changed);
    let lasting = date.is_some_and(|date| is_settled(changed, date));
    Some(Version { text: changed.to_owned(), strong, lasting })
}

/// The file had been as it is for so long that a clock that is a little wrong makes no difference (RFC 9110, 8.8.2.2).
fn is_settled(changed: &str, date: &str) -> bool {
    let at = |text| httpdate::parse_http_date(text).ok();
    let age = at(date).zip(at(changed)).and_then(|(date, changed)| date.duration_since(changed).ok());
    age.is_some_and(|age| age >= SETTLED)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The first byte of a part, and the size of the whole: `bytes 5-9/10`.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, whole.parse().ok()))
}

fn refusal(shown: &str, status: StatusCode) -> GetError {
    let said = |what: &str| format!("GET {shown}: {status}; {what}");
    match status.as_u16() {
        401 | 403 => GetError::last(said(
            "use an address that needs no sign-in, or name a Secret with HTTP_AUTHORIZATION in access.secretRef",
        )),
        404 | 410 => GetError::last(said("nothing is there: correct the address")),
        408 | 425 | 429 | 500..=599 => GetError::passing(said("the server may do better later")),
        _ => GetError::last(said("correct the address")),
    }
}

/// The error with its causes in one line, each once, and without the address, which may hold secrets.
fn chain(error: &reqwest::Error) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    let mut all = if error.is_redirect() {
        "it leads elsewhere".to_owned()
    } else if error.is_timeout() {
        "it took too long".to_owned()
    } else if error.is_connect() {
        "no connection".to_owned()
    } else {
        "the transfer broke".to_owned()
    };
    while let Some(found) = cause {
        let words = found.to_string();
        if !all.contains(&words) {
            all = format!("{all}: {words}");
        }
        cause = found.source();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_version_is_strong_where_the_bytes_are_the_same_for_sure() {
        let found = |all: &[(&'static str, &str)]| version(&headers(all)).map(|version| (version.text, version.strong));
        assert_eq!(found(&[("etag", "\"a\"")]), Some(("\"a\"".into(), true)));
        assert_eq!(found(&[("etag", "W/\"a\"")]), Some(("\"a\"".into(), false)));
        let time = "Sun, 22 Nov 2026 14:00:00 GMT";
        assert_eq!(found(&[("last-modified", time), ("date", time)]), Some((time.into(), false)));
        let later = "Sun, 22 Nov 2026 14:00:09 GMT";
        assert_eq!(found(&[("last-modified", time), ("date", later)]), Some((time.into(), true)));
        assert_eq!(found(&[("last-modified", time)]), Some((time.into(), false)));
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn a_part_says_where_it_begins() {
        assert_eq!(range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(range("bytes */10"), None);
        assert_eq!(range("lines 5-9/10"), None);
    }
}
