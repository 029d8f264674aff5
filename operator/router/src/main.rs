//! `millrace-router`: the data plane of one namespace.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use kube::Client;
use millrace_router::settings::Settings;
use millrace_router::{EndpointsFrom, Limits, Options, Pace, Router, RoutesFrom};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(&Settings::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let source = error.source().map(ToString::to_string);
            tracing::error!(%error, source, "ended");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let mut filter = EnvFilter::try_new(&settings.log)?;
    if !settings.log.contains("krafka") {
        // It tells of every rebalance and every connection.
        filter = filter.add_directive("krafka=error".parse()?);
    }
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_writer(std::io::stderr).init();
    // What is not on the way of a request: routes, endpoints, starts, the admin port.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(serve(settings))?;
    runtime.shutdown_background();
    Ok(())
}

async fn serve(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let router = Router::start(options(settings).await?)?;
    tracing::info!(admin = %router.admin, workers = settings.workers(), "runs");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let cut = router.end(settings.leave(), settings.drain()).await;
    tracing::info!(cut, "ended");
    Ok(())
}

async fn options(settings: &Settings) -> Result<Options, Box<dyn Error>> {
    let namespace = settings.namespace.clone();
    let endpoints = match &settings.endpoints {
        Some(path) => EndpointsFrom::File(path.clone()),
        None => EndpointsFrom::Cluster { client: Client::try_default().await?, namespace: namespace.clone() },
    };
    let routes = match (&settings.routes, &settings.routes_configmap) {
        (Some(path), _) if path.is_dir() => RoutesFrom::File(path.join(millrace_routes::ROUTES_KEY)),
        (Some(path), _) => RoutesFrom::File(path.clone()),
        (None, name) => {
            let client = Client::try_default().await?;
            RoutesFrom::ConfigMap { client, namespace, name: name.clone().unwrap_or_default() }
        }
    };
    Ok(Options {
        routes,
        endpoints,
        scaler: None,
        address: settings.address,
        admin: settings.admin,
        workers: settings.workers(),
        limits: Limits { connections: settings.max_connections, ..Limits::default() },
        pod: settings.pod.clone(),
        pod_ip: settings.pod_ip,
        places_port: settings.places_port,
        mounted: settings.mounted.clone(),
        loopback: settings.endpoints.is_some(),
        pace: Pace::default(),
    })
}
