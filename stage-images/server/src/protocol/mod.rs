//! The inference protocols: from a body to checked tensors, from tensors to a body.
//!
//! `request`, `response` and `binary` are the REST form of the Open Inference Protocol v2, `predict` and `predictions` the v1 form.
//! What is right for a model is decided in `check`, once for every form. No I/O here.

pub mod binary;
mod check;
mod explanation;
mod json;
mod metadata;
mod openapi;
mod predict;
mod predictions;
mod request;
mod response;
mod slice;
mod values;

pub use check::{InferRequest, Inputs, RequestError, outputs, shape_text, short};
pub use explanation::{parse_asked, write_explanation};
pub use metadata::{EXTENSIONS, PLATFORM, model_metadata, model_names, model_status, server_metadata};
pub use openapi::openapi;
pub use predict::parse_predict;
pub use predictions::write_predictions;
pub use request::parse;
pub use response::{Written, error_body, write_answer};
pub use slice::Slice;
pub use values::ValueError;
