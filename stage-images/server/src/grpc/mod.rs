//! The Open Inference Protocol v2 over gRPC. It knows messages, not sockets: `http` hands it whole requests.

mod contents;
mod request;
mod response;
mod service;

pub use service::{Service, status_of};

/// Made by `build.rs` from `proto/inference.proto`.
#[allow(clippy::all, clippy::pedantic)]
mod messages {
    tonic::include_proto!("inference");
}
