//! Who is let in at the router and how fast, as the document of routes has it.

use serde::{Deserialize, Serialize};

/// Where the Secrets and ConfigMaps that the routes name are mounted into the routers' pods.
pub const MOUNTED: &str = "/run/millrace";

/// What a model asks of its callers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Security {
    /// Names these settings: the router says which ones it has in force.
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// The port speaks TLS and nothing else, with `tls.crt` and `tls.key` of this Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Tls {
    pub secret: String,
}

/// What shows who a caller is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Auth {
    ApiKeys(ApiKeys),
    Jwt(Jwt),
    /// Nobody is let in: what was asked for makes no sense.
    Nobody,
}

/// Each entry of the Secret is a caller's name and key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ApiKeys {
    pub secret: String,
}

/// Tokens of one issuer for one of these audiences, signed by a key of the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Jwt {
    pub issuer: String,
    pub audiences: Vec<String>,
    pub jwks: Jwks,
}

/// Where the issuer's keys are. What is mounted is written as before there was anything else: routers of that time read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Jwks {
    Entry(Entry),
    Published(Published),
}

/// Where the issuer publishes them: the router fetches them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Published {
    pub uri: String,
    /// The certificate authority of the address. None: the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Entry>,
}

impl Published {
    pub const LONGEST: usize = 512;

    /// What of the address a router cannot use, with what to write.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        let Some(rest) = self.uri.strip_prefix("https://") else { return Some("must begin with https://") };
        if self.uri.len() > Self::LONGEST || !rest.bytes().all(|b| (b'!'..=b'~').contains(&b) && b != b'#') {
            return Some("must be at most 512 printable characters, without a fragment");
        }
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
        let named = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
        if !named || authority.contains('@') {
            return Some("must name a host after https://, and no user");
        }
        let known = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        (!known).then_some("must have a port from 1 to 65535, or none")
    }
}

/// An entry of a mounted Secret or ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Entry {
    pub of: Source,
    pub name: String,
    pub key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Source {
    Secret,
    ConfigMap,
}

impl Source {
    /// Its kind, for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }

    /// The folder below [`MOUNTED`] where the one of this name is for this use. Each use has its own: a folder that is missing tells that
    /// the pod was made before it was asked for, which one that is there for another entry would not.
    #[must_use]
    pub fn folder(self, name: &str, usage: Use<'_>) -> String {
        let objects = match self {
            Self::Secret => "secrets",
            Self::ConfigMap => "configmaps",
        };
        match usage {
            Use::Tls => format!("{objects}/{name}/tls"),
            Use::ApiKeys => format!("{objects}/{name}/keys"),
            Use::Jwks(key) => format!("{objects}/{name}/jwks/{key}"),
            Use::Issuer(key) => format!("{objects}/{name}/issuer/{key}"),
            Use::Prometheus(key) => format!("{objects}/{name}/prometheus/{key}"),
            Use::Log(key) => format!("{objects}/{name}/log/{key}"),
            Use::Broker(key) => format!("{objects}/{name}/broker/{key}"),
            Use::Sasl => format!("{objects}/{name}/sasl"),
        }
    }
}

/// What an object is mounted for, and so what of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use<'a> {
    /// Its certificate and private key.
    Tls,
    /// All of it.
    ApiKeys,
    /// This entry.
    Jwks(&'a str),
    /// This entry: the certificate authority of an issuer of tokens.
    Issuer(&'a str),
    /// This entry: a token, or a certificate authority.
    Prometheus(&'a str),
    /// The same for a sink of requests and answers.
    Log(&'a str),
    /// This entry: the certificate authority of brokers.
    Broker(&'a str),
    /// Who comes to brokers, and the password.
    Sasl,
}

/// Requests that this router lets through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rate {
    pub per_second: f64,
    /// So many at once, after a pause.
    pub burst: u32,
    pub per: Per,
}

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Per {
    Caller,
    Model,
}
