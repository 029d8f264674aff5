//! `run --local`: a run without a cluster. The same core plans it, the same agent runs each stage, as a process; claims are folders. How people
//! try, debug and test a pipeline.
//!
//! `source` reads files, `fit` finds what this machine has not, `session` is the operator's loop, `machine` the cluster: `pod` lays a pod out,
//! `process` starts it. What is left is in `home`.

pub mod agent;
mod fit;
mod home;
mod machine;
mod pod;
mod process;
mod programs;
mod session;
mod source;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use clap::Args;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use millrace_core::api::{MLPipeline, MLPipelineRun, ModelDeployment, PipelineRef, RetryFrom, RunNumbers};
use millrace_core::config::Config;
use millrace_core::pipeline::{self, Frozen, FrozenKind};
use millrace_core::{expr, names, problem};
use serde_json::{Value, json};

use crate::code::Code;
use crate::error::Error;
use crate::lint::files::{File, Object};
use crate::lint::{Finding, Known, config, of_object};
use crate::output::{self, Format};
use crate::show::problems;
use crate::{Answer, given, run, tree};
use fit::Here;
use home::{Deployments, Home, RunFolder};
use machine::Machine;
use pod::Things;
use process::Event;
use programs::Programs;
use session::Session;
use source::Source;
use tell::Teller;

/// Lines and ends that wait to be looked at.
const WAITING: usize = 1024;
/// The claim that stands for a store that is none.
const STORE: &str = "store";

#[derive(Args)]
pub struct Options {
    /// Run it on this machine, without a cluster: stages are processes, images are not used
    #[arg(long)]
    pub local: bool,
    /// The folder of artifacts, models, logs and runs
    #[arg(long, value_name = "FOLDER", default_value = ".millrace", requires = "local")]
    dir: PathBuf,
    /// A folder with the programs of images, as FOLDER/<image>/bin. Default: `MILLRACE_PROGRAMS`, else what `make local` made beside this program
    #[arg(long, value_name = "FOLDER", requires = "local")]
    programs: Option<PathBuf>,
    /// Lines NAME=value for variables that stages have from Secrets and `ConfigMaps`
    #[arg(long, value_name = "FILE", requires = "local")]
    env_file: Option<PathBuf>,
    /// The answer to a stage that waits for a person: STAGE=yes or STAGE=no
    #[arg(long, value_name = "STAGE=ANSWER", requires = "local")]
    approve: Vec<String>,
    /// Begin a local run again with what failed, instead of another run; -f is for its `ConfigMaps` then
    #[arg(long, value_name = "RUN", requires = "local", conflicts_with_all = ["pipeline", "params", "inputs", "name"])]
    again: Option<String>,
    /// With --again: this stage, and all that depend on it
    #[arg(long, requires = "again")]
    stage: Option<String>,
    #[arg(short, long, value_enum, default_value_t, requires = "local")]
    output: Format,
}

/// What is run.
struct Chosen {
    run: MLPipelineRun,
    /// What `pipelineRef` names.
    pipeline: Option<MLPipeline>,
    frozen: Frozen,
    config: Config,
}

pub fn run(command: &run::Run) -> Result<Answer, Error> {
    let options = &command.local;
    let mut things = Things::default();
    if let Some(file) = &options.env_file {
        things.env = source::variables(file)?;
    }
    let named = options
        .programs
        .clone()
        .or_else(|| std::env::var_os("MILLRACE_PROGRAMS").filter(|path| !path.is_empty()).map(PathBuf::from));
    if let Some(named) = named.as_ref().filter(|folder| !folder.is_dir()) {
        return Err(Error::said(format!("--programs {}: there is no such folder", named.display())));
    }
    let approvals = answers(&options.approve)?;
    let home = Home::open(&options.dir)?;
    let programs = Programs::at(named.as_deref());
    let mut source = Source::default();
    if let Some(path) = &command.filename {
        source.read(path)?;
    }
    things.config_maps = std::mem::take(&mut source.config_maps);
    things.secrets = std::mem::take(&mut source.secrets);
    let known = Known::of(&source.files, &[]);
    let (chosen, folder, base, object) = match &options.again {
        Some(name) => {
            let (chosen, folder) = begun_before(&home, name, options.stage.as_deref())?;
            (chosen, Some(folder), "spec", None)
        }
        None => match choose(command, &source.files, &known)? {
            Ok((chosen, base, object)) => (chosen, None, base, Some(object)),
            Err(mistakes) => return mistakes.told(options.output),
        },
    };
    let Chosen { mut run, pipeline, frozen, config } = chosen;
    if let Some(code) = Code::of(&command.code)? {
        code.put_here(&home.claims(), frozen.store.as_ref())?;
        run.spec.code = Some(code.spec);
    }
    misplaced(&approvals, &frozen)?;
    let deployments = deployments(&home, &frozen, &source.files)?;
    let versions = home.versions()?;
    let here = Here {
        things: &things,
        programs: &programs,
        claims: &home.claims(),
        deployments: &deployments,
        versions: &versions,
        approved: &|stage| approvals.contains_key(stage),
        asks: std::io::stdin().is_terminal() && command.filename.as_deref() != Some("-"),
    };
    let missing = fit::missing(&frozen, base, &here);
    if !missing.is_empty() {
        return match object {
            Some((file, object)) => Mistakes::of(file, object, missing).told(options.output),
            None => Err(Error::said(problem::every(&missing))),
        };
    }
    let (events, queue) = sync_channel(WAITING);
    let folder = match folder {
        Some(folder) => folder,
        None => new_run(&home, &mut run)?,
    };
    let pipeline = pipeline.map(|pipeline| numbered(pipeline, &run));
    session::listen(&events)?;
    let teller = Teller::new(options.output);
    let name = run.metadata.name.clone().unwrap_or_default();
    teller.say(&format!("run {name} in {}", folder.path.display()))?;
    let machine = Machine::new(folder.clone(), home.claims(), things, programs, events, teller.shows());
    let frozen_name = run.status.as_ref().and_then(|status| status.frozen.clone());
    let mut session = Session {
        pipeline: pipeline.map(Arc::new),
        templates: known.templates,
        frozen: frozen_name.map(|name| (name, Arc::new(frozen))),
        run,
        config,
        home,
        folder,
        machine,
        versions,
        deployments,
        approvals,
        teller,
        refusals: Vec::new(),
        stops: 0,
        asked: None,
        reads: false,
    };
    session.go(&queue)?;
    Ok((tree::end(&session.run) == Some(true)).into())
}

/// `STAGE=yes` or `STAGE=no`.
fn answers(given: &[String]) -> Result<BTreeMap<String, bool>, Error> {
    let answer = |text: &String| {
        let (stage, answer) = text.split_once('=')?;
        Some((stage.to_owned(), said(answer)?))
    };
    let read = |text| answer(text).ok_or_else(|| Error::said(format!("--approve {text}: write STAGE=yes or STAGE=no")));
    given.iter().map(read).collect()
}

/// An answer to a question.
fn said(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "yes" | "y" => Some(true),
        "no" | "n" => Some(false),
        _ => None,
    }
}

fn misplaced(approvals: &BTreeMap<String, bool>, frozen: &Frozen) -> Result<(), Error> {
    let asks = |name: &&str| matches!(frozen.stages[*name].kind, FrozenKind::Approve(_));
    let there: Vec<&str> = frozen.stages.keys().map(String::as_str).filter(asks).collect();
    match approvals.keys().find(|name| !there.contains(&name.as_str())) {
        Some(name) => {
            let hint = expr::did_you_mean(name, there);
            Err(Error::said(format!("--approve {name}: no stage of this name waits for a person: {hint}")))
        }
        None => Ok(()),
    }
}

/// Mistakes that are told instead of a run.
struct Mistakes {
    findings: Vec<Finding>,
    objects: usize,
    files: usize,
}

impl Mistakes {
    fn of(file: &File, object: &Object, problems: Vec<problem::Problem>) -> Self {
        let finding = |problem: problem::Problem| Finding {
            file: file.path.clone(),
            place: object.node.locate(&problem.path),
            object: Some(object.to_string()),
            problem,
            is_error: true,
        };
        Self { findings: problems.into_iter().map(finding).collect(), objects: 1, files: 1 }
    }

    fn told(&self, format: Format) -> Result<Answer, Error> {
        match format {
            Format::Json => output::json(&self.findings.iter().map(problems::document).collect::<Vec<_>>())?,
            Format::Table => output::print(&problems::list(&self.findings, self.objects, self.files, false))?,
        }
        Ok(Answer::No)
    }
}

type Found<'a> = (Chosen, &'static str, (&'a File, &'a Object));

/// The run of the files: the one that they hold, or one of the pipeline that they hold. Every object of theirs is checked as `lint` does.
fn choose<'a>(command: &run::Run, files: &'a [File], known: &Known) -> Result<Result<Found<'a>, Mistakes>, Error> {
    let shown = command.filename.as_deref().unwrap_or_default();
    if command.filename.is_none() {
        return Err(Error::said("write -f FILE or FOLDER: without a cluster the pipeline is read from files"));
    }
    let mut objects = Vec::new();
    for file in files {
        let found = file.objects.as_ref().map_err(|fault| {
            Error::said(format!("{}:{}:{}: {}", file.path, fault.place.line, fault.place.column, fault.message))
        })?;
        objects.extend(found.iter().map(|object| (file, object)));
    }
    let findings: Vec<Finding> =
        objects.iter().flat_map(|(file, object)| of_object(&file.path, object, known)).collect();
    if findings.iter().any(|finding| finding.is_error) {
        return Ok(Err(Mistakes { findings, objects: objects.len(), files: files.len() }));
    }
    let of = |kind: &str| objects.iter().filter(|(_, object)| object.kind == kind).copied().collect::<Vec<_>>();
    let (runs, pipelines) = (of("MLPipelineRun"), of("MLPipeline"));
    let several = |kind: &str, found: &[(&File, &Object)]| {
        let names: Vec<&str> = found.iter().map(|(_, object)| object.name.as_str()).collect();
        Error::said(format!(
            "{shown} holds several {kind}s ({}): name one file, or write the pipeline's name beside it",
            names.join(", ")
        ))
    };
    let named = command.pipeline.as_ref();
    let chosen = named.and_then(|name| pipelines.iter().find(|(_, pipeline)| pipeline.name == *name));
    let (file, object) = match (runs.as_slice(), pipelines.as_slice()) {
        _ if named.is_some() => *chosen.ok_or_else(|| {
            let hint = expr::did_you_mean(
                named.map_or("", String::as_str),
                pipelines.iter().map(|(_, pipeline)| pipeline.name.as_str()),
            );
            Error::said(format!("{shown} holds no such MLPipeline: {hint}"))
        })?,
        ([one], _) | ([], [one]) => *one,
        ([], []) => return Err(Error::said(format!("{shown} holds no MLPipelineRun and no MLPipeline"))),
        ([], several_of) => return Err(several("MLPipeline", several_of)),
        (several_of, _) => return Err(several("MLPipelineRun", several_of)),
    };
    let unread = |error: serde_json::Error| Error::said(format!("{}: {error}", file.path));
    let read =
        |object: &Object| serde_json::from_value::<MLPipeline>(on_folders(object.node.json(), "/spec")).map_err(unread);
    let mut config = config(&object.node.json());
    let (mut run, pipeline, base) = if object.kind == "MLPipelineRun" {
        let json = on_folders(object.node.json(), "/spec/pipeline");
        let run: MLPipelineRun = serde_json::from_value(json).map_err(unread)?;
        let named = run.spec.pipeline_ref.as_ref().map(|reference| &reference.name);
        let found =
            named.map(|name| pipelines.iter().find(|(_, pipeline)| pipeline.name == *name).ok_or(name)).transpose();
        let found = found.map_err(|name| {
            Error::said(format!("{}: pipelineRef.name: MLPipeline {name} is in none of the files", file.path))
        })?;
        if let Some((_, pipeline)) = found {
            config = crate::lint::config(&pipeline.node.json());
        }
        (run, found.map(|(_, pipeline)| read(pipeline)).transpose()?, "spec.pipeline")
    } else {
        let pipeline = read(object)?;
        let name = object.name.trim_end_matches('-').to_owned();
        let mut run = MLPipelineRun::default();
        run.spec.pipeline_ref = Some(PipelineRef { name });
        run.metadata.namespace.clone_from(&pipeline.metadata.namespace);
        (run, Some(pipeline), "spec")
    };
    let spec = pipeline.as_ref().map(|pipeline| &pipeline.spec).or(run.spec.pipeline.as_ref());
    let spec = spec.ok_or_else(|| Error::said(format!("{}: the run names no pipeline", file.path)))?;
    let spec = spec.clone();
    run.spec.inputs.extend(given::addresses(&command.inputs)?);
    run::bind(&mut run, &command.params, &spec)?;
    for (name, given) in &run.spec.inputs {
        if let Some(artifact) = given.artifact.as_ref().filter(|artifact| !artifact.uri.starts_with("pvc://")) {
            let uri = &artifact.uri;
            return Err(Error::said(format!(
                "spec.inputs.{name}.artifact: {uri} lies in a bucket, and only folders are mounted here: give its address, -i {name}={uri}"
            )));
        }
    }
    let frozen = pipeline::check_run(&spec, &run.spec, &known.templates, &config);
    let frozen = frozen.map_err(|found| Error::said(problem::every(&found)))?;
    // Another run has another name.
    let name = run.metadata.name.take();
    run.metadata.generate_name = name.or(run.metadata.generate_name);
    run.metadata.name.clone_from(&command.name);
    Ok(Ok((Chosen { run, pipeline, frozen, config }, base, (file, object))))
}

/// Every store is a folder here: one that is no claim becomes one.
fn on_folders(mut object: Value, spec: &str) -> Value {
    if let Some(store) = object.pointer_mut(&format!("{spec}/store")).filter(|store| store.get("pvc").is_none()) {
        *store = json!({ "pvc": { "claimName": STORE } });
    }
    object
}

/// A run that has ended, or that was killed, as it is to go on.
fn begun_before(home: &Home, name: &str, stage: Option<&str>) -> Result<(Chosen, RunFolder), Error> {
    let (mut run, frozen, folder) = home.old_run(name)?;
    let ended = run.status.as_ref().is_some_and(|status| status.completion_time.is_some());
    if ended {
        let number = run.spec.retry_from.as_ref().and_then(|asked| asked.number).unwrap_or_default();
        let stage = stage.map(str::to_owned);
        run.spec.retry_from = Some(RetryFrom { failed: stage.is_none(), stage, number: Some(number + 1) });
    } else if let Some(stage) = stage {
        let message = format!("run {name} was interrupted before its end: leave --stage {stage} out, and it goes on");
        return Err(Error::said(message));
    }
    run.spec.cancel = None;
    Ok((Chosen { run, pipeline: None, frozen, config: Config::default() }, folder))
}

/// Gives a run its name, its uid and its folder.
fn new_run(home: &Home, run: &mut MLPipelineRun) -> Result<RunFolder, Error> {
    let metadata = &mut run.metadata;
    let of = run.spec.pipeline_ref.as_ref().map(|reference| reference.name.as_str());
    let prefix = metadata.generate_name.as_deref().or(of).unwrap_or("run").trim_end_matches('-').to_owned();
    if let Some(name) = metadata.name.as_ref().filter(|name| !names::is_label(name)) {
        return Err(Error::said(format!("{name} is no name of a run: write small letters, digits and -")));
    }
    let (name, folder) = home.new_run(metadata.name.as_deref(), &prefix)?;
    let now = Timestamp::now();
    let uid = names::sha256_hex(format!("{}/{now}/{}", folder.path.display(), std::process::id()).as_bytes());
    metadata.uid = Some(uid[..32].to_owned());
    metadata.name = Some(name);
    metadata.generate_name = None;
    metadata.namespace.get_or_insert_with(|| "local".to_owned());
    metadata.creation_timestamp = Some(Time(now));
    metadata.generation = Some(1);
    run.status = None;
    Ok(folder)
}

/// Nobody counts runs here: each is the first.
fn numbered(mut pipeline: MLPipeline, run: &MLPipelineRun) -> MLPipeline {
    let given = run.metadata.uid.iter().map(|uid| (uid.clone(), 1)).collect();
    pipeline.status.get_or_insert_default().run_numbers = Some(RunNumbers { last: 1, given });
    pipeline
}

/// The ModelDeployments that the pipeline names: those of the files, else made up, with what was deployed here last.
fn deployments(home: &Home, frozen: &Frozen, files: &[File]) -> Result<Deployments, Error> {
    let mut wanted: BTreeMap<String, String> = BTreeMap::new();
    let mut read = BTreeSet::new();
    for stage in frozen.stages.values() {
        match &stage.kind {
            FrozenKind::Deploy(deploy) => {
                if let Some(FrozenKind::Register(register)) =
                    frozen.stages.get(&deploy.version).map(|stage| &stage.kind)
                {
                    wanted.insert(deploy.model_deployment.clone(), register.model.clone());
                }
            }
            FrozenKind::Container(container) => {
                read.extend(container.inputs.values().filter_map(|input| input.deployed.clone()));
            }
            FrozenKind::Report(report) => {
                read.insert(report.model_deployment.clone());
            }
            FrozenKind::Pipeline(_) | FrozenKind::Approve(_) | FrozenKind::Register(_) => {}
        }
    }
    for name in read {
        // Most are called as their model.
        let model = name.clone();
        wanted.entry(name).or_insert(model);
    }
    let objects = files.iter().flat_map(|file| file.objects.iter().flatten());
    let given = objects.filter(|object| object.kind == "ModelDeployment");
    let given: BTreeMap<String, ModelDeployment> = given
        .filter_map(|object| Some((object.name.clone(), serde_json::from_value(object.node.json()).ok()?)))
        .collect();
    let found = wanted.into_iter().map(|(name, model)| {
        let deployment = home.deployment(&name, &model, given.get(&name))?;
        Ok((name, Arc::new(deployment)))
    });
    found.collect()
}

/// Sends what a person types into the terminal.
fn type_into(events: std::sync::mpsc::SyncSender<Event>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if events.send(Event::Typed(line.ok())).is_err() {
                return;
            }
        }
        let _ = events.send(Event::Typed(None));
    });
}
