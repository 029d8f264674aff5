//! What a pipeline needs that this machine has not, found before anything runs: programs, Secrets and ConfigMaps, claims with data, models.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use millrace_contract::AGENT_PROGRAM;
use millrace_core::api::{Container, ModelInput, ModelVersion, ModelVersionSpec};
use millrace_core::expr;
use millrace_core::pipeline::{Frozen, FrozenContainer, FrozenKind, stage_path};
use millrace_core::problem::Problem;
use millrace_core::store;

use super::home::Deployments;
use super::pod::Things;
use super::programs::{self, Programs};

const NOT_HERE: &str = "NotHere";

/// What there is.
pub struct Here<'a> {
    pub things: &'a Things,
    pub programs: &'a Programs,
    pub claims: &'a Path,
    pub deployments: &'a Deployments,
    pub versions: &'a [Arc<ModelVersion>],
    /// Approvals that are given with the command.
    pub approved: &'a dyn Fn(&str) -> bool,
    /// Somebody can be asked.
    pub asks: bool,
}

/// What the run itself brings.
#[derive(Default)]
struct Made<'a> {
    /// ModelDeployments that it deploys to.
    deployed: BTreeSet<&'a str>,
    /// Models of which it registers a version.
    registered: BTreeSet<&'a str>,
}

impl<'a> Made<'a> {
    fn by(frozen: &'a Frozen) -> Self {
        let mut made = Self::default();
        for stage in frozen.stages.values() {
            match &stage.kind {
                FrozenKind::Deploy(deploy) => made.deployed.insert(&deploy.model_deployment),
                FrozenKind::Register(register) => made.registered.insert(&register.model),
                FrozenKind::Container(_) | FrozenKind::Pipeline(_) | FrozenKind::Approve(_) | FrozenKind::Report(_) => {
                    continue;
                }
            };
        }
        made
    }
}

/// Everything that is missing. `base` is the path of the pipeline's spec.
pub fn missing(frozen: &Frozen, base: &str, here: &Here<'_>) -> Vec<Problem> {
    let mut found = Vec::new();
    let made = Made::by(frozen);
    for (name, stage) in &frozen.stages {
        let at = stage_path(stage.finally, name).replacen("spec", base, 1);
        match &stage.kind {
            FrozenKind::Container(container) => of_container(&at, container, frozen, &made, here, &mut found),
            FrozenKind::Pipeline(nested) => {
                let message = format!(
                    "it is another run{}, and there is no cluster to make it in: run the pipeline {} by itself",
                    if nested.items().is_some() { " for each item" } else { "" },
                    nested.pipeline.name
                );
                found.push(Problem::new(format!("{at}.pipeline"), NOT_HERE, message));
            }
            FrozenKind::Approve(_) if !here.asks && !(here.approved)(name) => {
                let message = format!(
                    "it waits for a person, and there is no terminal to ask at: write --approve {name}=yes, or =no"
                );
                found.push(Problem::new(format!("{at}.approve"), NOT_HERE, message));
            }
            FrozenKind::Approve(_) | FrozenKind::Register(_) | FrozenKind::Deploy(_) | FrozenKind::Report(_) => {}
        }
    }
    found
}

fn of_container(
    at: &str,
    stage: &FrozenContainer,
    frozen: &Frozen,
    made: &Made<'_>,
    here: &Here<'_>,
    found: &mut Vec<Problem>,
) {
    let fields = if stage.template.is_some() { format!("{at}.overrides") } else { format!("{at}.container") };
    let mut say = |path: String, message: String| found.push(Problem::new(path, NOT_HERE, message));
    let settings = &stage.container.settings;
    for (name, value) in &settings.env {
        let has =
            |maps: &super::source::Maps, map: &str, key: &str| maps.get(map).is_some_and(|keys| keys.contains_key(key));
        let from = [
            ("Secret", &value.secret, &here.things.secrets),
            ("ConfigMap", &value.config_map, &here.things.config_maps),
        ];
        let from = from.into_iter().find_map(|(kind, key, maps)| key.as_ref().map(|key| (kind, key, maps)));
        let Some((kind, key, maps)) = from else { continue };
        if !(key.optional || here.things.env.contains_key(name) || has(maps, &key.name, &key.key)) {
            let message = format!(
                "it is the key {} of {kind} {}, which is in none of the files: write {name}=value into a file, and --env-file FILE",
                key.key, key.name
            );
            say(format!("{fields}.env.{name}"), message);
        }
    }
    let store = frozen.store.as_ref().and_then(store::claim);
    for (name, volume) in &settings.volumes {
        let keys = [
            ("ConfigMap", &volume.config_map, &here.things.config_maps),
            ("Secret", &volume.secret, &here.things.secrets),
        ];
        for (kind, of, maps) in keys {
            let absent = of.as_ref().filter(|of| !of.optional && !maps.contains_key(&of.name));
            if let Some(of) = absent {
                let message = format!("{kind} {} is in none of the files: put it into the folder of -f", of.name);
                say(format!("{fields}.volumes.{name}"), message);
            }
        }
        let claim = volume.claim.as_ref().map(|claim| claim.name.as_str()).filter(|claim| Some(*claim) != store);
        if let Some(claim) = claim.filter(|claim| !here.claims.join(claim).is_dir()) {
            let folder = here.claims.join(claim);
            let message =
                format!("the claim {claim} is the folder {} here: make it, or a link to the data", folder.display());
            say(format!("{fields}.volumes.{name}"), message);
        }
    }
    if !settings.env.contains_key("PATH")
        && let Some((field, message)) = program(&stage.container, here.programs)
    {
        // Nobody wrote a template's command into the pipeline.
        let path = stage.template.as_ref().map_or_else(|| format!("{fields}.{field}"), |_| format!("{at}.uses"));
        say(path, message);
    }
    models(at, stage, made, here, &mut say);
}

/// The models that it reads.
fn models(at: &str, stage: &FrozenContainer, made: &Made<'_>, here: &Here<'_>, say: &mut impl FnMut(String, String)) {
    for (name, input) in stage.inputs.iter().filter(|(_, input)| !input.optional) {
        if let Some(ModelInput { name: model, version }) = &input.model {
            let is_it = |found: &ModelVersionSpec| {
                found.model == *model && version.is_none_or(|version| version == found.version)
            };
            if !here.versions.iter().any(|found| is_it(&found.spec)) && !made.registered.contains(model.as_str()) {
                let version = version.map_or_else(String::new, |version| format!("version {version} of "));
                let message = format!(
                    "no local run has registered {version}the model {model} yet: write optional: true, or run one that does"
                );
                say(format!("{at}.inputs.{name}.model"), message);
            }
        }
        let Some(deployment) = input.deployed.as_deref() else { continue };
        let given = here.deployments.get(deployment);
        if let Some(uri) = given.and_then(|found| found.spec.model.uri.as_ref()) {
            let message = format!(
                "{deployment} serves what lies at {uri}, which is no registered model: write uri: {uri} instead, with digest and access"
            );
            say(format!("{at}.inputs.{name}.deployed"), message);
            continue;
        }
        let served = given.and_then(|found| found.status.as_ref()?.served_version);
        if served.is_none() && !made.deployed.contains(deployment) {
            let message = format!(
                "no local run has deployed a model to {deployment} yet: write optional: true, or run one that does"
            );
            say(format!("{at}.inputs.{name}.deployed"), message);
        }
    }
}

/// The program of a stage that this machine has not.
fn program(container: &Container, programs: &Programs) -> Option<(&'static str, String)> {
    let (field, program) = match (&container.command, &container.script) {
        (Some(command), _) => ("command[0]", command.first()?.clone()),
        (None, Some(script)) => ("script", interpreter(script)?.to_owned()),
        (None, None) => return None,
    };
    let image = &container.image;
    let here = program == AGENT_PROGRAM || programs.has(image, &program);
    if here || expr::has_template(&program) || expr::has_template(image) {
        return None;
    }
    let name = programs::name(image);
    Some((
        field,
        if programs::stock(image).is_some() {
            format!(
                "`{program}` of the image `{name}` is not on this machine: `make local` in Millrace's sources builds it, or name a folder that has {name}/bin with --programs"
            )
        } else {
            format!(
                "there is no program `{program}` on this machine, and the image is not used: install it, or name a folder that has {name}/bin with --programs"
            )
        },
    ))
}

/// The program that a script names in its first line.
fn interpreter(script: &str) -> Option<&str> {
    let mut words = script.lines().next()?.strip_prefix("#!")?.split_whitespace();
    let first = words.next()?;
    if first.ends_with("/env") { words.find(|word| !word.starts_with('-')).or(Some(first)) } else { Some(first) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use millrace_core::api::{MLPipelineSpec, ModelDeployment};
    use millrace_core::config::Config;
    use serde_json::{Value, json};

    use super::*;

    fn found(stages: &Value, things: &Things) -> Vec<String> {
        found_beside(stages, things, &Deployments::new())
    }

    fn found_beside(stages: &Value, things: &Things, deployments: &Deployments) -> Vec<String> {
        let spec = json!({ "store": { "pvc": { "claimName": "c" } }, "stages": stages });
        let spec: MLPipelineSpec = serde_json::from_value(spec).unwrap();
        let stock = crate::lint::Known::of(&[], &[]).templates;
        let frozen = millrace_core::pipeline::check(&spec, &stock, &Config::default()).unwrap();
        let here = Here {
            things,
            programs: &Programs::default(),
            claims: Path::new("/no/such/folder"),
            deployments,
            versions: &[],
            approved: &|stage| stage == "yes",
            asks: false,
        };
        missing(&frozen, "spec", &here).iter().map(ToString::to_string).collect()
    }

    fn container(more: &Value) -> Value {
        let mut container = json!({ "image": "registry/train:1", "command": ["sh"] });
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "container": container })
    }

    #[test]
    fn each_thing_that_is_not_here_is_named_with_its_field_and_a_remedy() {
        let key = json!({ "name": "s", "key": "k" });
        let cases = [
            (
                container(&json!({ "command": ["no-such-program"] })),
                "spec.stages.a.container.command[0]: ",
                "train/bin",
            ),
            (
                json!({ "container": { "image": "i", "script": "#!/usr/bin/env no-such-python" } }),
                "spec.stages.a.container.script: ",
                "`no-such-python`",
            ),
            (json!({ "uses": "ingest", "with": { "source": "/x" } }), "spec.stages.a.uses: ", "make local"),
            (
                container(&json!({ "env": { "KEY": { "secret": key } } })),
                "spec.stages.a.container.env.KEY: ",
                "--env-file",
            ),
            (
                container(&json!({ "volumes": { "v": { "configMap": { "name": "m" }, "mountPath": "/m" } } })),
                "spec.stages.a.container.volumes.v: ",
                "ConfigMap m",
            ),
            (
                container(&json!({ "volumes": { "v": { "claim": { "name": "lake" }, "mountPath": "/m" } } })),
                "spec.stages.a.container.volumes.v: ",
                "/no/such/folder/lake",
            ),
        ];
        for (stage, path, word) in cases {
            let said = found(&json!({ "a": stage }), &Things::default());
            assert!(said.len() == 1 && said[0].starts_with(path) && said[0].contains(word), "{said:?}");
        }
        let ship = json!({ "needs": ["yes", "no"], "container": { "image": "i", "command": ["sh"] } });
        let ask = json!({ "approve": { "message": "?" } });
        let said = found(&json!({ "yes": ask, "no": ask, "ship": ship }), &Things::default());
        assert!(said.len() == 1 && said[0].contains("--approve no=yes"), "{said:?}");
        let model = json!({ "container": { "image": "i", "command": ["sh"] }, "inputs": { "m": { "deployed": "d" } } });
        let said = found(&json!({ "a": model }), &Things::default());
        assert!(said.len() == 1 && said[0].starts_with("spec.stages.a.inputs.m.deployed: "), "{said:?}");
        let mut served = ModelDeployment::default();
        served.spec.model.uri = Some("s3://lake/m".to_owned());
        let beside = [("d".to_owned(), Arc::new(served))].into();
        let said = found_beside(&json!({ "a": model }), &Things::default(), &beside);
        assert!(said.len() == 1 && said[0].contains("write uri: s3://lake/m instead"), "{said:?}");
        let model = json!({ "container": { "image": "i", "command": ["sh"] }, "inputs": { "m": { "model": { "name": "d", "version": 3 } } } });
        let said = found(&json!({ "a": model }), &Things::default());
        assert!(said.len() == 1 && said[0].starts_with("spec.stages.a.inputs.m.model: "), "{said:?}");
        assert!(said[0].contains("version 3 of the model d"), "{said:?}");
    }

    #[test]
    fn what_is_here_is_no_problem() {
        let mut things = Things::default();
        things.env.insert("KEY".into(), "v".into());
        things.secrets.insert("s".into(), [("k".to_owned(), Vec::new())].into());
        things.config_maps.insert("m".into(), BTreeMap::new());
        let stage = container(&json!({
            "env": {
                "KEY": { "secret": { "name": "other", "key": "k" } }, "B": { "secret": { "name": "s", "key": "k" } },
                "C": { "configMap": { "name": "none", "key": "k", "optional": true } },
            },
            "volumes": { "m": { "configMap": { "name": "m" }, "mountPath": "/m" }, "c": { "claim": { "name": "c" }, "mountPath": "/c" } },
        }));
        assert_eq!(found(&json!({ "a": stage }), &things), Vec::<String>::new());
    }
}
