//! Where a stage's inputs lie.

use std::collections::BTreeMap;

use super::heal::INPUT_LOST;
use super::pass::{Pass, Stages};
use super::{Words, awaited, render, scope};
use crate::api::{
    ArtifactType, Input, InputMode, MLPipelineRun, ModelArtifact, ModelInput, ModelVersion, OutputStatus,
    ResolvedInput, RunInput, StageState, StageStatus, Store, StoreAccess,
};
use crate::expr;
use crate::model_version::is_called_right;
use crate::pipeline::FrozenContainer;
use crate::store::{self, Place};

/// An input that is mounted, or brought by the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mounted {
    pub place: Place,
    pub digest: String,
    pub size: u64,
}

/// An input of which the program gets the address, and reads it by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handed {
    pub uri: String,
    /// Of what a stage or a ModelVersion made. Of any other address nobody knows what lies there when the program looks.
    pub digest: Option<String>,
}

/// Why a stage cannot begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// It may pass: somebody has to deploy something, or add a PodTemplate.
    Wait(Words),
    /// It will not.
    Fail(Words),
}

impl Hindrance {
    pub fn wait(reason: &str, message: impl Into<String>) -> Self {
        Self::Wait(Words { reason: reason.to_owned(), message: message.into() })
    }

    pub fn fail(reason: &str, message: impl Into<String>) -> Self {
        Self::Fail(Words { reason: reason.to_owned(), message: message.into() })
    }
}

/// What is read by an attempt that is made now, and that no stage made: the models of `deployed` and of `model`, and what the run was given.
pub(super) fn resolve(
    pass: &Pass<'_>,
    inputs: &BTreeMap<String, Input>,
) -> Result<BTreeMap<String, ResolvedInput>, Hindrance> {
    let mut resolved = BTreeMap::new();
    for (name, input) in inputs {
        if let Some(named) = &input.input {
            resolved.insert(name.clone(), given(pass, named).map(of_artifact).unwrap_or_default());
            continue;
        }
        let served_by = input.deployed.as_ref();
        // One that is not there is another matter: this is served, and nobody knows its signature, its metrics and its bytes.
        if let Some(why) = served_by.and_then(|deployment| unregistered(pass, deployment)) {
            return Err(Hindrance::fail("NotRegistered", format!("input `{name}`: {why}")));
        }
        let (found, reason) = match (&input.deployed, &input.model) {
            (Some(deployment), _) => (served(pass, deployment), "WaitingForDeployedModel"),
            (None, Some(model)) => (registered(pass, model), "WaitingForModelVersion"),
            (None, None) => continue,
        };
        match found {
            Ok(version) => resolved.insert(name.clone(), of_version(version)),
            Err(_) if input.optional => resolved.insert(name.clone(), ResolvedInput::default()),
            Err(message) => return Err(Hindrance::wait(reason, format!("input `{name}`: {message}"))),
        };
    }
    Ok(resolved)
}

/// What the run was given for one of its pipeline's inputs. Nothing for one that it need not be given.
fn given<'a>(pass: &Pass<'a>, named: &str) -> Option<&'a ModelArtifact> {
    pass.run.spec.inputs.get(named)?.artifact.as_deref()
}

/// What another pipeline is given by a stage that runs it.
pub(super) fn hand_over(
    pass: &Pass<'_>,
    inputs: &BTreeMap<String, Input>,
    resolved: &BTreeMap<String, ResolvedInput>,
    stages: &Stages,
) -> Result<BTreeMap<String, RunInput>, Hindrance> {
    let own = store::access(pass.frozen.store.as_ref());
    let mut found = BTreeMap::new();
    for (name, input) in inputs {
        let Some(artifact) = lies(name, input, resolved, stages, own.as_ref())? else { continue };
        let kind = match (&input.from, &input.input) {
            (Some(_), _) => self::artifact(input, stages).map(|made| made.kind).unwrap_or_default(),
            (None, Some(named)) => pass.run.spec.inputs.get(named).map(|given| given.kind).unwrap_or_default(),
            (None, None) => ArtifactType::Model,
        };
        found.insert(name.clone(), RunInput { artifact: Some(Box::new(artifact)), kind, ..RunInput::default() });
    }
    Ok(found)
}

/// What is wrong with a ModelDeployment whose model is not registered.
fn unregistered(pass: &Pass<'_>, deployment: &str) -> Option<String> {
    let uri = pass.observed.model_deployments.get(deployment)?.spec.model.uri.as_ref()?;
    let instead = if uri.starts_with("http") {
        "put the file into a bucket and register it, or write uri: with its address instead of deployed, which brings the file alone".to_owned()
    } else {
        format!("write uri: {uri} instead of deployed, with the digest and access of its spec.model, or register it")
    };
    Some(format!("ModelDeployment {deployment} serves what lies at {uri}, which is no registered model: {instead}"))
}

/// The ModelVersion that a ModelDeployment serves, or why there is none.
fn served<'a>(pass: &'a Pass<'_>, deployment: &str) -> Result<&'a ModelVersion, String> {
    let Some(found) = pass.observed.model_deployments.get(deployment) else {
        return Err(awaited::absent(pass, deployment));
    };
    let served = found.status.as_ref().and_then(|status| Some((status.served_model.as_ref()?, status.served_version?)));
    let Some((served, version)) = served else {
        return Err(format!("ModelDeployment {deployment} serves no version yet"));
    };
    let model = found.model_name();
    if served != model {
        return Err(format!(
            "ModelDeployment {deployment} serves version {version} of {served}, and none of {model} yet"
        ));
    }
    let versions = &pass.observed.model_versions;
    let found = versions.iter().find(|v| v.spec.model == *model && v.spec.version == version && is_called_right(v));
    found.map(AsRef::as_ref).ok_or_else(|| {
        format!("ModelDeployment {deployment} serves version {version} of {model}, which is not registered")
    })
}

/// The version that an input names, or the newest; or why there is none.
fn registered<'a>(pass: &'a Pass<'_>, wanted: &ModelInput) -> Result<&'a ModelVersion, String> {
    let ModelInput { name, version } = wanted;
    let all = || {
        pass.observed
            .model_versions
            .iter()
            .map(AsRef::as_ref)
            .filter(|v: &&ModelVersion| v.spec.model == *name && is_called_right(v))
    };
    let Some(newest) = all().max_by_key(|found| found.spec.version) else {
        let others = pass.observed.model_versions.iter().map(|found| found.spec.model.as_str());
        let remedy = match expr::nearest(name, others) {
            Some(meant) => format!("did you mean {meant}? Then correct the pipeline and start a new run"),
            None => "it begins when one is".to_owned(),
        };
        return Err(format!("no version of the model {name} is registered: {remedy}"));
    };
    let Some(version) = version else { return Ok(newest) };
    all().find(|found| found.spec.version == *version).ok_or_else(|| {
        let newest = newest.spec.version;
        format!("version {version} of the model {name} is not registered, and the newest is {newest}: write one that is, or leave version out")
    })
}

fn of_version(version: &ModelVersion) -> ResolvedInput {
    ResolvedInput { model_version: version.metadata.name.clone(), ..of_artifact(&version.spec.artifact) }
}

fn of_artifact(artifact: &ModelArtifact) -> ResolvedInput {
    ResolvedInput {
        model_version: None,
        uri: Some(artifact.uri.clone()),
        digest: Some(artifact.digest.clone()),
        size: Some(artifact.size),
        access: artifact.access.clone(),
    }
}

/// What to do about a model, or what the run was given, that the agent calls lost; nothing if it was another input.
pub(super) fn remedy(
    inputs: &BTreeMap<String, Input>,
    resolved: &BTreeMap<String, ResolvedInput>,
    message: &str,
) -> Option<String> {
    let named = |name: &String| message.contains(&format!("input {name:?}"));
    let (name, input) = inputs.iter().find(|(name, _)| named(name))?;
    let ResolvedInput { model_version, uri, .. } = resolved.get(name)?;
    let uri = uri.as_ref()?;
    if let Some(named) = &input.input {
        return Some(format!(
            "it is what the run was given as its input `{named}`, and what lies at {uri} is not that: a run that this one belongs to makes it again; \
             if it was given by hand, correct spec.inputs.{named}.artifact in a new run"
        ));
    }
    let version = model_version.as_ref()?;
    let (served, other) = match &input.deployed {
        Some(deployment) => {
            (format!(", which ModelDeployment {deployment} serves,"), format!("let {deployment} serve another version"))
        }
        None => (String::new(), "name another version".to_owned()),
    };
    Some(format!(
        "it is ModelVersion {version}{served} and what lies at {uri} is not what was registered: bring its files back there, \
         or {other}, then start a new run"
    ))
}

/// How the agent begins what it says of the file that a `forEach` runs over.
const LIST: &str = "the list of items: ";

/// The input that the agent calls lost, and the stage of this run that has it to give; nothing if it comes from elsewhere.
pub(super) fn lost<'a>(stage: &'a FrozenContainer, message: &str, stages: &Stages) -> Option<(&'a str, &'a str)> {
    let list = stage.for_each.as_ref().and_then(|each| each.from.as_ref()).filter(|_| message.contains(LIST));
    let input = || stage.inputs.iter().find(|(name, _)| message.contains(&format!("input {name:?}")));
    let (name, all): (&str, Vec<&String>) = match list {
        Some(from) => ("forEach.from", vec![from]),
        None => {
            let (name, input) = input()?;
            (name, input.from.iter().chain(input.default.as_ref().map(|default| &default.from)).collect())
        }
    };
    Some((name, giver(all, stages)?))
}

/// The stage of this run that has an input to give.
pub(super) fn producer<'a>(input: &'a Input, stages: &Stages) -> Option<&'a str> {
    giver(input.from.iter().chain(input.default.as_ref().map(|default| &default.from)), stages)
}

/// The stage of the first of these that is there, or is being made.
fn giver<'a>(froms: impl IntoIterator<Item = &'a String>, stages: &Stages) -> Option<&'a str> {
    let from = froms.into_iter().find(|from| source(from, stages).is_some() || is_made_again(from, stages))?;
    Some(from.split_once('.')?.0)
}

/// What a run was given and found lost: its name, and what the run's stage says of it.
pub(super) fn lost_of(run: &MLPipelineRun) -> Option<(&str, &str)> {
    let failed = run.status.iter().flat_map(|status| status.stages.values());
    let failed =
        failed.filter(|stage| stage.state == StageState::Failed && stage.reason.as_deref() == Some(INPUT_LOST));
    failed.into_iter().find_map(|stage| {
        let message = stage.message.as_deref()?;
        // The first that is told of: behind it may stand the words of a run below.
        let named =
            stage.inputs.iter().filter_map(|(name, read)| Some((message.find(&format!("input {name:?}"))?, read)));
        let (_, read) = named.min_by_key(|(at, _)| *at)?;
        let is = |given: &RunInput| given.artifact.as_ref().is_some_and(|given| Some(&given.uri) == read.uri.as_ref());
        let (name, _) = run.spec.inputs.iter().find(|(_, given)| is(given))?;
        Some((name.as_str(), message))
    })
}

/// Where an input lies that a stage made, or that was resolved; nothing for an optional one that is absent. `own` is how the store of this run is reached.
fn lies(
    name: &str,
    input: &Input,
    resolved: &BTreeMap<String, ResolvedInput>,
    stages: &Stages,
    own: Option<&StoreAccess>,
) -> Result<Option<ModelArtifact>, Hindrance> {
    if let Some(from) = &input.from {
        return match artifact(input, stages) {
            Some(OutputStatus { uri, digest, size, access, .. }) => {
                let (uri, digest, access) = (uri.clone(), digest.clone(), access.clone().or_else(|| own.cloned()));
                Ok(Some(ModelArtifact { uri, digest, size: *size, access }))
            }
            None if input.optional => Ok(None),
            None => Err(absent(name, from, stages)),
        };
    }
    let Some(ResolvedInput { uri: Some(uri), digest: Some(digest), size: Some(size), access, .. }) = resolved.get(name)
    else {
        return Ok(None);
    };
    Ok(Some(ModelArtifact { uri: uri.clone(), digest: digest.clone(), size: *size, access: access.clone() }))
}

/// Every input of an attempt; an optional one that is absent is left out.
pub(super) fn mounted(
    inputs: &BTreeMap<String, Input>,
    resolved: &BTreeMap<String, ResolvedInput>,
    stages: &Stages,
    store: Option<&Store>,
) -> Result<BTreeMap<String, Mounted>, Hindrance> {
    let own = store::access(store);
    let mut mounts = BTreeMap::new();
    for (name, input) in inputs.iter().filter(|(_, input)| input.mode == InputMode::Path) {
        let Some(ModelArtifact { uri, digest, size, access }) = lies(name, input, resolved, stages, own.as_ref())?
        else {
            continue;
        };
        let Some(place) = store::place(&uri, access.as_ref()) else {
            let message =
                format!("input `{name}`: `{uri}` is no address of an artifact: those are {}", store::ADDRESSES);
            return Err(Hindrance::fail("BadArtifact", message));
        };
        let mount = Mounted { place, digest, size };
        mounts.insert(name.clone(), mount);
    }
    Ok(mounts)
}

/// Every input with `mode: Uri`; an optional one that is absent is left out.
pub(super) fn handed(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    status: &StageStatus,
    stages: &Stages,
) -> Result<BTreeMap<String, Handed>, Hindrance> {
    let mut found = BTreeMap::new();
    for (input, of) in stage.inputs.iter().filter(|(_, of)| of.mode == InputMode::Uri) {
        let handed = if let Some(uri) = &of.uri {
            let uri =
                expr::render(uri, &scope::of_run(pass, stages)).map_err(|error| render::no_value(name, &error))?;
            Handed { uri, digest: None }
        } else if let Some(from) = &of.from {
            match artifact(of, stages) {
                Some(output) => Handed { uri: output.uri.clone(), digest: Some(output.digest.clone()) },
                None if of.optional => continue,
                None => return Err(absent(input, from, stages)),
            }
        } else {
            let Some(ResolvedInput { uri: Some(uri), digest, .. }) = status.inputs.get(input) else { continue };
            Handed { uri: uri.clone(), digest: digest.clone() }
        };
        if handed.uri.starts_with("pvc://") {
            let message = format!(
                "input `{input}`: it lies at {}, on a claim, which has no address that a program could use: leave mode: Uri out",
                handed.uri
            );
            return Err(Hindrance::fail("BadArtifact", message));
        }
        found.insert(input.clone(), handed);
    }
    Ok(found)
}

/// A stage that it reads from has not ended: what that had made was lost, and is made again.
pub(super) fn comes(stage: &FrozenContainer, stages: &Stages) -> bool {
    let each = stage.for_each.iter().filter_map(|each| each.from.as_ref());
    any_comes(&stage.inputs, stages) || each.into_iter().any(|from| is_made_again(from, stages))
}

/// The same of inputs alone.
pub(super) fn any_comes(inputs: &BTreeMap<String, Input>, stages: &Stages) -> bool {
    inputs.values().filter_map(|input| input.from.as_ref()).any(|from| is_made_again(from, stages))
}

fn is_made_again(from: &str, stages: &Stages) -> bool {
    from.split_once('.').and_then(|(source, _)| stages.get(source)).is_some_and(|made| !made.state.ended())
}

/// What an input with `from` reads: its source, else its default.
fn artifact<'a>(input: &Input, stages: &'a Stages) -> Option<&'a OutputStatus> {
    let default = input.default.as_ref().map(|default| &default.from);
    input.from.iter().chain(default).find_map(|from| source(from, stages))
}

fn source<'a>(from: &str, stages: &'a Stages) -> Option<&'a OutputStatus> {
    let (stage, output) = from.split_once('.')?;
    stages.get(stage).filter(|made| made.state == StageState::Succeeded)?.outputs.get(output)
}

/// The first input for which neither its source nor its default was made, though it could have been: its source.
pub(super) fn unmade<'a>(
    inputs: impl IntoIterator<Item = (&'a String, &'a Input)>,
    stages: &Stages,
) -> Option<(&'a String, &'a Input)> {
    inputs.into_iter().find(|(_, input)| {
        input.from.is_some() && input.default.is_some() && !input.optional && artifact(input, stages).is_none()
    })
}

fn absent(input: &str, from: &str, stages: &Stages) -> Hindrance {
    let (stage, output) = from.split_once('.').unwrap_or((from, ""));
    let ended = stages.get(stage).map_or(StageState::Waiting, |made| made.state);
    let message = format!(
        "input `{input}`: stage `{stage}` is {ended:?} and left out its output `{output}`, which is optional there: \
         let the stage always write it, write optional: true, or give the input a default"
    );
    Hindrance::fail("OutputAbsent", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{InputDefault, StageStatus};
    use crate::names;

    #[test]
    fn an_artifacts_address_is_a_claim_and_a_path_that_does_not_climb() {
        assert_eq!(names::claim_and_path("pvc://artifacts/runs/r/a"), Some(("artifacts", "runs/r/a")));
        for uri in ["s3://a/b", "pvc://artifacts", "pvc:///a", "pvc://a/../b", "pvc://a//b", "pvc://a/", "pvc://a/./b"]
        {
            assert_eq!(names::claim_and_path(uri), None, "{uri}");
        }
    }

    #[test]
    fn an_input_is_where_its_producer_wrote_it_and_an_absent_optional_one_is_left_out() {
        let output = OutputStatus { uri: "pvc://c/p".into(), digest: "d".into(), size: 3, ..OutputStatus::default() };
        let outputs = [("data".to_owned(), output)].into();
        let status = StageStatus { state: StageState::Succeeded, outputs, ..StageStatus::default() };
        let stages = Stages::from([("ingest".to_owned(), status)]);
        let from = |from: &str| Input { from: Some(from.into()), ..Input::default() };
        let none = ResolvedInput::default();
        let champion = Input { deployed: Some("m".into()), optional: true, ..Input::default() };
        let inputs = BTreeMap::from([("rows".to_owned(), from("ingest.data")), ("old".to_owned(), champion)]);
        let found = mounted(&inputs, &[("old".to_owned(), none)].into(), &stages, None).unwrap();
        let lies = Place::Claim { claim: "c".into(), path: "p".into() };
        let rows = Mounted { place: lies.clone(), digest: "d".into(), size: 3 };
        assert_eq!(found, BTreeMap::from([("rows".to_owned(), rows)]));

        let inputs = BTreeMap::from([("rows".to_owned(), from("ingest.test"))]);
        let Err(Hindrance::Fail(words)) = mounted(&inputs, &BTreeMap::new(), &stages, None) else { panic!("mounted") };
        assert_eq!(words.reason, "OutputAbsent");
        assert!(words.message.contains("`test`") && words.message.contains("`ingest`"), "{}", words.message);

        let default = Some(InputDefault { from: "ingest.data".into() });
        let inputs = BTreeMap::from([("rows".to_owned(), Input { default, ..from("other.data") })]);
        assert_eq!(unmade(&inputs, &stages), None);
        assert_eq!(mounted(&inputs, &BTreeMap::new(), &stages, None).unwrap()["rows"].place, lies);
        let optional = Input { optional: true, ..from("other.data") };
        let inputs = BTreeMap::from([("rows".to_owned(), optional)]);
        assert_eq!(mounted(&inputs, &BTreeMap::new(), &stages, None).unwrap(), BTreeMap::new());
    }
}
