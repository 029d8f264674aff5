//! `reproduce`: what made a version of a model is run once more, and what comes of it is compared with the version.

mod compare;
mod made;
mod plan;

use clap::Args;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use millrace_core::api::{API_VERSION, Lineage, MLPipelineRun, ModelVersion, StageTemplate};
use millrace_core::pipeline::Frozen;
use serde_json::json;

use crate::connect::Cluster;
use crate::error::{Error, words};
use crate::output::{self, Format};
use crate::{Answer, logs, patch, tree};
use plan::Plan;

/// Run again what made a ModelVersion, without registering or deploying anything, and compare data, model and metrics. Ends with 1 where they differ
#[derive(Args)]
pub struct Reproduce {
    version: String,
    /// The name of the new run; default: the version's with a few letters
    #[arg(long, conflicts_with = "run")]
    name: Option<String>,
    /// Make no run: compare with this one, which this command made before
    #[arg(long)]
    run: Option<String>,
    /// Wait for the end of the run, and compare
    #[arg(long)]
    follow: bool,
    /// By how much a metric may differ, as a part of it: 0.01 is one per cent
    #[arg(long, default_value_t = 0.0, value_parser = compare::tolerance, value_name = "PART")]
    tolerance: f64,
    /// Take images as the pipeline names them, where nodes did not pull them from a registry: by digest they could not be found. They are compared
    #[arg(long)]
    unpinned: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// How many names of five letters and digits there are.
const SUFFIX_BASE: i64 = 36 * 36 * 36 * 36 * 36;

pub async fn reproduce(cluster: &Cluster, command: &Reproduce) -> Result<Answer, Error> {
    let version = cluster.get::<ModelVersion>(&command.version).await?;
    let (run, follow) = match &command.run {
        Some(run) => (run.clone(), command.follow),
        None => {
            let run = Box::pin(make(cluster, command, &version)).await?;
            if !command.follow {
                let again =
                    format!("kubectl millrace reproduce {} --run {run} --follow{}", command.version, cluster.options);
                match command.output {
                    Format::Json => output::json(&json!({ "version": command.version, "run": run }))?,
                    Format::Table => output::line(&format!("run {run} is made; to compare: {again}"))?,
                }
                return Ok(Answer::Yes);
            }
            (run, true)
        }
    };
    if follow {
        Box::pin(wait(cluster, &run, command.output)).await?;
    }
    let run = cluster.get::<MLPipelineRun>(&run).await?;
    let sources = made::Sources::of(&run, &command.version, &cluster.options).map_err(Error::Said)?;
    if tree::end(&run).is_none() {
        return Err(Error::said(format!("run {} goes on: write --follow to wait for its end", run.name_any())));
    }
    let found = compare::compare(&version, &run, &sources, command.tolerance);
    match command.output {
        Format::Json => output::json(&found.document())?,
        Format::Table => output::print(&found.text(&cluster.options))?,
    }
    Ok(found.is_same().into())
}

/// Until its end: on the way its logs, or nothing where a program reads.
async fn wait(cluster: &Cluster, run: &str, format: Format) -> Result<(), Error> {
    match format {
        Format::Json => tree::watch(cluster, run, true).await.map(|_run| ()),
        Format::Table => Box::pin(logs::until_end(cluster, run)).await.map(|_answer| ()),
    }
}

/// Makes the run, and before it the StageTemplates that it uses, which go with it.
async fn make(cluster: &Cluster, command: &Reproduce, version: &ModelVersion) -> Result<String, Error> {
    let frozen = frozen(cluster, version).await?;
    let name = command.name.clone().unwrap_or_else(|| plan::name(&command.version, &suffix(Timestamp::now())));
    let Plan { run, templates, notes } = plan::plan(&name, version, &frozen, !command.unpinned).map_err(Error::Said)?;
    for note in notes {
        output::warn(&note);
    }
    let parameters = PostParams { field_manager: Some(patch::MANAGER.to_owned()), ..PostParams::default() };
    let mut made = Vec::new();
    for template in &templates {
        let created = cluster.api::<StageTemplate>().create(&parameters, template).await;
        if let Err(error) = created {
            undo(cluster, &made).await;
            return Err(Error::request("create", format!("StageTemplate {}", template.name_any()), error));
        }
        made.push(template.name_any());
    }
    match cluster.api::<MLPipelineRun>().create(&parameters, &run).await {
        Ok(run) => {
            give(cluster, &run, &made).await?;
            if command.output == Format::Table && command.follow {
                output::line(&format!("run {name} is made"))?;
            }
            Ok(name)
        }
        Err(error) => {
            undo(cluster, &made).await;
            Err(Error::request("create", format!("run {name}"), error))
        }
    }
}

/// What the version's run ran.
async fn frozen(cluster: &Cluster, version: &ModelVersion) -> Result<Frozen, Error> {
    let name = version.name_any();
    let Some(lineage) = &version.spec.lineage else {
        return Err(Error::said(format!("ModelVersion {name} has no lineage: no run of Millrace made it")));
    };
    let Some(kept) = &lineage.frozen else {
        return Err(Error::said(format!(
            "the lineage of ModelVersion {name} does not name what its run ran (frozen), as of one that a person wrote: run its pipeline, and \
             compare with kubectl millrace diff mlv/{name} mlv/<new version>{}",
            cluster.options
        )));
    };
    let read = cluster.api::<ControllerRevision>().get_opt(kept).await;
    let revision = read.map_err(|error| Error::request("read", format!("ControllerRevision {kept}"), error))?;
    let Some(data) = revision.and_then(|revision| revision.data) else {
        return Err(Error::said(gone(&name, lineage, kept, &cluster.options)));
    };
    serde_json::from_value(data.0)
        .map_err(|error| Error::said(format!("ControllerRevision {kept} is of another version of Millrace: {error}")))
}

/// What to do where nobody kept what ran.
fn gone(version: &str, lineage: &Lineage, kept: &str, options: &str) -> String {
    let pipeline = lineage.pipeline.as_deref().unwrap_or("<pipeline>");
    format!(
        "what made ModelVersion {version} is gone: the ControllerRevision {kept} went with the runs that had it. Run the pipeline as it is now, with the \
         version's parameters (kubectl get mlv {version}{options} -o jsonpath='{{.spec.params}}'): kubectl millrace run {pipeline}{options} -p …; then compare with \
         kubectl millrace diff mlv/{version} mlv/<new version>{options}. To be able to reproduce versions, keep their runs: spec.history.keepSucceeded"
    )
}

/// The run owns them: they go with it.
async fn give(cluster: &Cluster, run: &MLPipelineRun, templates: &[String]) -> Result<(), Error> {
    let owner = json!({ "apiVersion": API_VERSION, "kind": "MLPipelineRun", "name": run.name_any(), "uid": run.uid() });
    let patch = Patch::Merge(json!({ "metadata": { "ownerReferences": [owner] } }));
    let parameters = PatchParams { field_manager: Some(patch::MANAGER.to_owned()), ..PatchParams::default() };
    for name in templates {
        let patched = cluster.api::<StageTemplate>().patch(name, &parameters, &patch).await;
        patched.map_err(|error| Error::request("change", format!("StageTemplate {name}"), error))?;
    }
    Ok(())
}

/// As far as it goes: whoever cannot delete them is told what could not be made anyway.
async fn undo(cluster: &Cluster, templates: &[String]) {
    for name in templates {
        if let Err(error) = cluster.api::<StageTemplate>().delete(name, &DeleteParams::default()).await {
            output::warn(&format!("StageTemplate {name} is left: {}", words(&error)));
        }
    }
}

/// A few letters that are others in every second of two years.
fn suffix(now: Timestamp) -> String {
    let mut rest = now.as_second().rem_euclid(SUFFIX_BASE);
    let mut letters = Vec::new();
    for _ in 0..5 {
        letters.push(char::from_digit(u32::try_from(rest % 36).unwrap_or_default(), 36).unwrap_or('0'));
        rest /= 36;
    }
    letters.iter().rev().collect()
}
