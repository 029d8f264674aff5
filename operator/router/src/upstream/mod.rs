//! Connections to pods. Each thread has its own, so that a request stays on one thread and no lock is waited for.

mod connect;
mod pool;

pub use pool::{Pool, Taken, take, take_router};
