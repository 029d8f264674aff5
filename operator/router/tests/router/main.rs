//! The router between real clients and real servers, over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod admin;
mod broker;
mod callers;
mod client;
mod graph;
mod kafka;
mod kafka_faults;
mod lifecycle;
mod limits;
mod log;
mod mount;
mod places;
mod pod;
mod ports;
mod prometheus;
mod queue;
mod routing;
mod security;
mod shadow;
mod sink;
mod site;
mod stream;
mod tls;
mod tokens;
mod web;
mod zero;
