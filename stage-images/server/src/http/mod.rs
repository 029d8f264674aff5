//! HTTP/1.1 and HTTP/2 on one port: the listener, its connections, and the REST protocols on them; and what
//! the operator asks on another port.

mod admin;
mod answer;
mod body;
mod connection;
mod grpc_call;
mod h1;
mod h2;
mod infer;
mod io;
mod listen;
mod repository;
mod route;
mod service;

pub use admin::answer_operator;
pub use listen::{Listener, accept};
