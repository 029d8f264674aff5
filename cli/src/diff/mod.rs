//! `diff`: what two runs, or two versions of a model, were made of, and what came of it.

mod made;

use clap::Args;
use k8s_openapi::api::apps::v1::ControllerRevision;
use millrace_core::api::{MLPipelineRun, ModelVersion};
use millrace_core::pipeline::Frozen;

use crate::connect::Cluster;
use crate::error::Error;
use crate::output::{self, Format};
use crate::{Answer, tree};
use made::Made;

/// Compare two runs, or two versions as mlv/NAME: data, images, code, parameters, metrics
#[derive(Args)]
pub struct Diff {
    /// A run, or mlv/NAME
    before: String,
    /// A run, or mlv/NAME
    after: String,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub async fn diff(cluster: &Cluster, command: &Diff) -> Result<Answer, Error> {
    let before = read(cluster, &command.before).await?;
    let after = read(cluster, &command.after).await?;
    match command.output {
        Format::Json => output::json(&made::document(&before, &after))?,
        Format::Table => output::print(&made::text((&command.before, &before), (&command.after, &after)))?,
    }
    Ok(Answer::Yes)
}

async fn read(cluster: &Cluster, name: &str) -> Result<Made, Error> {
    match name.split_once('/') {
        Some(("mlv" | "modelversion" | "modelversions", name)) => {
            let version = cluster.get::<ModelVersion>(name).await?;
            let kept = version.spec.lineage.as_ref().and_then(|lineage| lineage.frozen.as_ref());
            let frozen = match kept {
                Some(kept) => frozen(cluster, kept).await,
                None => {
                    output::warn(&format!(
                        "note: the lineage of ModelVersion {name} does not name what its run ran (frozen), as of one that a person wrote: its code is not compared"
                    ));
                    None
                }
            };
            Ok(Made::of_version(&version, frozen.as_ref()))
        }
        Some(("mlr" | "mlpipelinerun" | "mlpipelineruns", name)) => run(cluster, name).await,
        Some((kind, _)) => {
            Err(Error::said(format!("{kind}/… cannot be compared: write the name of a run, or mlv/NAME")))
        }
        None => run(cluster, name).await,
    }
}

async fn run(cluster: &Cluster, name: &str) -> Result<Made, Error> {
    let run = match cluster.get::<MLPipelineRun>(name).await {
        Ok(run) => run,
        // Versions look like runs to who has not read the help.
        Err(Error::Said(_)) if is_version(cluster, name).await => {
            return Err(Error::Said(meant(name, &cluster.namespace)));
        }
        Err(error) => return Err(error),
    };
    let frozen = tree::frozen(cluster, &run).await;
    Ok(Made::of_run(&run, frozen.as_ref()))
}

async fn is_version(cluster: &Cluster, name: &str) -> bool {
    matches!(cluster.api::<ModelVersion>().get_opt(name).await, Ok(Some(_)))
}

fn meant(name: &str, namespace: &str) -> String {
    format!("there is no MLPipelineRun {name} in the namespace {namespace}, but a ModelVersion: write mlv/{name}")
}

/// What is deleted with the run that it belongs to may be gone.
async fn frozen(cluster: &Cluster, name: &str) -> Option<Frozen> {
    let revision = cluster.api::<ControllerRevision>().get_opt(name).await.ok()??;
    serde_json::from_value(revision.data?.0).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_name_of_a_version_is_told_as_one() {
        let said = super::meant("penguins-v3", "team");
        assert_eq!(
            said,
            "there is no MLPipelineRun penguins-v3 in the namespace team, but a ModelVersion: write mlv/penguins-v3"
        );
    }
}
