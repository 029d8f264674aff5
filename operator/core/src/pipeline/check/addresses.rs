//! Inputs by `uri`. Before anything is checked, each becomes a stage of its own, whose program is the agent alone: it brings what lies at the
//! address into the store, and the input becomes that stage's output. So nobody's program runs where the credentials are, every attempt and
//! item reads the same bytes, and the keys of the cache have the digest of what was read.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Problems, time};
use crate::api::{
    AgentPath, Cache, CacheMode, Container, EnvValue, Input, InputMode, KeyRef, MLPipelineSpec, Output, PodSettings,
    Resources, Retry, Stage, StageTemplate, UriAccess, Volume, VolumeClaim,
};
use crate::config::Config;
use crate::expr;
use crate::names;
use crate::pipeline::stage_path;
use millrace_contract::{AGENT_PROGRAM, GET_ENV, GET_FINAL, StoreKind};
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
                made.outputs.insert(OUTPUT.to_owned(), output(stage, input, templates));
                let called = format!("{name}-{input}");
                if spec.stages.contains_key(&called) || spec.finally.contains_key(&called) {
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
    if input.mode == InputMode::Uri || input.from.is_some() || input.deployed.is_some() || problems.0.len() > before {
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
    let mode = if age.is_some() { CacheMode::Auto } else { CacheMode::Off };
    Some(Stage {
        needs: comes_after(reader, all),
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

/// Whatever the reader comes after may be what writes to the address.
fn comes_after(reader: &Stage, all: &BTreeMap<String, Stage>) -> Vec<String> {
    let sources = reader.inputs.values().flat_map(|input| {
        input
            .from
            .iter()
            .chain(input.default.as_ref().map(|default| &default.from))
            .filter_map(|from| from.split_once('.'))
    });
    // What is in `finally` comes after all others anyway.
    let sources = sources.map(|(stage, _)| stage.to_owned()).filter(|stage| all.contains_key(stage));
    reader.needs.iter().cloned().chain(sources).collect::<BTreeSet<_>>().into_iter().collect()
}

fn retry(reader: &Stage) -> Retry {
    let own = reader.retry.as_ref();
    Retry {
        limit: own.map_or(RETRIES, |retry| retry.limit),
        backoff: own.and_then(|retry| retry.backoff.clone()),
        when: Some(format!("exitCode != {GET_FINAL}")),
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

/// What an address is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Web,
    Bucket(StoreKind),
    Claim,
}

/// What is wrong with an address and with how it is reached.
fn address(uri: &str, input: &Input, access: &UriAccess, at: &str, problems: &mut Problems) -> Option<Kind> {
    let path = format!("{at}.uri");
    let mut wrong = |message: String| problems.add(path.as_str(), "InvalidAddress", message);
    let Some((scheme, rest)) = uri.split_once("://") else {
        wrong(format!(
            "`{uri}` is no address: write one that begins with https://, http://, s3://, gs://, az:// or pvc://"
        ));
        return None;
    };
    let kind = match scheme {
        "http" | "https" => Kind::Web,
        "s3" => Kind::Bucket(StoreKind::S3),
        "gs" => Kind::Bucket(StoreKind::Gcs),
        "az" => Kind::Bucket(StoreKind::Azure),
        "pvc" => Kind::Claim,
        _ => {
            wrong(format!("nobody reads {scheme}:// here: write https://, http://, s3://, gs://, az:// or pvc://"));
            return None;
        }
    };
    let templated = expr::has_template(uri);
    let (root, below) = rest.split_once('/').unwrap_or((rest, ""));
    let climbs = below.split('/').any(|part| part == "..");
    match kind {
        Kind::Web if root.contains('@') => {
            wrong("it holds a user or a password, which everybody sees who may read the run: write access.secretRef with HTTP_AUTHORIZATION".to_owned());
        }
        Kind::Web if root.is_empty() => wrong("it names no host: write https://<host>/<file>".to_owned()),
        Kind::Web if is_metadata(root) => {
            wrong(format!("{root} is for the machine alone, not for data: write the address of a server"));
        }
        Kind::Claim if input.mode == InputMode::Uri => {
            wrong("a program reaches a claim by a path alone: leave mode out".to_owned());
        }
        Kind::Claim if !templated && names::claim_and_path(uri.trim_end_matches('/')).is_none() => {
            wrong("write pvc://<claim>/<path>, without \"..\"".to_owned());
        }
        Kind::Claim if expr::has_template(root) || !names::is_label(root) || climbs => {
            wrong(
                "the claim has to be named as it is called, and the path without \"..\": pvc://<claim>/<path>"
                    .to_owned(),
            );
        }
        Kind::Bucket(_) if root.is_empty() || below.is_empty() || climbs => {
            wrong(format!("write {scheme}://<bucket>/<path>, without \"..\""));
        }
        Kind::Web | Kind::Claim | Kind::Bucket(_) => {}
    }
    settled(kind, input, access, at, problems);
    Some(kind)
}

/// Fields of `access` that an address of this kind has no use for, and those that it needs.
fn settled(kind: Kind, input: &Input, access: &UriAccess, at: &str, problems: &mut Problems) {
    let UriAccess { endpoint, region, account, secret_ref, ca_config_map, anonymous } = access;
    let bucket = matches!(kind, Kind::Bucket(_));
    let fields = [
        ("endpoint", endpoint.is_some(), bucket, "s3://, gs:// or az://"),
        ("region", region.is_some(), kind == Kind::Bucket(StoreKind::S3), "s3://"),
        ("account", account.is_some(), kind == Kind::Bucket(StoreKind::Azure), "az://"),
        ("anonymous", *anonymous, bucket, "s3://, gs:// or az://"),
        ("secretRef", secret_ref.is_some(), kind != Kind::Claim, "https://, s3://, gs:// or az://"),
        ("caConfigMap", ca_config_map.is_some(), kind != Kind::Claim, "https://, s3://, gs:// or az://"),
    ];
    for (field, _, _, of) in fields.iter().filter(|(_, given, fits, _)| *given && !fits) {
        let message = format!("{field} is for an address that begins with {of}: take it out");
        problems.add(format!("{at}.access.{field}"), "InvalidAddress", message);
    }
    if *anonymous && secret_ref.is_some() {
        let message = "who asks without a signature needs no credentials: take secretRef or anonymous out";
        problems.add(format!("{at}.access.anonymous"), "InvalidAddress", message);
    }
    let reads = input.mode == InputMode::Path;
    if kind == Kind::Bucket(StoreKind::Azure) && account.is_none() && reads {
        let message = "az:// names the container alone: write access: { account: <storage account> }";
        problems.add(format!("{at}.access.account"), "InvalidAddress", message);
    }
    let host = endpoint.as_deref().and_then(|endpoint| endpoint.split_once("://")).map(|(_, rest)| rest);
    if let Some(host) = host.filter(|host| is_metadata(host.split('/').next().unwrap_or_default())) {
        let message = format!("{host} is for the machine alone, not for data: write the address of a server");
        problems.add(format!("{at}.access.endpoint"), "InvalidAddress", message);
    }
}

/// Hosts from which a cloud tells a machine who it is. The agent looks again, at what names and redirects lead to.
fn is_metadata(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let name = host.strip_prefix('[').map_or_else(|| host.split(':').next().unwrap_or_default(), |rest| rest);
    name.starts_with("169.254.") || name.starts_with("fe80:") || name.starts_with("metadata.google.internal")
}

/// What the agent needs to get at the address, by names that its program `get` knows.
fn variables(kind: Kind, access: &UriAccess) -> BTreeMap<String, EnvValue> {
    let (required, optional): (&[&str], &[&str]) = match kind {
        Kind::Web => (&[], &["HTTP_AUTHORIZATION"]),
        Kind::Bucket(StoreKind::S3) => (&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], &["AWS_SESSION_TOKEN"]),
        Kind::Bucket(StoreKind::Gcs) => (&["GOOGLE_SERVICE_ACCOUNT_KEY"], &[]),
        Kind::Bucket(StoreKind::Azure) => (
            &[],
            &[
                "AZURE_STORAGE_ACCOUNT_KEY",
                "AZURE_STORAGE_SAS_KEY",
                "AZURE_CLIENT_ID",
                "AZURE_CLIENT_SECRET",
                "AZURE_TENANT_ID",
            ],
        ),
        Kind::Claim => (&[], &[]),
    };
    let mut found = BTreeMap::new();
    if let Some(secret) = &access.secret_ref {
        let keys =
            required.iter().map(|key| (*key, false)).chain(optional.iter().chain(&["ca.crt"]).map(|key| (*key, true)));
        found.extend(keys.map(|(key, optional)| {
            let key_ref = KeyRef { name: secret.name.clone(), key: key.to_owned(), optional };
            (format!("{GET_ENV}{key}"), EnvValue { secret: Some(key_ref), ..EnvValue::default() })
        }));
    }
    if let Some(authority) = &access.ca_config_map {
        let value = EnvValue { config_map: Some(authority.clone()), ..EnvValue::default() };
        found.insert(format!("{GET_ENV}ca.crt"), value);
    }
    found
}
