//! Shadow traffic: copies of requests go to a second revision, and its answers are compared. Callers never wait for it: what has no room
//! is dropped and counted.

mod compare;
mod run;
mod tee;

pub use run::run;
pub use tee::{Copied, ShadowQueue, Tee};
