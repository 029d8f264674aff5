//! `millrace-controller`: the effects around the pure core, and the generators of what is derived from it.

mod ask;
mod drift;
mod fetch;
mod frozen;
mod generate;
mod health;
mod key;
mod lease;
mod metrics;
mod pass;
mod queue;
mod serve;
mod settings;
mod store;
mod wake;
mod webhook;
mod write;

use std::process::ExitCode;

use clap::Parser;
use settings::{Command, Settings};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let done = match Settings::parse().command {
        Command::Run(settings) => run(*settings),
        Command::Crds { dir } => generate::crds(dir.as_deref()),
        Command::Rbac { name } => generate::rbac(&name),
        Command::Reference => generate::reference(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %write::chain(&*error), "ended");
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn run(settings: settings::RunSettings) -> Outcome {
    // The client logs whole answers that it cannot read: everybody's objects.
    let filter = EnvFilter::try_new(&settings.log)?.add_directive("kube_client::client=off".parse()?);
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve::serve(settings))?;
    // Watches are still open; nothing is to be waited for.
    runtime.shutdown_background();
    Ok(())
}
