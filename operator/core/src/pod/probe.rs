//! How the kubelet asks a container over HTTP.

use k8s_openapi::api::core::v1::{HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Every `period` seconds; so many `failures` in a row count. `port` is its name.
#[must_use]
pub fn http_probe(port: &str, path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(port.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        // A program that is short of CPU is slow, not dead.
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}
