//! `plan`: what applying a file would change of the cluster's pipelines, and whether a run would start,
//! and what it would take from the cache. For pull requests.

mod cached;
mod order;
mod proposal;

use std::sync::Arc;

use clap::Args;
use kube::Api;
use kube::ResourceExt;
use kube::api::ListParams;
use millrace_core::api::{MLPipeline, StageTemplate};

use crate::connect::Cluster;
use crate::error::{Error, code, words};
use crate::lint::{Known, files, of_object};
use crate::output::{self, Format};
use crate::{Answer, show};
use cached::There;
use proposal::Proposal;

/// Show what applying pipelines would change and start. Ends with 1 where there are mistakes
#[derive(Args)]
pub struct Plan {
    /// Files and folders; - is standard input
    #[arg(short, long, required = true, num_args = 1.., value_name = "PATH")]
    filename: Vec<String>,
    /// The namespace of the StageTemplates that are for everybody
    #[arg(long, default_value = "millrace-system")]
    catalog: String,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub async fn plan(cluster: &Cluster, command: &Plan) -> Result<Answer, Error> {
    let files = files::find(&command.filename)?;
    let mut known = Known::of(&[], &[]);
    templates(cluster, &command.catalog, &mut known).await?;
    templates(cluster, &cluster.namespace, &mut known).await?;
    for object in files.iter().flat_map(|file| file.objects.iter().flatten()) {
        known.add(object);
    }
    let made = There::read(cluster).await;
    let mut proposals = Vec::new();
    for file in &files {
        let objects = file.objects.as_ref().map_err(|fault| {
            Error::said(format!("{}:{}:{}: {}", file.path, fault.place.line, fault.place.column, fault.message))
        })?;
        for object in objects.iter().filter(|object| object.kind == "MLPipeline") {
            let findings = of_object(&file.path, object, &known);
            let there = cluster.api::<MLPipeline>().get_opt(&object.name).await;
            let there = there.map_err(|error| Error::request("read", object.to_string(), error))?;
            proposals.push(Proposal::new(object, findings, there.as_ref(), &known).beside(object, &known, &made));
        }
    }
    if proposals.is_empty() {
        return Err(Error::said(format!("there is no MLPipeline in {}", command.filename.join(", "))));
    }
    match command.output {
        Format::Json => output::json(&proposals.iter().map(Proposal::document).collect::<Vec<_>>())?,
        Format::Table => {
            for proposal in &proposals {
                output::print(&proposal.text())?;
            }
        }
    }
    Ok(proposals.iter().all(Proposal::is_right).into())
}

/// The cluster's templates. Who may not read the catalog has the stock ones of this version.
async fn templates(cluster: &Cluster, namespace: &str, known: &mut Known) -> Result<(), Error> {
    let api: Api<StageTemplate> = Api::namespaced(cluster.client.clone(), namespace);
    match api.list(&ListParams::default()).await {
        Ok(list) => {
            known.templates.extend(list.items.into_iter().map(|template| (template.name_any(), Arc::new(template))));
            Ok(())
        }
        Err(error) if code(&error) == Some(403) => {
            output::warn(&format!(
                "the StageTemplates of {namespace} may not be read: {}",
                show::brief(&words(&error), 200)
            ));
            Ok(())
        }
        Err(error) => Err(Error::request("list", format!("the StageTemplates of {namespace}"), error)),
    }
}
