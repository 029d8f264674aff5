//! `suspend` and `resume`.

use clap::Args;
use kube::ResourceExt;
use millrace_core::api::MLPipelineRun;
use serde_json::json;

use crate::Answer;
use crate::connect::Cluster;
use crate::error::Error;
use crate::{output, patch, tree};

/// Begin nothing new in a run; what runs goes on
#[derive(Args)]
pub struct Suspend {
    run: String,
}

/// Go on with a suspended run
#[derive(Args)]
pub struct Resume {
    run: String,
}

pub async fn suspend(cluster: &Cluster, command: &Suspend) -> Result<Answer, Error> {
    set(cluster, &command.run, true, "is suspended: what runs goes on, and nothing new begins").await
}

pub async fn resume(cluster: &Cluster, command: &Resume) -> Result<Answer, Error> {
    set(cluster, &command.run, false, "goes on").await
}

async fn set(cluster: &Cluster, name: &str, suspend: bool, done: &str) -> Result<Answer, Error> {
    let run = cluster.get::<MLPipelineRun>(name).await?;
    tree::not_ended(&run, name)?;
    if run.spec.suspend == suspend {
        return Err(Error::said(format!(
            "run {name} is {} already",
            if suspend { "suspended" } else { "not suspended" }
        )));
    }
    let run: MLPipelineRun = patch::spec(cluster, name, &json!({ "suspend": suspend })).await?;
    output::line(&format!("run {} {done}", run.name_any()))?;
    Ok(Answer::Yes)
}
