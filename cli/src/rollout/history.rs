//! `rollout history`.

use clap::Args;
use k8s_openapi::jiff::Timestamp;
use millrace_core::api::ModelDeployment;

use crate::Answer;
use crate::connect::Cluster;
use crate::error::Error;
use crate::output::{self, Format};
use crate::show;

/// List what was promoted or given up, the newest first
#[derive(Args)]
pub struct History {
    #[arg(value_name = "MODELDEPLOYMENT")]
    name: String,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub async fn history(cluster: &Cluster, command: &History) -> Result<Answer, Error> {
    let found = cluster.get::<ModelDeployment>(&command.name).await?;
    let records = found.status.map(|status| status.history).unwrap_or_default();
    match command.output {
        Format::Json => output::json(&records)?,
        Format::Table => output::print(&show::rollout::history(&records, Timestamp::now()))?,
    }
    Ok(Answer::Yes)
}
