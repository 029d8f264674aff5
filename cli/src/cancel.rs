//! `cancel`.

use clap::Args;
use millrace_core::api::{Cancel as How, MLPipelineRun};
use serde_json::json;

use crate::Answer;
use crate::connect::Cluster;
use crate::error::Error;
use crate::{output, patch, tree};

/// End a run before its time
#[derive(Args)]
pub struct Cancel {
    run: String,
    /// Programs get a second, and `finally` does not run
    #[arg(long)]
    now: bool,
}

pub async fn cancel(cluster: &Cluster, command: &Cancel) -> Result<Answer, Error> {
    let name = &command.run;
    let run = cluster.get::<MLPipelineRun>(name).await?;
    tree::not_ended(&run, name)?;
    let (how, words) = if command.now {
        (How::Now, "ends at once")
    } else {
        (How::Graceful, "ends: its programs have their grace period, then `finally` runs")
    };
    match run.spec.cancel {
        Some(before) if before == how => {
            return Err(Error::said(format!("run {name} is being canceled already")));
        }
        Some(How::Now) => {
            return Err(Error::said(format!(
                "run {name} is being canceled at once already: that cannot be taken back"
            )));
        }
        Some(How::Graceful) | None => {}
    }
    patch::spec::<MLPipelineRun>(cluster, name, &json!({ "cancel": how })).await?;
    output::line(&format!("run {name} {words}"))?;
    Ok(Answer::Yes)
}
