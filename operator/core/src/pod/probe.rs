//! How the kubelet asks a container.

use k8s_openapi::api::core::v1::{GRPCAction, HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Every `period` seconds; so many `failures` in a row count. `port` is its name.
#[must_use]
pub fn http_probe(port: &str, path: &str, period: i32, failures: i32) -> Probe {
    let http_get = HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::String(port.to_owned()),
        ..HTTPGetAction::default()
    };
    Probe { http_get: Some(http_get), ..probe(period, failures) }
}

/// The same by gRPC's own health checking, of the whole server. The kubelet wants the port's number.
#[must_use]
pub fn grpc_probe(port: i32, period: i32, failures: i32) -> Probe {
    Probe { grpc: Some(GRPCAction { port, service: None }), ..probe(period, failures) }
}

/// The same of a server that takes a connection once it can serve.
#[must_use]
pub fn tcp_probe(port: &str, period: i32, failures: i32) -> Probe {
    let tcp_socket = TCPSocketAction { port: IntOrString::String(port.to_owned()), host: None };
    Probe { tcp_socket: Some(tcp_socket), ..probe(period, failures) }
}

fn probe(period: i32, failures: i32) -> Probe {
    Probe {
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        // A program that is short of CPU is slow, not dead.
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}
