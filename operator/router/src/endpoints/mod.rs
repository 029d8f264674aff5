//! Where pods are: from the cluster's EndpointSlices, or from a file where there is no cluster.

pub mod file;
pub mod kube;

use std::net::IpAddr;

use serde::Deserialize;

/// A pod that has an address. One that is ending is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub address: IpAddr,
    pub ready: bool,
}
