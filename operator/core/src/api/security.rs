//! Who may ask a served model, how fast, and over what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may ask the model, how fast, and over what. It holds at the address of the model; the pods behind it know nothing of it. A Secret
/// or ConfigMap that is named here is mounted into the routers of the namespace: naming another one replaces them, changing what is in it
/// does not. One that is missing or broken lets nobody in, and so do keys that cannot be fetched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.tls) || has(self.auth) || has(self.rateLimit) || has(self.maxBodyBytes)", "message": "security says nothing: write tls, auth, rateLimit or maxBodyBytes, or leave it out" },
    { "rule": "has(self.auth) || !(has(self.rateLimit) && has(self.rateLimit.per) && self.rateLimit.per == 'Caller')", "message": "rateLimit.per: Caller needs auth, because without it nobody knows who asks: write auth, or per: Model" },
    { "rule": "!(has(self.tls) && has(self.auth) && has(self.auth.apiKeys)) || self.auth.apiKeys.secretName != self.tls.secretName", "message": "auth.apiKeys.secretName must be another Secret than tls.secretName: each entry of it is a key" }
]))]
pub struct Security {
    /// The address speaks TLS, and nothing else, on port 443 instead of 80.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSecret>,
    /// Callers say who they are. Default: whoever reaches the address may ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// A request with a longer body is answered 413, whether it says its length or not. Default: 8 MiB of Millrace's own model server, no bound
    /// of another one. More than 8 MiB goes to the own server too, as a revision of its own; its memory must suffice for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_099_511_627_776_i64))]
    pub max_body_bytes: Option<i64>,
}

/// A Secret of the type `kubernetes.io/tls`, as cert-manager makes them. When it changes, new connections get the new certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsSecret {
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub secret_name: String,
}

/// Exactly one of both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.apiKeys) != has(self.jwt)", "message": "exactly one of apiKeys and jwt is required" }
]))]
pub struct Auth {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_keys: Option<KeySecret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtRules>,
}

/// Keys in the header `x-api-key`, or in `authorization: Bearer`. The headers do not go on to the model's pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeySecret {
    /// Each entry of it is the name of a caller and the key, 16 to 1024 printable characters; 1000 entries at most.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub secret_name: String,
}

/// JSON Web Tokens in `authorization: Bearer`, which does not go on to the model's pods. Checked are the signature (RS256 to RS512, PS256
/// to PS512, ES256, ES384, EdDSA), `iss`, `aud`, `exp`, which must be there, and `nbf`; clocks may differ by a minute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtRules {
    /// `iss` of a token, exactly.
    #[schemars(length(min = 1, max = 512))]
    pub issuer: String,
    /// `aud` of a token holds one of them.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 256)))]
    pub audiences: Vec<String>,
    pub jwks: Jwks,
}

/// The issuer's public keys (JWKS, RFC 7517): exactly one of `configMap`, `secret` and `uri`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "[has(self.configMap), has(self.secret), has(self.uri)].filter(x, x).size() == 1", "message": "exactly one of configMap, secret and uri is required" },
    { "rule": "!has(self.uri) || self.uri.startsWith('https://')", "message": "uri must begin with https://: who can change the keys on their way decides who is let in" },
    { "rule": "has(self.uri) || !has(self.caConfigMap)", "message": "caConfigMap is for uri: it is the certificate authority of the issuer's address" }
]))]
pub struct Jwks {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<JwksKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<JwksKey>,
    /// Where the issuer publishes them, with `https`: `jwks_uri` of its `/.well-known/openid-configuration`. Each router of the namespace
    /// fetches them every 5 minutes, and within 30 seconds when a token names a key (`kid`) that it does not have. Until they were fetched once
    /// nobody is let in; where they cannot be fetched any more, the last ones are good for 24 hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 9, max = 512),
        regex(
            pattern = r"^https?://[a-zA-Z0-9]([-.a-zA-Z0-9]*[a-zA-Z0-9])?(:[0-9]{1,5})?(/[-._~%@:=+,;!$a-zA-Z0-9]*)*([?][-._~%@:/=&+,;!$a-zA-Z0-9]*)?$"
        )
    )]
    pub uri: Option<String>,
    /// An entry of a ConfigMap of the namespace: the certificate authority of `uri`, in PEM. It is mounted into the routers: naming another one
    /// replaces them. Default: the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map: Option<JwksKey>,
}

/// An entry of a ConfigMap or Secret of the namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwksKey {
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-_a-zA-Z0-9][-._a-zA-Z0-9]*$"))]
    pub key: String,
}

/// Requests beyond it are answered 429 with `Retry-After`. It is divided evenly among the routers of the namespace, two unless the chart
/// says otherwise: a caller that keeps one connection reaches one of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.requestsPerSecond >= 0.01", "message": "requestsPerSecond must be 0.01 or more" }
]))]
pub struct RateLimit {
    // The schema's minimum does not hold for whole numbers; a rule says it again.
    #[schemars(range(min = 0.01, max = 1_000_000.0))]
    pub requests_per_second: f64,
    /// So many may come at once, after a pause. Default: those of a second, one at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<i32>,
    /// Whose requests count together. Default: `Caller` with `auth`, else `Model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<RatePer>,
}

/// `Caller`: those of one API key, or of one subject (`sub`) of tokens. `Model`: all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RatePer {
    /// Those of one API key, or of one subject (`sub`) of tokens.
    #[default]
    Caller,
    /// All of them.
    Model,
}
