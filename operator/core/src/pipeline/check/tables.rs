//! Inputs that are tables: each becomes a stage that reads a snapshot in the tenant's namespace, and an input that is what that stage
//! made. So the version and the digest are the run's, every attempt of the reader sees the same rows, and they can be cached and healed as
//! all that stages make.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::json;

use super::{Problems, made, name};
use crate::access;
use crate::api::{
    AgentPath, Cache, CacheMode, Container, EnvValue, Input, InputMode, KeyRef, MLPipelineSpec, Output, PodSettings,
    Resources, Retry, Stage, TableInput, Volume, VolumeClaim,
};
use crate::config::Config;
use crate::pipeline::stage_path;
use crate::{duration, expr, reach};

/// The output of a made stage.
const DATA: &str = "data";
/// Where the claim of a table is mounted.
const TABLE_DIR: &str = "/mnt/table";
/// Where no operator says which image: a check outside a cluster.
const NO_IMAGE: &str = "millrace-data";
/// The end of the window, for a run that is for a time.
const RUN_TIME: &str = "$[[ run.scheduledTime == null ? '' : run.scheduledTime ]]";

/// The pipeline with a stage for each table that is read. What is wrong with such an input is said here.
pub(super) fn expand<'a>(
    spec: &'a MLPipelineSpec,
    config: &Config,
    problems: &mut Problems,
) -> Cow<'a, MLPipelineSpec> {
    let mut spec = Cow::Borrowed(spec);
    for finally in [false, true] {
        let of = |spec: &MLPipelineSpec| if finally { spec.finally.clone() } else { spec.stages.clone() };
        if of(&spec).values().all(|stage| stage.inputs.values().all(|input| input.table.is_none())) {
            continue;
        }
        let mut stages = of(&spec);
        for (reader, stage) in of(&spec) {
            for (name, input) in &stage.inputs {
                let Some(table) = &input.table else { continue };
                let at = format!("{}.inputs.{name}", stage_path(finally, &reader));
                refuse(input, table, &at, problems);
                let made = format!("{reader}-{name}");
                free(&made, &at, [&stages, &spec.stages, &spec.finally], problems);
                let before = made::comes_after(&stage, if finally { &spec.finally } else { &spec.stages });
                let reads = reading(&stage, input, table, before, config);
                stages.insert(made.clone(), reads);
                let from = Input { from: Some(format!("{made}.{DATA}")), ..Input::default() };
                stages.entry(reader.clone()).and_modify(|stage| drop(stage.inputs.insert(name.clone(), from)));
            }
        }
        let spec = spec.to_mut();
        if finally { spec.finally = stages } else { spec.stages = stages }
    }
    spec
}

/// The made stage has a name that nobody has.
fn free(made: &str, at: &str, all: [&BTreeMap<String, Stage>; 3], problems: &mut Problems) {
    if !name::is_label(made) {
        let message = format!(
            "the stage that reads the table would be called `{made}`, which is too long: give the input or the stage a shorter name"
        );
        problems.add(at, "InvalidName", message);
    }
    let written = expr::in_expression(made);
    let taken = all.into_iter().flat_map(BTreeMap::keys).find(|name| expr::in_expression(name) == written);
    if let Some(taken) = taken {
        let message = format!(
            "the stage that reads the table is called `{made}`, and there is a stage `{taken}` already: rename that one, or the input"
        );
        problems.add(at, "NameTaken", message);
    }
}

/// What the schema says too: a spec can also come from where no schema looked.
fn refuse(input: &Input, table: &TableInput, at: &str, problems: &mut Problems) {
    let others = [
        input.from.is_some(),
        input.deployed.is_some(),
        input.model.is_some(),
        input.uri.is_some(),
        input.input.is_some(),
    ];
    if others.contains(&true) {
        let message = "exactly one of from, uri, table, deployed, model and input is required: write one of them";
        problems.add(at, "InvalidInput", message);
    }
    if input.mode == InputMode::Uri {
        problems.add(format!("{at}.mode"), "InvalidInput", "a table is read into a folder: take mode out");
    }
    if input.default.is_some() || input.optional {
        let message = "default and optional are not for an input with table: take them out. A table that is not there fails the stage";
        problems.add(at, "InvalidInput", message);
    }
    if let Some(window) = &input.window {
        if duration::parse(window).is_none_or(|window| window.is_zero()) {
            let message = format!("`{window}` is no time: write one such as 12h or 30d");
            problems.add(format!("{at}.window"), "InvalidDuration", message);
        }
        if table.time_column.is_none() {
            let message = "window needs the column that says when a row was: write table.timeColumn";
            problems.add(format!("{at}.window"), "InvalidInput", message);
        }
    }
    if table.time_column.is_some() && input.window.is_none() {
        let message = "timeColumn is for window, and there is none: write window, or take timeColumn out";
        problems.add(format!("{at}.table.timeColumn"), "InvalidInput", message);
    }
    let twice = table.columns.iter().enumerate().find(|(index, column)| table.columns[..*index].contains(column));
    if let Some((_, column)) = twice {
        problems.add(format!("{at}.table.columns"), "InvalidInput", format!("`{column}` is named twice: take one out"));
    }
    problems.0.extend(reach::of_table(&table.uri, table.access.as_ref(), &format!("{at}.table")));
}

/// The stage that reads.
fn reading(stage: &Stage, input: &Input, table: &TableInput, needs: Vec<String>, config: &Config) -> Stage {
    let settings = stage.container.as_ref().map(|container| &container.settings).or(stage.overrides.as_ref());
    let retry = stage.retry.as_ref();
    Stage {
        needs,
        when: stage.when.clone(),
        on_failure: stage.on_failure,
        container: Some(container(input, table, settings, config)),
        outputs: BTreeMap::from([(
            DATA.to_owned(),
            Output { description: Some("Rows of the snapshot, as Parquet files.".to_owned()), ..Output::default() },
        )]),
        // A table changes: every run looks. What reads the rows is cached by their digest.
        cache: Some(Cache { mode: CacheMode::Off, ..Cache::default() }),
        retry: retry.map(|retry| Retry { limit: retry.limit, backoff: retry.backoff.clone(), ..Retry::default() }),
        pending_timeout: stage.pending_timeout.clone(),
        ..Stage::default()
    }
}

fn container(input: &Input, table: &TableInput, reader: Option<&PodSettings>, config: &Config) -> Container {
    let mut settings = PodSettings {
        service_account_name: reader.and_then(|settings| settings.service_account_name.clone()),
        resources: Some(Resources {
            requests: [("cpu", "100m"), ("memory", "128Mi")]
                .map(|(name, amount)| (name.to_owned(), json!(amount)))
                .into(),
            limits: [("memory".to_owned(), json!("1Gi"))].into(),
        }),
        ..PodSettings::default()
    };
    let source = match reach::claim_of(&table.uri) {
        Some((claim, path)) => {
            let volume = Volume {
                config_map: None,
                secret: None,
                claim: Some(VolumeClaim { name: claim.to_owned() }),
                memory: None,
                mount_path: TABLE_DIR.to_owned(),
                sub_path: None,
                read_only: true,
            };
            settings.volumes.insert("table".to_owned(), volume);
            format!("{TABLE_DIR}/{path}")
        }
        None => table.uri.clone(),
    };
    let access = table.access.clone().unwrap_or_default();
    let kind = reach::kind_of(&table.uri);
    if let Some((secret, kind)) = access.secret_ref.as_ref().zip(kind) {
        let (required, optional) = access::secret_keys(kind);
        let keys = required.iter().map(|key| (*key, false)).chain(optional.iter().map(|key| (*key, true)));
        settings.env.extend(keys.map(|(key, optional)| {
            let from = KeyRef { name: secret.name.clone(), key: key.to_owned(), optional };
            (key.to_owned(), EnvValue { secret: Some(from), ..EnvValue::default() })
        }));
    }
    let mut params = json!({ "source": source, "format": "delta", "delta": {} });
    if let Some(column) = &table.time_column {
        params["delta"]["timeColumn"] = json!(column);
    }
    if let Some(window) = &input.window {
        params["delta"]["window"] = json!(window);
    }
    if !table.columns.is_empty() {
        params["columns"] = json!(table.columns);
    }
    if let Some((parameter, how)) = kind.and_then(|kind| reach::parameter(kind, &access)) {
        params[parameter] = how;
    }
    // Nothing of it is a template; what is one is an argument of its own, so that no value becomes another parameter.
    let mut args = vec!["--params".to_owned(), params.to_string().replace("$[[", "\\u0024[[")];
    if let Some(version) = &table.version {
        args.extend(["--param".to_owned(), format!("delta.version={version}")]);
    }
    if input.window.is_some() {
        args.extend(["--param".to_owned(), format!("delta.until={RUN_TIME}")]);
    }
    let image = Some(&config.data_image).filter(|image| !image.is_empty());
    Container {
        image: image.cloned().unwrap_or_else(|| NO_IMAGE.to_owned()),
        command: Some(["millrace-data", "ingest"].map(str::to_owned).into()),
        args,
        script: None,
        agent: Some(AgentPath { path: "/usr/local/bin/millrace-agent".to_owned() }),
        settings,
    }
}
