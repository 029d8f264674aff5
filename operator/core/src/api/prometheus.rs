//! A question to a Prometheus, or to what speaks its HTTP API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::JwksKey;

/// A query that the routers of the namespace ask every ten seconds each, by `/api/v1/query`. Its answer is one sample or a scalar; where it
/// has no sample, NaN or an infinite number, there is no figure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!self.address.contains('@')", "message": "address must hold neither user nor password: write tokenSecret" },
    { "rule": "self.address.startsWith('http://') || has(self.caConfigMap)", "message": "https needs caConfigMap: the certificate authority, such as {name: kube-root-ca.crt, key: ca.crt}" },
    { "rule": "self.address.startsWith('https://') || !has(self.caConfigMap)", "message": "caConfigMap is for an address with https://" },
    { "rule": "self.address.startsWith('https://') || !has(self.tokenSecret)", "message": "tokenSecret needs an address with https://: others may read what goes over http" }
]))]
pub struct PrometheusQuery {
    /// Such as `http://prometheus.monitoring:9090`; `/api/v1/query` is added.
    #[schemars(
        length(min = 8, max = 256),
        regex(pattern = r"^https?://[a-zA-Z0-9]([-.a-zA-Z0-9]*[a-zA-Z0-9])?(:[0-9]{1,5})?(/[-._~a-zA-Z0-9]+)*/?$")
    )]
    pub address: String,
    /// PromQL. `$[[ revision ]]`, `$[[ stable ]]`, `$[[ model ]]`, `$[[ deployment.name ]]` and `$[[ deployment.namespace ]]` are filled in:
    /// the revision that is looked at, the promoted one, `spec.model.name` (with `spec.model.uri` what the ModelDeployment is called), and what the
    /// ModelDeployment is called.
    #[schemars(length(min = 1, max = 1024))]
    pub query: String,
    /// An entry of a Secret of the namespace: a bearer token. It is mounted into the routers: naming another one replaces them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<JwksKey>,
    /// An entry of a ConfigMap of the namespace: the certificate authority of an address with `https`, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map: Option<JwksKey>,
}
