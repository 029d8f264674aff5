//! `millrace-server`: ONNX models over the Open Inference Protocol v2.
//!
//! Here is only the server's life: start, load, serve, drain, exit. `README.md` beside this crate is its manual.

mod batch;
mod budget;
mod config;
mod drift;
mod explain;
mod grpc;
mod http;
mod inference;
mod limits;
mod metrics;
mod model;
mod protocol;
mod repository;
mod serving;
mod start;
mod tensor;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use config::Config;

/// A request's memory is taken on one thread and given back on another, which glibc's allocator answers with locks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where the kubelet reads a container's last words.
const TERMINATION_LOG: &str = "/dev/termination-log";

fn main() -> ExitCode {
    let config = Config::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    match start::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            last_words(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Only a container has the file; it is not made elsewhere.
fn last_words(text: &str) {
    if let Ok(mut file) = std::fs::OpenOptions::new().write(true).open(TERMINATION_LOG) {
        drop(file.write_all(text.as_bytes()));
    }
}
