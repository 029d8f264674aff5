//! Inputs by `uri`. Before anything is checked, each becomes a stage of its own, whose program is the agent alone: it brings what lies at the
//! address into the store, and the input becomes that stage's output. So nobody's program runs where the credentials are, every attempt and
//! item reads the same bytes, and the keys of the cache have the digest of what was read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::address::{address, variables};
use super::{Problems, made, time};
use crate::api::{
    AgentPath, ArtifactType, Cache, CacheMode, Container, Input, InputMode, MLPipelineSpec, Output, PodSettings,
    Resources, Retry, Stage, StageTemplate, UriAccess, Volume, VolumeClaim,
};
use crate::config::Config;
use crate::pipeline::stage_path;
use millrace_contract::{AGENT_PROGRAM, GET_FINAL};
use serde_json::json;

/// The output of the stage that is made.
const OUTPUT: &str = "data";
/// Where a claim is mounted there.
const CLAIM: &str = "/source";
/// Where nobody says which image the agent's is.
const AGENT: &str = "${image:agent}";
/// Another attempt may do better: a network is what most often fails.
const RETRIES: u32 = 3;
/// What is named by its digest does not age.
const FOR_EVER: &str = "36500d";
/// Variables by which a program is told of a proxy.
const PROXIES: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];
const DISK: &str = "ephemeral-storage";

/// The pipeline with a stage for each input by `uri`.
pub(super) fn expand<'a>(
    spec: &'a MLPipelineSpec,
    templates: &BTreeMap<String, Arc<StageTemplate>>,
    is_model: &dyn Fn(&str) -> bool,
    config: &Config,
    problems: &mut Problems,
) -> Cow<'a, MLPipelineSpec> {
    let by_uri = |input: &Input| input.uri.is_some();
    let any = |stages: &BTreeMap<String, Stage>| stages.values().any(|stage| stage.inputs.values().any(by_uri));
    if !any(&spec.stages) && !any(&spec.finally) {
        return Cow::Borrowed(spec);
    }
    let mut whole = spec.clone();
    for finally in [false, true] {
        let stages = if finally { &spec.finally } else { &spec.stages };
        for (name, stage) in stages {
            for (input, found) in &stage.inputs {
                let at = format!("{}.inputs.{input}", stage_path(finally, name));
                let Some(mut made) = read(stage, found, stages, &at, config, problems) else { continue };
                let mut output = output(stage, input, templates);
                if is_model(&at) {
                    output.kind = ArtifactType::Model;
                }
                made.outputs.insert(OUTPUT.to_owned(), output);
                let called = format!("{name}-{input}");
                if whole.stages.contains_key(&called) || whole.finally.contains_key(&called) {
                    let message = format!(
                        "a stage `{called}` is made for this input, and there is one already: give that one or the input another name"
                    );
                    problems.add(at, "NameTaken", message);
                    continue;
                }
                let into = if finally { &mut whole.finally } else { &mut whole.stages };
                if let Some(input) = into.get_mut(name).and_then(|stage| stage.inputs.get_mut(input)) {
                    *input = Input { from: Some(format!("{called}.{OUTPUT}")), ..Input::default() };
                }
                into.insert(called, made);
            }
        }
    }
    Cow::Owned(whole)
}

/// What was found wrong with a stage that was made is told of the input that it was made for. What both have was found in the reader too.
pub(super) fn told_of_inputs(spec: &MLPipelineSpec, problems: &mut Problems) {
    let mut made = BTreeMap::new();
    for (finally, stages) in [(false, &spec.stages), (true, &spec.finally)] {
        for (name, stage) in stages {
            for (input, found) in &stage.inputs {
                let called = format!("{name}-{input}");
                if found.from.is_none() && !stages.contains_key(&called) {
                    let field = if found.uri.is_some() { ".uri" } else { "" };
                    let at = format!("{}.inputs.{input}{field}", stage_path(finally, name));
                    made.insert(stage_path(finally, &called), at);
                }
            }
        }
    }
    problems.0.retain_mut(|problem| {
        let below =
            |path: &&String| problem.path.strip_prefix(*path).filter(|rest| rest.is_empty() || rest.starts_with('.'));
        let Some((path, at)) = made.iter().find(|(path, _)| below(path).is_some()) else { return true };
        let field = &problem.path[path.len()..];
        if !(field.is_empty() || field.starts_with(".container") || field.starts_with(".inputs")) {
            return false;
        }
        problem.path.clone_from(at);
        true
    });
}

/// The stage that reads the address of an input; none for other inputs, and for one with mistakes.
fn read(
    reader: &Stage,
    input: &Input,
    all: &BTreeMap<String, Stage>,
    at: &str,
    config: &Config,
    problems: &mut Problems,
) -> Option<Stage> {
    let uri = input.uri.as_ref()?;
    let before = problems.0.len();
    let access = input.access.as_deref().cloned().unwrap_or_default();
    let kind = address(uri, input, &access, at, problems);
    time::duration(input.max_age.as_deref(), &format!("{at}.maxAge"), problems);
    // What is wrong beside the address is found where all inputs are looked at: it stays as it is written.
    let elsewhere = input.from.is_some() || input.deployed.is_some() || input.model.is_some() || input.input.is_some();
    let odd = elsewhere || input.default.is_some() || input.optional;
    if input.mode == InputMode::Uri || odd || problems.0.len() > before {
        return None;
    }
    let mut settings = of_reader(reader, &access);
    settings.env.extend(variables(kind?, &access));
    let mut args =
        vec!["get".to_owned(), "--uri".to_owned(), uri.clone(), "--to".to_owned(), format!("$[[ outputs.{OUTPUT} ]]")];
    let mut option = |name: &str, value: Option<&String>| {
        args.extend(value.into_iter().flat_map(|value| [format!("--{name}"), value.clone()]));
    };
    option("digest", input.digest.as_ref());
    option("endpoint", access.endpoint.as_ref());
    option("region", access.region.as_ref());
    option("account", access.account.as_ref());
    if let Some((claim, path)) = uri.strip_prefix("pvc://").and_then(|rest| rest.split_once('/')) {
        option("from", Some(&format!("{CLAIM}/{path}")));
        let claim = VolumeClaim { name: claim.to_owned() };
        settings.volumes.insert("source".to_owned(), volume(claim));
    }
    let flags = [("--secret", access.secret_ref.is_some()), ("--anonymous", access.anonymous)];
    args.extend(flags.iter().filter(|(_, set)| *set).map(|(flag, _)| (*flag).to_owned()));
    let image = if config.agent_image.is_empty() { AGENT } else { &config.agent_image };
    let container = Container {
        image: image.to_owned(),
        command: Some(vec![AGENT_PROGRAM.to_owned()]),
        args,
        agent: Some(AgentPath { path: AGENT_PROGRAM.to_owned() }),
        settings,
        ..Container::default()
    };
    let age = input.digest.as_ref().map(|_| FOR_EVER.to_owned()).or_else(|| input.max_age.clone());
    // Others say by themselves whether what they have has changed; of a claim nobody says it.
    let asks = !uri.starts_with("pvc://");
    let mode = if age.is_some() || asks { CacheMode::Auto } else { CacheMode::Off };
    Some(Stage {
        needs: made::comes_after(reader, all),
        when: reader.when.clone(),
        on_failure: reader.on_failure,
        container: Some(container),
        cache: Some(Cache { mode, max_age: age, ..Cache::default() }),
        retry: Some(retry(reader)),
        timeout: reader.timeout.clone(),
        pending_timeout: reader.pending_timeout.clone(),
        ..Stage::default()
    })
}

/// A model where the reader's StageTemplate takes nothing else: the agent looks whether it is one.
fn output(reader: &Stage, input: &str, templates: &BTreeMap<String, Arc<StageTemplate>>) -> Output {
    let template = reader.uses.as_ref().and_then(|uses| templates.get(uses));
    let declared = template.and_then(|template| template.spec.inputs.get(input));
    Output { kind: declared.map(|declared| declared.kind).unwrap_or_default(), ..Output::default() }
}

fn volume(claim: VolumeClaim) -> Volume {
    Volume {
        config_map: None,
        secret: None,
        claim: Some(claim),
        memory: None,
        mount_path: CLAIM.to_owned(),
        sub_path: None,
        read_only: true,
    }
}

fn retry(reader: &Stage) -> Retry {
    let own = reader.retry.as_ref();
    Retry {
        limit: own.map_or(RETRIES, |retry| retry.limit),
        backoff: own.and_then(|retry| retry.backoff.clone()),
        when: Some(format!("exitCode != {GET_FINAL} && reason != 'OutputMissing'")),
        memory_growth: None,
    }
}

/// The reader's identity where that is what reaches the address, its proxies, and as much disk as it asks for.
fn of_reader(reader: &Stage, access: &UriAccess) -> PodSettings {
    let own = reader.container.as_ref().map(|container| &container.settings).or(reader.overrides.as_ref());
    let asked = own.and_then(|own| own.resources.clone()).unwrap_or_default();
    let disk = |amounts: BTreeMap<String, serde_json::Value>| amounts.into_iter().filter(|(name, _)| name == DISK);
    let fixed = |amounts: &[(&str, &str)]| {
        amounts.iter().map(|(name, amount)| ((*name).to_owned(), json!(amount))).collect::<Vec<_>>()
    };
    PodSettings {
        service_account_name: own
            .filter(|_| access.secret_ref.is_none() && !access.anonymous)
            .and_then(|own| own.service_account_name.clone()),
        run_as_user: own.and_then(|own| own.run_as_user),
        run_as_group: own.and_then(|own| own.run_as_group),
        resources: Some(Resources {
            requests: fixed(&[("cpu", "50m"), ("memory", "64Mi")]).into_iter().chain(disk(asked.requests)).collect(),
            limits: fixed(&[("memory", "256Mi")]).into_iter().chain(disk(asked.limits)).collect(),
        }),
        env: own
            .into_iter()
            .flat_map(|own| &own.env)
            .filter(|(name, _)| PROXIES.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        ..PodSettings::default()
    }
}
