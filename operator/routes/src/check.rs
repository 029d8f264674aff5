//! What the types of the document cannot say.

use std::collections::BTreeSet;

use crate::document::{HeaderRule, Model, Revision, Routes};
use crate::log::{Log, Sink};
use crate::query::Query;
use crate::security::{Auth, Entry, Jwks, Per, Security};
use crate::stream::Stream;

/// Why a document was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RoutesError {
    #[error("failed to read the routes")]
    Json(#[source] serde_json::Error),
    #[error("the routes are not right")]
    Wrong(#[source] Problem),
}

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {says}")]
pub struct Problem {
    /// Such as `models[penguins].port`.
    pub at: String,
    pub says: String,
}

impl Routes {
    /// A document that was checked.
    pub fn parse(json: &[u8]) -> Result<Self, RoutesError> {
        let routes: Self = serde_json::from_slice(json).map_err(RoutesError::Json)?;
        routes.check().map_err(RoutesError::Wrong)?;
        Ok(routes)
    }

    pub fn check(&self) -> Result<(), Problem> {
        let (mut names, mut ports) = (BTreeSet::new(), BTreeSet::new());
        for model in &self.models {
            let at = |field: &str| format!("models[{}].{field}", model.name);
            ensure(is_name(&model.name), || at("name"), "must be lower-case letters, digits, - and .")?;
            ensure(names.insert(&model.name), || at("name"), "is there twice")?;
            ensure(model.port != 0, || at("port"), "must not be 0")?;
            ensure(ports.insert(model.port), || at("port"), "is another model's port too")?;
            model.check(&at)?;
        }
        Ok(())
    }
}

impl Model {
    fn check(&self, at: &dyn Fn(&str) -> String) -> Result<(), Problem> {
        let mut names = BTreeSet::new();
        for revision in &self.revisions {
            let at = |field: &str| at(&format!("revisions[{}].{field}", revision.name));
            ensure(names.insert(revision.name.as_str()), || at("name"), "is there twice")?;
            revision.check(&at)?;
        }
        for (i, HeaderRule { header, value, revision }) in self.headers.iter().enumerate() {
            let at = |field: &str| at(&format!("headers[{i}].{field}"));
            ensure(is_token(header), || at("header"), "is not the name of a header")?;
            ensure(value.bytes().all(|b| (b' '..=b'~').contains(&b)), || at("value"), "must be printable ASCII")?;
            ensure(names.contains(revision.as_str()), || at("revision"), "is not one of the revisions")?;
        }
        if let Some(sticky) = &self.sticky {
            ensure(is_token(&sticky.header), || at("sticky.header"), "is not the name of a header")?;
        }
        if let Some(shadow) = &self.shadow {
            ensure(names.contains(shadow.revision.as_str()), || at("shadow.revision"), "is not one of the revisions")?;
            ensure(shadow.sample > 0.0 && shadow.sample <= 1.0, || at("shadow.sample"), "must be over 0 and up to 1")?;
        }
        ensure(self.queue.timeout_ms > 0, || at("queue.timeoutMs"), "must not be 0")?;
        ensure(self.limits.answer_ms != Some(0), || at("limits.answerMs"), "must not be 0")?;
        ensure(self.queries.len() <= Query::MOST, || at("queries"), "must not be more than 32")?;
        for query in &self.queries {
            query.check(&|field: &str| at(&format!("queries[{}].{field}", query.id)))?;
        }
        if let Some(log) = &self.log {
            log.check(&|field: &str| at(&format!("log.{field}")))?;
        }
        if let Some(stream) = &self.stream {
            stream.check(&|field: &str| at(&format!("stream.{field}")))?;
        }
        if let Some(graph) = &self.graph {
            graph.check(&|field: &str| at(&format!("graph.{field}")))?;
        }
        self.security
            .as_ref()
            .map_or(Ok(()), |security| security.check(&|field: &str| at(&format!("security.{field}"))))
    }
}

impl Security {
    fn check(&self, at: &dyn Fn(&str) -> String) -> Result<(), Problem> {
        const NAME: &str = "must be the name of a Secret or ConfigMap";
        if let Some(tls) = &self.tls {
            ensure(is_folder(&tls.secret), || at("tls.secret"), NAME)?;
        }
        match &self.auth {
            None | Some(Auth::Nobody) => {}
            Some(Auth::ApiKeys(keys)) => ensure(is_folder(&keys.secret), || at("auth.apiKeys.secret"), NAME)?,
            Some(Auth::Jwt(jwt)) => {
                ensure(!jwt.issuer.is_empty(), || at("auth.jwt.issuer"), "must not be empty")?;
                ensure(!jwt.audiences.is_empty(), || at("auth.jwt.audiences"), "must not be empty")?;
                let at = |field: &str| at(&format!("auth.jwt.{field}"));
                match &jwt.jwks {
                    Jwks::Entry(entry) => mounted("jwks", entry, &at)?,
                    Jwks::Published(published) => {
                        let fault = published.fault();
                        ensure(fault.is_none(), || at("jwks.uri"), fault.unwrap_or_default())?;
                        published.ca.as_ref().map_or(Ok(()), |ca| mounted("jwks.ca", ca, &at))?;
                    }
                }
            }
        }
        let Some(rate) = &self.rate else { return Ok(()) };
        let right = rate.per_second.is_finite() && rate.per_second > 0.0;
        ensure(right, || at("rate.perSecond"), "must be over 0")?;
        ensure(rate.burst > 0, || at("rate.burst"), "must not be 0")?;
        let known = rate.per == Per::Model || self.auth.is_some();
        ensure(known, || at("rate.per"), "cannot be Caller without auth: nobody knows who asks")
    }
}

impl Query {
    fn check(&self, at: &dyn Fn(&str) -> String) -> Result<(), Problem> {
        let Self { id, address, query, token, ca } = self;
        let named = !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric());
        ensure(named, || at("id"), "must be letters and digits")?;
        dialled(address, at)?;
        ensure(!query.is_empty() && query.len() <= Self::LONGEST, || at("query"), "must not be empty or too long")?;
        trusted(address, token.as_ref(), ca.as_ref(), at)
    }
}

impl Log {
    fn check(&self, at: &dyn Fn(&str) -> String) -> Result<(), Problem> {
        let Self { namespace, model, versions: _, digests: _, sampling, body_bytes, sink } = self;
        ensure(is_name(namespace), || at("namespace"), "must be lower-case letters, digits, - and .")?;
        ensure(is_name(model), || at("model"), "must be lower-case letters, digits, - and .")?;
        ensure(*sampling > 0.0 && *sampling <= 1.0, || at("sampling"), "must be over 0 and up to 1")?;
        ensure(*body_bytes <= Self::LONGEST_BODY, || at("bodyBytes"), "must not be more than 1048576")?;
        let Sink { address, batched: _, tells: _, token, ca } = sink;
        let at = |field: &str| at(&format!("sink.{field}"));
        dialled(address, &at)?;
        trusted(address, token.as_ref(), ca.as_ref(), &at)
    }
}

impl Stream {
    fn check(&self, at: &dyn Fn(&str) -> String) -> Result<(), Problem> {
        let Self { id, brokers, input, output, dead_letters, group, latest: _, tls, sasl, path, in_flight } = self;
        ensure(!id.is_empty(), || at("id"), "must not be empty")?;
        ensure(!brokers.is_empty(), || at("brokers"), "must not be empty")?;
        for broker in brokers {
            ensure(is_broker(broker), || at("brokers"), "must be HOST:PORT each")?;
        }
        for (field, topic) in [
            ("input", Some(input)),
            ("output", Some(output)),
            ("deadLetters", dead_letters.as_ref()),
            ("group", Some(group)),
        ] {
            let named = topic.is_none_or(|topic| is_topic(topic));
            ensure(named, || at(field), "must be 1 to 249 letters, digits, ., _ and -")?;
        }
        ensure(input != output, || at("output"), "must be another topic than input")?;
        let apart = dead_letters.as_ref().is_none_or(|letters| letters != input && letters != output);
        ensure(apart, || at("deadLetters"), "must be another topic than input and output")?;
        if let Some(ca) = tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
            mounted("tls.ca", ca, at)?;
        }
        if let Some(sasl) = sasl {
            ensure(is_folder(&sasl.secret), || at("sasl.secret"), "must be the name of a Secret")?;
        }
        let plain = path.starts_with('/') && path.bytes().all(|b| (b'!'..=b'~').contains(&b));
        ensure(plain, || at("path"), "must begin with / and have neither spaces nor control characters")?;
        ensure((1..=Self::MOST).contains(in_flight), || at("inFlight"), "must be from 1 to 512")
    }
}

fn is_broker(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let named =
        !host.is_empty() && host.len() <= 253 && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    named && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// The name of a topic, or of a group.
fn is_topic(text: &str) -> bool {
    (1..=249).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// An address that a router may be told to dial. A query or a fragment would swallow what is asked, and a user is a secret in a place for none.
fn dialled(address: &str, at: &dyn Fn(&str) -> String) -> Result<(), Problem> {
    let known = address.starts_with("http://") || address.starts_with("https://");
    let plain =
        address.len() <= Query::LONGEST && address.bytes().all(|b| (b'!'..=b'~').contains(&b) && !b"?#@".contains(&b));
    let says = "must begin with http:// or https://, without user, query and fragment";
    ensure(known && plain, || at("address"), says)
}

/// What an address is trusted by, and what it is told.
fn trusted(
    address: &str,
    token: Option<&Entry>,
    ca: Option<&Entry>,
    at: &dyn Fn(&str) -> String,
) -> Result<(), Problem> {
    let https = address.starts_with("https://");
    ensure(https == ca.is_some(), || at("ca"), "must be there for https, and for nothing else")?;
    ensure(https || token.is_none(), || at("token"), "must not go over a connection that others may read")?;
    for (field, entry) in [("token", token), ("ca", ca)] {
        let Some(entry) = entry else { continue };
        mounted(field, entry, at)?;
    }
    Ok(())
}

/// An entry whose object and key are a folder and a file.
fn mounted(field: &str, entry: &Entry, at: &dyn Fn(&str) -> String) -> Result<(), Problem> {
    ensure(is_folder(&entry.name), || at(&format!("{field}.name")), "must be the name of a Secret or ConfigMap")?;
    ensure(is_file(&entry.key), || at(&format!("{field}.key")), "must be a key of a Secret or ConfigMap")
}

impl Revision {
    fn check(&self, at: &dyn Fn(&str) -> String) -> Result<(), Problem> {
        ensure(is_name(&self.name), || at("name"), "must be lower-case letters, digits, - and .")?;
        ensure(is_name(&self.service), || at("service"), "must be lower-case letters, digits, - and .")?;
        ensure(self.port != 0, || at("port"), "must not be 0")?;
        ensure(self.concurrency != Some(0), || at("concurrency"), "must not be 0")?;
        if let Some(deployment) = &self.deployment {
            ensure(is_name(deployment), || at("deployment"), "must be lower-case letters, digits, - and .")?;
        }
        let path = self.ready_path.as_deref().unwrap_or("/");
        // It is written into a request as it is.
        let plain = path.starts_with('/') && path.bytes().all(|b| (b'!'..=b'~').contains(&b));
        ensure(plain, || at("readyPath"), "must begin with / and have neither spaces nor control characters")
    }
}

pub(crate) fn ensure(right: bool, at: impl FnOnce() -> String, says: &str) -> Result<(), Problem> {
    if right { Ok(()) } else { Err(Problem { at: at(), says: says.to_owned() }) }
}

/// A name of Kubernetes (RFC 1123 subdomain).
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 253 && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
}

/// A name that is a folder's too, and none above it.
fn is_folder(text: &str) -> bool {
    is_name(text) && !text.starts_with('.')
}

/// A key of a Secret that is a file's name too.
fn is_file(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    !text.is_empty() && text.len() <= 253 && !text.starts_with('.') && text.bytes().all(plain)
}

/// The name of a header (RFC 9110, token).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"models": [{"name": "penguins", "port": 9001,
        "revisions": [{"name": "a", "service": "penguins-a", "port": 8080, "weight": 95, "concurrency": 4,
                       "deployment": "penguins-a", "readyPath": "/v2/health/ready", "protocol": "Http1"},
                      {"name": "b", "service": "penguins-b", "port": 8080, "weight": 5}],
        "headers": [{"header": "x-model", "value": "next", "revision": "b"}],
        "sticky": {"header": "x-user"}, "shadow": {"revision": "b", "sample": 0.5},
        "queue": {"max": 10, "timeoutMs": 1000}, "limits": {"bodyBytes": 1000}}]}"#;

    #[test]
    fn a_full_document_is_read_and_written_alike() {
        let routes = Routes::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(routes.models[0].revisions[1].protocol, crate::Protocol::Auto);
        assert_eq!(routes.models[0].shadow.as_ref().unwrap().body_bytes, 1 << 20);
        let again = Routes::parse(&serde_json::to_vec(&routes).unwrap()).unwrap();
        assert_eq!(again, routes);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let cases = [
            (r#""port": 9001"#, r#""port": 0"#, "models[penguins].port: must not be 0"),
            (r#""name": "b""#, r#""name": "a""#, "models[penguins].revisions[a].name: is there twice"),
            (r#""concurrency": 4"#, r#""concurrency": 0"#, "models[penguins].revisions[a].concurrency: must not be 0"),
            (
                r#""value": "next""#,
                "\"value\": \"n\u{fc}\"",
                "models[penguins].headers[0].value: must be printable ASCII",
            ),
            (
                r#""header": "x-user""#,
                r#""header": "x user""#,
                "models[penguins].sticky.header: is not the name of a header",
            ),
            (r#""sample": 0.5"#, r#""sample": 1.5"#, "models[penguins].shadow.sample: must be over 0 and up to 1"),
            (
                r#""next", "revision": "b""#,
                r#""next", "revision": "c""#,
                "models[penguins].headers[0].revision: is not one of the revisions",
            ),
            (r#""timeoutMs": 1000"#, r#""timeoutMs": 0"#, "models[penguins].queue.timeoutMs: must not be 0"),
            (
                "/v2/health/ready",
                "/a b",
                "models[penguins].revisions[a].readyPath: must begin with / and have neither spaces nor control characters",
            ),
        ];
        for (from, to, expected) in cases {
            assert!(GOOD.contains(from), "{from}");
            let Err(RoutesError::Wrong(problem)) = Routes::parse(GOOD.replacen(from, to, 1).as_bytes()) else {
                panic!("{to} was taken");
            };
            assert_eq!(problem.to_string(), expected);
        }
    }

    #[test]
    fn what_is_asked_of_callers_is_read_and_what_is_wrong_of_it_named() {
        let with = |security: &str| {
            Routes::parse(GOOD.replacen(r#""limits""#, &format!(r#""security": {security}, "limits""#), 1).as_bytes())
        };
        let full = r#"{"id": "1", "tls": {"secret": "cert"}, "rate": {"perSecond": 0.5, "burst": 2, "per": "Caller"},
            "auth": {"jwt": {"issuer": "i", "audiences": ["a"], "jwks": {"of": "ConfigMap", "name": "keys", "key": "jwks.json"}}}}"#;
        let routes = with(full).unwrap();
        assert_eq!(Routes::parse(&serde_json::to_vec(&routes).unwrap()).unwrap(), routes);
        let cases = [
            (
                r#"{"id": "1", "tls": {"secret": ".."}}"#.to_owned(),
                "tls.secret: must be the name of a Secret or ConfigMap",
            ),
            (
                r#"{"id": "1", "auth": {"apiKeys": {"secret": "a/b"}}}"#.to_owned(),
                "auth.apiKeys.secret: must be the name",
            ),
            (full.replace("jwks.json", "../x"), "auth.jwt.jwks.key: must be a key"),
            (full.replace("0.5", "0"), "rate.perSecond: must be over 0"),
            (
                r#"{"id": "1", "rate": {"perSecond": 1, "burst": 1, "per": "Caller"}}"#.to_owned(),
                "rate.per: cannot be Caller",
            ),
        ];
        for (security, expected) in cases {
            let Err(RoutesError::Wrong(problem)) = with(&security) else { panic!("{security} was taken") };
            assert!(problem.to_string().starts_with(&format!("models[penguins].security.{expected}")), "{problem}");
        }
    }

    #[test]
    fn where_an_issuer_publishes_its_keys_is_read_and_what_is_wrong_of_it_named() {
        let with = |jwks: &str| {
            let auth = format!(r#"{{"jwt": {{"issuer": "i", "audiences": ["a"], "jwks": {jwks}}}}}"#);
            let security = format!(r#""security": {{"id": "1", "auth": {auth}}}, "limits""#);
            Routes::parse(GOOD.replacen(r#""limits""#, &security, 1).as_bytes())
        };
        let full = r#"{"uri": "https://issuer.example:8443/a/keys@b?p=c", "ca": {"of": "ConfigMap", "name": "c", "key": "ca.crt"}}"#;
        let routes = with(full).unwrap();
        assert_eq!(Routes::parse(&serde_json::to_vec(&routes).unwrap()).unwrap(), routes);
        assert!(with(r#"{"uri": "https://issuer"}"#).is_ok());
        for (from, to, expected) in [
            ("https://", "http://", "jwks.uri: must begin with https://"),
            ("issuer.example:8443", "", "jwks.uri: must name a host"),
            ("issuer.example", "user:word@issuer", "jwks.uri: must name a host"),
            ("issuer.example", "user@issuer", "jwks.uri: must name a host"),
            ("8443", "70000", "jwks.uri: must have a port from 1 to 65535"),
            ("8443", "", "jwks.uri: must have a port from 1 to 65535"),
            ("?p=c", "#p", "jwks.uri: must be at most 512 printable characters"),
            ("keys", "k eys", "jwks.uri: must be at most 512 printable characters"),
            (r#""name": "c""#, r#""name": "../c""#, "jwks.ca.name: must be the name"),
            ("ca.crt", "a/b", "jwks.ca.key: must be a key"),
        ] {
            assert!(full.contains(from), "{from}");
            let Err(RoutesError::Wrong(problem)) = with(&full.replacen(from, to, 1)) else { panic!("{to} was taken") };
            let expected = format!("models[penguins].security.auth.jwt.{expected}");
            assert!(problem.to_string().starts_with(&expected), "{problem}");
        }
        for unknown in [r#"{"uri": "https://i", "name": "n"}"#, "{}", r#"{"of": "Secret", "name": "n"}"#] {
            assert!(matches!(with(unknown), Err(RoutesError::Json(_))), "{unknown}");
        }
    }

    #[test]
    fn a_query_is_read_and_what_is_wrong_of_it_named() {
        let with = |query: &str| {
            Routes::parse(GOOD.replacen(r#""limits""#, &format!(r#""queries": [{query}], "limits""#), 1).as_bytes())
        };
        let full = r#"{"id": "1a", "address": "https://prometheus:9090/p", "query": "up",
            "token": {"of": "Secret", "name": "t", "key": "k"}, "ca": {"of": "ConfigMap", "name": "c", "key": "ca.crt"}}"#;
        let routes = with(full).unwrap();
        assert_eq!(Routes::parse(&serde_json::to_vec(&routes).unwrap()).unwrap(), routes);
        for (from, to, expected) in [
            (r#""1a""#, r#""""#, "queries[].id: must be"),
            ("https://prom", "ftp://prom", "queries[1a].address: must begin"),
            ("https://prom", "https://user:word@prom", "queries[1a].address: must begin"),
            ("9090/p", "9090/p?a=b", "queries[1a].address: must begin"),
            (r#""up""#, r#""""#, "queries[1a].query: must not be empty"),
            ("https://", "http://", "queries[1a].ca: must be there for https"),
            (r#""name": "t""#, r#""name": "../t""#, "queries[1a].token.name: must be the name"),
            ("ca.crt", "a/b", "queries[1a].ca.key: must be a key"),
        ] {
            let Err(RoutesError::Wrong(problem)) = with(&full.replacen(from, to, 1)) else { panic!("{to} was taken") };
            assert!(problem.to_string().starts_with(&format!("models[penguins].{expected}")), "{problem}");
        }
        let plain =
            r#"{"id": "1", "address": "http://p", "query": "up", "token": {"of": "Secret", "name": "t", "key": "k"}}"#;
        let Err(RoutesError::Wrong(problem)) = with(plain) else { panic!("a token in the open was taken") };
        assert!(problem.to_string().contains("token: must not go over"), "{problem}");
        let many = (0..33).map(|i| format!(r#"{{"id": "{i}", "address": "http://p", "query": "up"}}"#));
        assert!(with(&many.collect::<Vec<_>>().join(",")).is_err());
    }

    #[test]
    fn a_log_is_read_and_what_is_wrong_of_it_named() {
        let with = |log: &str| {
            Routes::parse(GOOD.replacen(r#""limits""#, &format!(r#""log": {log}, "limits""#), 1).as_bytes())
        };
        let full = r#"{"namespace": "team", "model": "penguins", "versions": {"a": 1}, "digests": {"b": "sha256:1"}, "sampling": 0.01, "bodyBytes": 65536,
            "sink": {"address": "https://sink:8443/events", "batched": true,
                     "token": {"of": "Secret", "name": "t", "key": "k"}, "ca": {"of": "ConfigMap", "name": "c", "key": "ca.crt"}}}"#;
        let routes = with(full).unwrap();
        assert_eq!(Routes::parse(&serde_json::to_vec(&routes).unwrap()).unwrap(), routes);
        for (from, to, expected) in [
            ("0.01", "0", "log.sampling: must be over 0"),
            ("65536", "1048577", "log.bodyBytes: must not be more"),
            ("https://sink", "https://user:word@sink", "log.sink.address: must begin"),
            ("https://", "http://", "log.sink.ca: must be there for https"),
            (r#""name": "t""#, r#""name": "../t""#, "log.sink.token.name: must be the name"),
        ] {
            let Err(RoutesError::Wrong(problem)) = with(&full.replacen(from, to, 1)) else { panic!("{to} was taken") };
            assert!(problem.to_string().starts_with(&format!("models[penguins].{expected}")), "{problem}");
        }
    }

    #[test]
    fn a_stream_is_read_and_what_is_wrong_of_it_named() {
        let with = |stream: &str| {
            Routes::parse(GOOD.replacen(r#""limits""#, &format!(r#""stream": {stream}, "limits""#), 1).as_bytes())
        };
        let full = r#"{"id": "1", "brokers": ["kafka-0.kafka:9092"], "input": "in", "output": "out", "deadLetters": "dead",
            "group": "millrace.team.m", "latest": true, "path": "/v2/models/m/infer", "inFlight": 32,
            "tls": {"ca": {"of": "ConfigMap", "name": "c", "key": "ca.crt"}}, "sasl": {"mechanism": "ScramSha512", "secret": "user"}}"#;
        let routes = with(full).unwrap();
        assert_eq!(Routes::parse(&serde_json::to_vec(&routes).unwrap()).unwrap(), routes);
        for (from, to, expected) in [
            (r#"["kafka-0.kafka:9092"]"#, "[]", "brokers: must not be empty"),
            ("kafka-0.kafka:9092", "kafka", "brokers: must be HOST:PORT"),
            ("kafka-0.kafka:9092", "kafka:0", "brokers: must be HOST:PORT"),
            ("kafka-0.kafka:9092", "user@kafka:1", "brokers: must be HOST:PORT"),
            (r#""in""#, r#""a b""#, "input: must be 1 to 249"),
            (r#""out""#, r#""in""#, "output: must be another topic"),
            (r#""dead""#, r#""out""#, "deadLetters: must be another topic"),
            ("/v2/models/m/infer", "v2", "path: must begin with /"),
            (r#""inFlight": 32"#, r#""inFlight": 0"#, "inFlight: must be from 1"),
            (r#""user""#, r#""../user""#, "sasl.secret: must be the name"),
            ("ca.crt", "a/b", "tls.ca.key: must be a key"),
        ] {
            let Err(RoutesError::Wrong(problem)) = with(&full.replacen(from, to, 1)) else { panic!("{to} was taken") };
            assert!(problem.to_string().starts_with(&format!("models[penguins].stream.{expected}")), "{problem}");
        }
    }

    #[test]
    fn two_models_on_a_port_are_refused() {
        let text = |json: &str| match Routes::parse(json.as_bytes()) {
            Err(RoutesError::Wrong(problem)) => problem.to_string(),
            other => panic!("{other:?}"),
        };
        let two = r#"{"models": [{"name": "a", "port": 9001, "revisions": []}, {"name": "b", "port": 9001, "revisions": []}]}"#;
        assert_eq!(text(two), "models[b].port: is another model's port too");
    }

    #[test]
    fn a_field_that_is_not_known_is_refused_with_its_name() {
        let json = GOOD.replace("timeoutMs", "timeout");
        let Err(RoutesError::Json(error)) = Routes::parse(json.as_bytes()) else { panic!("it was taken") };
        assert!(error.to_string().contains("unknown field `timeout`"), "{error}");
    }
}
