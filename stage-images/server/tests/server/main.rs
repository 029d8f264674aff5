//! The server as its callers see it: a real process, real sockets, real ONNX models.

mod support;

mod bad_input;
mod batching;
mod drain;
mod infer;
mod metadata;
mod slow_callers;
mod start;
