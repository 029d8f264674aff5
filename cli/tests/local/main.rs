//! `kubectl millrace run --local`, with the built program, real processes and real files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "this is a test's code: it fails by panicking")]

mod brought;
mod flow;
mod items;
mod models;
mod refusals;
mod stopping;
mod support;
