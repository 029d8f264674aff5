//! Shadow traffic: copies of requests go to a second revision, and its answers are compared. Callers never wait for it: what has no room
//! is dropped and counted.

mod compare;
mod grpc;
mod run;
mod tee;
mod tensor;
mod wire;

pub use run::run;
pub use tee::{Copied, ShadowQueue, Tee};
