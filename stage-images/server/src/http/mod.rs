//! HTTP/1.1: the listener, its connections, and the REST form of the Open Inference Protocol on them.

mod answer;
mod body;
mod connection;
mod infer;
mod io;
mod listen;
mod route;
mod service;

pub use listen::{Listener, accept};
