//! `millrace-data`: the stock data stages, the look for new data, and the payload log, in one program. This file reads the command line and says how it ended.
//!
//! A stage that fails exits 1, and the last line it prints is `error: …`: what, where, what was found, what to do.

#![allow(clippy::result_large_err, reason = "an error ends the program, so its size costs nothing")]

mod command;
mod dataset;
mod engine;
mod evaluate;
mod features;
mod html;
mod ingest;
mod limits;
mod look;
mod model;
mod objects;
mod params;
mod payload_log;
mod pool;
mod predict;
mod profile;
mod say;
mod sink;
mod svg;
mod table;
mod transform;
mod types;
mod validate;
mod workplace;

use std::process::ExitCode;

fn main() -> ExitCode {
    match command::run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::error(&error);
            ExitCode::FAILURE
        }
    }
}
