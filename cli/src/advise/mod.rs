//! `advise`: what stages should ask for, of what they used.

mod rule;

use std::collections::BTreeMap;

use clap::Args;
use kube::ResourceExt;
use kube::api::ListParams;
use millrace_core::api::{MLPipeline, MLPipelineRun, Resources};
use millrace_core::pipeline::{Frozen, FrozenStage};

use crate::connect::Cluster;
use crate::error::Error;
use crate::output::{self, Format};
use crate::{Answer, show, tree};
pub use rule::{Advice, Change, Figures, Sample, mebibytes, millicores, of};

/// Propose requests and limits for the stages of a pipeline, of what its kept runs used; or of one run
#[derive(Args)]
pub struct Advise {
    /// A pipeline, or a run; mlr/NAME where both have the name
    name: String,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub async fn advise(cluster: &Cluster, command: &Advise) -> Result<Answer, Error> {
    let runs = runs(cluster, &command.name).await?;
    let names: Vec<String> = runs.iter().map(ResourceExt::name_any).collect();
    let Some(newest) = runs.iter().max_by_key(|run| run.creation_timestamp()) else {
        return Err(Error::said(format!("no run of pipeline {} is kept: there is nothing to go by", command.name)));
    };
    let asked = tree::frozen(cluster, newest).await.map(|frozen| asked(&frozen)).unwrap_or_default();
    let advice: BTreeMap<String, Advice> = samples(&runs)
        .into_iter()
        .map(|(stage, samples)| {
            let advice = of(&samples, &asked.get(&stage).cloned().unwrap_or_default());
            (stage, advice)
        })
        .collect();
    if advice.is_empty() {
        return Err(Error::said(format!("no stage of {} has said what it used: none has ended", names.join(", "))));
    }
    match command.output {
        Format::Json => output::json(&serde_json::json!({ "runs": names, "stages": advice }))?,
        Format::Table => output::print(&show::advice::text(&names, &advice))?,
    }
    Ok(Answer::Yes)
}

async fn runs(cluster: &Cluster, name: &str) -> Result<Vec<MLPipelineRun>, Error> {
    if let Some((kind, name)) = name.split_once('/') {
        if !matches!(kind, "mlr" | "mlpipelinerun" | "mlpipelineruns") {
            return Err(Error::said(format!("{kind}/…: write the name of a pipeline or of a run, or mlr/NAME")));
        }
        return Ok(vec![cluster.get::<MLPipelineRun>(name).await?]);
    }
    let pipeline = cluster.api::<MLPipeline>().get_opt(name).await;
    if pipeline.map_err(|error| Error::request("read", format!("MLPipeline {name}"), error))?.is_none() {
        return Ok(vec![cluster.get::<MLPipelineRun>(name).await?]);
    }
    let listed = cluster.api::<MLPipelineRun>().list(&ListParams::default()).await;
    let listed = listed.map_err(|error| Error::request("list", "the runs of the namespace", error))?;
    let its = |run: &MLPipelineRun| run.spec.pipeline_ref.as_ref().is_some_and(|reference| reference.name == name);
    Ok(listed.items.into_iter().filter(its).collect())
}

/// What each run says of each stage.
fn samples(runs: &[MLPipelineRun]) -> BTreeMap<String, Vec<Sample>> {
    let mut all: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    for (name, stage) in runs.iter().flat_map(|run| run.status.iter()).flat_map(|status| &status.stages) {
        // What runs of other pipelines used is asked for there.
        if stage.run.is_some() || stage.items.as_ref().is_some_and(|items| items.begun > 0) {
            continue;
        }
        // One that got more after it ran out of memory may have succeeded.
        let out_of_memory = stage.reason.as_deref() == Some("OOMKilled") || stage.memory.is_some();
        if let Some(usage) = stage.usage.clone().or_else(|| out_of_memory.then(Default::default)) {
            all.entry(name.clone()).or_default().push(Sample { usage, out_of_memory });
        }
    }
    all
}

/// What the stages ask for.
fn asked(frozen: &Frozen) -> BTreeMap<String, Resources> {
    let resources = |stage: &FrozenStage| stage.container()?.container.settings.resources.clone();
    frozen.stages.iter().filter_map(|(name, stage)| Some((name.clone(), resources(stage)?))).collect()
}
