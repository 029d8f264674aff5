//! The Open Inference Protocol v2: from a body to checked tensors, from tensors to a body.
//!
//! `request`, `values` and `response` are its JSON form. What is right for a model is decided in `check`, once for
//! every form of the protocol. No I/O here.

mod check;
mod metadata;
mod request;
mod response;
mod values;

pub use check::{InferRequest, RequestError, short};
pub use metadata::{model_metadata, server_metadata};
pub use request::parse;
pub use response::{Slice, error_body, write_answer};
