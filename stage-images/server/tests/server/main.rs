//! The server as its callers see it: a real process, real sockets, real ONNX models.

// What a helper cannot do, its test cannot either.
#![allow(clippy::unwrap_used)]

mod support;

mod bad_input;
mod batching;
mod binary;
mod device;
mod drain;
mod drift;
mod explain;
mod grpc;
mod grpc_drain;
mod infer;
mod metadata;
mod openapi;
mod predict;
mod raw_columns;
mod repository;
mod slow_callers;
mod start;
