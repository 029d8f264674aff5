//! `run`: another run of a pipeline, or one that stands in a file.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use kube::ResourceExt;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use millrace_core::api::{
    MLPipeline, MLPipelineRun, MLPipelineRunSpec, MLPipelineSpec, ParamSpec, ParamType, PipelineRef, RunCache,
    RunCacheMode, Store, Value,
};
use millrace_core::pipeline::{self, MISSING_INPUT};
use millrace_core::{expr, names, problem};
use serde_json::json;

use crate::code::{self, Code};
use crate::connect::Cluster;
use crate::error::{Error, words};
use crate::lint::files;
use crate::local::Options;
use crate::{Answer, given, logs, output, patch, show};

/// Start a run of a pipeline, or of a file
#[derive(Args)]
pub struct Run {
    /// Beside --filename the one of that file, where it holds several
    #[arg(required_unless_present_any = ["filename", "again"])]
    pub pipeline: Option<String>,
    /// A file with an MLPipelineRun, or with an MLPipeline, which is run without being applied; - is standard input. With --local a folder too
    #[arg(short, long)]
    pub filename: Option<String>,
    /// The value of a parameter, as it would be written in YAML
    #[arg(short, long = "param", value_name = "NAME=VALUE")]
    pub params: Vec<String>,
    /// What the run is given for an input of the pipeline: an address such as s3://bucket/path, what another run made (RUN/STAGE.OUTPUT), or a
    /// registered model (MODEL@VERSION)
    #[arg(short, long = "input", value_name = "NAME=WHAT")]
    pub inputs: Vec<String>,
    /// The run's name; default: the pipeline's with a few letters
    #[arg(long)]
    pub name: Option<String>,
    /// Where it waits the higher goes first; default: the pipeline's `concurrency.priority`
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i32>,
    /// What its stages do with the cache, whatever the pipeline says: `refresh` runs them all, and later runs take what they make; `off` neither
    #[arg(long, value_enum, conflicts_with = "local")]
    cache: Option<Cache>,
    /// Follow the logs until its end, which is also this program's: 1 where the run failed
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    pub code: code::Options,
    #[command(flatten)]
    pub local: Options,
}

#[derive(Clone, Copy, ValueEnum)]
enum Cache {
    Refresh,
    Off,
}

impl From<Cache> for RunCache {
    fn from(cache: Cache) -> Self {
        let mode = match cache {
            Cache::Refresh => RunCacheMode::Refresh,
            Cache::Off => RunCacheMode::Off,
        };
        Self { mode }
    }
}

pub async fn run(cluster: &Cluster, command: Run) -> Result<Answer, Error> {
    let mut run = match (&command.filename, &command.pipeline) {
        (Some(file), name) => from_file(file, name.as_deref(), &cluster.namespace)?,
        (None, Some(pipeline)) => of(pipeline),
        (None, None) => return Err(Error::said("name a pipeline, or a file with --filename")),
    };
    let pipeline = match &run.spec.pipeline_ref {
        Some(reference) => {
            let found = cluster.get::<MLPipeline>(&reference.name).await?;
            accepted(&found)?;
            Some(found.spec)
        }
        None => run.spec.pipeline.clone(),
    };
    let store = pipeline.as_ref().and_then(|spec| spec.store.clone());
    run.spec.inputs.extend(given::in_cluster(cluster, &command.inputs).await?);
    bind(&mut run, &command.params, &pipeline.unwrap_or_default())?;
    run.spec.priority = command.priority.or(run.spec.priority);
    run.spec.cache = command.cache.map(RunCache::from).or(run.spec.cache);
    if let Some(name) = command.name {
        run.metadata.name = Some(name);
        run.metadata.generate_name = None;
    }
    let code = match Code::of(&command.code)? {
        Some(code) => Some((code, store.ok_or_else(code::no_store)?)),
        None => None,
    };
    let suspended = run.spec.suspend;
    if let Some((code, _)) = &code {
        run.spec.code = Some(code.spec.clone());
        // It begins when its code is there.
        run.spec.suspend = true;
    }
    let parameters = PostParams { field_manager: Some(patch::MANAGER.to_owned()), ..PostParams::default() };
    let made = cluster.api::<MLPipelineRun>().create(&parameters, &run).await;
    let made = made.map_err(|error| Error::request("create", "the run", error))?;
    let name = made.name_any();
    output::line(&format!("run {name} is made"))?;
    if let Some((code, store)) = &code {
        bring(cluster, &made, code, store, suspended).await?;
    }
    if command.follow { Box::pin(logs::until_end(cluster, &name)).await } else { Ok(Answer::Yes) }
}

/// Brings the code of a run that waits for it. Without its code it can never begin, and is deleted.
async fn bring(
    cluster: &Cluster,
    made: &MLPipelineRun,
    code: &Code,
    store: &Store,
    suspended: bool,
) -> Result<(), Error> {
    let name = made.name_any();
    match code.put(cluster, made, store).await {
        Ok(said) => output::line(&said)?,
        Err(error) => {
            if let Err(left) = cluster.api::<MLPipelineRun>().delete(&name, &DeleteParams::default()).await {
                output::warn(&format!("run {name} is left, suspended: {}", words(&left)));
            }
            return Err(error);
        }
    }
    if !suspended {
        patch::spec::<MLPipelineRun>(cluster, &name, &json!({ "suspend": false })).await?;
    }
    Ok(())
}

fn of(pipeline: &str) -> MLPipelineRun {
    let spec = MLPipelineRunSpec {
        pipeline_ref: Some(PipelineRef { name: pipeline.to_owned() }),
        ..MLPipelineRunSpec::default()
    };
    // As runs that a trigger started have it, so that `kubectl get mlr -l` finds both.
    let labels = [(names::PIPELINE_LABEL.to_owned(), names::label_value(pipeline))].into();
    let generate_name = Some(format!("{pipeline}-"));
    let metadata = ObjectMeta { generate_name, labels: Some(labels), ..ObjectMeta::default() };
    MLPipelineRun { metadata, spec, status: None }
}

/// A run of a pipeline with mistakes would be refused: they are told here.
fn accepted(pipeline: &MLPipeline) -> Result<(), Error> {
    let conditions = pipeline.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let refused = show::condition(conditions, "Accepted")
        .filter(|c| c.status == "False" && c.observed_generation == pipeline.metadata.generation);
    match refused {
        Some(refused) => {
            Err(Error::said(format!("MLPipeline {} has mistakes:\n{}", pipeline.name_any(), refused.message)))
        }
        None => Ok(()),
    }
}

/// The run of a file: the one that it holds, or one of the pipeline that it holds. `name` says which.
fn from_file(path: &str, name: Option<&str>, namespace: &str) -> Result<MLPipelineRun, Error> {
    let objects = files::read(path)?;
    let of = |kind: &str| objects.iter().filter(|object| object.kind == kind).collect::<Vec<_>>();
    let (runs, pipelines) = (of("MLPipelineRun"), of("MLPipeline"));
    let found = if runs.is_empty() || name.is_some() { pipelines } else { runs };
    let object = match (found.as_slice(), name) {
        (_, Some(name)) => found.iter().find(|object| object.name == name).copied().ok_or_else(|| {
            let hint = expr::did_you_mean(name, found.iter().map(|object| object.name.as_str()));
            Error::said(format!("{path} holds no MLPipeline {name}: {hint}"))
        })?,
        ([], None) => return Err(Error::said(format!("{path} holds no MLPipelineRun and no MLPipeline"))),
        ([only], None) => only,
        (several, None) => {
            let names = expr::list(several.iter().map(|object| object.name.as_str()));
            return Err(Error::said(format!(
                "{path} holds {names}: say which, as in kubectl millrace run NAME -f {path}"
            )));
        }
    };
    let problems = crate::lint::shape(object);
    if !problems.is_empty() {
        return Err(Error::said(format!("{path} has mistakes:\n{}", problem::every(&problems))));
    }
    let json = object.node.json();
    let unread = |error: serde_json::Error| Error::said(format!("{path}: {error}"));
    let mut run = if object.kind == "MLPipelineRun" {
        serde_json::from_value::<MLPipelineRun>(json).map_err(unread)?
    } else {
        inline(serde_json::from_value(json).map_err(unread)?)
    };
    if let Some(other) = run.metadata.namespace.as_ref().filter(|other| *other != namespace) {
        return Err(Error::said(format!(
            "{path} is for the namespace {other}, and {namespace} is asked: write -n {other}"
        )));
    }
    run.status = None;
    Ok(run)
}

/// What only an MLPipeline has is left out.
fn inline(pipeline: MLPipeline) -> MLPipelineRun {
    let prefix = pipeline.metadata.name.or(pipeline.metadata.generate_name).unwrap_or_else(|| "run".to_owned());
    let mut spec = pipeline.spec;
    (spec.triggers, spec.history, spec.concurrency) = (None, None, None);
    let metadata = ObjectMeta {
        generate_name: Some(format!("{}-", prefix.trim_end_matches('-'))),
        namespace: pipeline.metadata.namespace,
        ..ObjectMeta::default()
    };
    MLPipelineRun {
        metadata,
        spec: MLPipelineRunSpec { pipeline: Some(spec), ..MLPipelineRunSpec::default() },
        status: None,
    }
}

/// Takes over the values of the command line, and looks whether the run has what its pipeline needs.
pub fn bind(run: &mut MLPipelineRun, params: &[String], pipeline: &MLPipelineSpec) -> Result<(), Error> {
    given::once(params)?;
    run.spec.params.extend(values(params, &pipeline.params).map_err(Error::Said)?);
    let mut problems = pipeline::bind(pipeline, &run.spec, "");
    for problem in problems.iter_mut().filter(|problem| problem.reason == MISSING_INPUT) {
        let name = problem.path.trim_start_matches("inputs.");
        problem.message =
            format!("the pipeline needs the input `{name}`: write -i {name}=<address>, or -i {name}=RUN/STAGE.OUTPUT");
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::said(problem::every(&problems))) }
}

/// Values by name. Text of a parameter that is text is taken as it is; anything else is read as YAML.
pub fn values(pairs: &[String], declared: &BTreeMap<String, ParamSpec>) -> Result<BTreeMap<String, Value>, String> {
    let mut values = BTreeMap::new();
    for pair in pairs {
        let Some((name, text)) = pair.split_once('=') else {
            return Err(format!("-p {pair}: write name=value"));
        };
        let is_text = declared.get(name).is_some_and(|param| param.kind == ParamType::String);
        let value = if is_text {
            Value::String(text.to_owned())
        } else {
            serde_saphyr::from_str(text)
                .map_err(|_| format!("-p {pair}: the value is no YAML: put quotes around text with signs in it"))?
        };
        values.insert(name.to_owned(), value);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_its_type_has_it() {
        let declared: BTreeMap<String, ParamSpec> = serde_json::from_value(json!({
            "word": { "type": "string" }, "rows": { "type": "integer" }, "rate": { "type": "number" },
            "list": { "type": "array" }, "map": { "type": "object" }, "on": { "type": "boolean" },
        }))
        .unwrap();
        let pairs =
            ["word=1e3", "rows=1000", "rate=0.5", "list=[1, a]", "map={a: {b: 1}}", "on=true"].map(str::to_owned);
        let read = super::values(&pairs, &declared).unwrap();
        assert_eq!(
            json!(read),
            json!({ "word": "1e3", "rows": 1000, "rate": 0.5, "list": [1, "a"], "map": { "a": { "b": 1 } }, "on": true })
        );
        assert_eq!(super::values(&["word=a=b".to_owned()], &declared).unwrap()["word"], "a=b");
        assert!(super::values(&["word".to_owned()], &declared).unwrap_err().contains("write name=value"));
    }

    #[test]
    fn a_pipeline_is_run_without_what_only_an_mlpipeline_has() {
        let pipeline = json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipeline", "metadata": { "name": "p" },
            "spec": {
                "triggers": { "onChange": true }, "history": { "keepFailed": 1 }, "concurrency": { "policy": "Queue" },
                "stages": { "a": { "container": { "image": "i", "command": ["c"] } } },
            },
        });
        let run = serde_json::to_value(inline(serde_json::from_value(pipeline).unwrap())).unwrap();
        assert_eq!(run["metadata"]["generateName"], "p-");
        let fields: Vec<_> = run["spec"]["pipeline"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, ["stages"]);
    }
}
