//! The examples and the stock StageTemplates of the repository pass the checks that a cluster makes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millrace_core::admission::{self, Known, Verdict};
use millrace_core::api::{InferenceGraph, MLPipeline, ModelDeployment, StageTemplate};
use millrace_core::config::Config;
use millrace_core::deployment;
use millrace_core::graph;
use millrace_core::pipeline::{self, FrozenKind};
use millrace_core::problem;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The YAML documents of all files below a folder.
fn documents(folder: &Path) -> Vec<String> {
    let mut documents = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "yaml") {
                let text = fs::read_to_string(&path).unwrap();
                documents.extend(text.split("\n---\n").map(str::to_owned));
            }
        }
    }
    documents
}

fn templates() -> BTreeMap<String, Arc<StageTemplate>> {
    let mut templates = BTreeMap::new();
    for image in ["data", "train-tabular"] {
        for text in documents(&root().join("stage-images").join(image).join("stages")) {
            let template: StageTemplate = serde_saphyr::from_str(&text).unwrap();
            templates.insert(template.metadata.name.clone().unwrap(), Arc::new(template));
        }
    }
    templates
}

#[test]
fn the_stock_stage_templates_pass() {
    let templates = templates();
    let names: Vec<&str> = templates.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["evaluate", "features", "ingest", "predict", "profile", "train-tabular", "transform", "validate"]
    );
    for (name, template) in &templates {
        if let Err(problems) = pipeline::check_template(&template.spec, &Config::default()) {
            panic!("{name}: {}", problem::summary(&problems));
        }
    }
}

#[test]
fn the_examples_pass_with_the_stock_stage_templates() {
    let mut seen = Vec::new();
    for text in documents(&root().join("examples")).iter().filter(|text| text.contains("\nkind: MLPipeline\n")) {
        let pipeline: MLPipeline = serde_saphyr::from_str(text).unwrap();
        let name = pipeline.metadata.name.clone().unwrap();
        match pipeline::check(&pipeline.spec, &templates(), &Config::default()) {
            // An input by its address is a stage more, whose name says where it comes from.
            Ok(frozen) => {
                let written = pipeline.spec.stages.keys().chain(pipeline.spec.finally.keys());
                for stage in written {
                    assert!(frozen.stages.contains_key(stage), "{name}: {stage}");
                }
            }
            Err(problems) => panic!("{name}: {}", problem::summary(&problems)),
        }
        seen.push(name);
    }
    seen.sort();
    assert!(
        ["branches", "penguins", "scripts", "smallest"].iter().all(|name| seen.iter().any(|s| s == name)),
        "{seen:?}"
    );
}

#[test]
fn the_models_of_the_examples_pass() {
    let mut seen = Vec::new();
    for text in documents(&root().join("examples")).iter().filter(|text| text.contains("\nkind: ModelDeployment\n")) {
        let model: ModelDeployment = serde_saphyr::from_str(text).unwrap();
        let problems = deployment::check(&model, &Config::default());
        assert!(problems.is_empty(), "{}", problem::summary(&problems));
        seen.extend(model.metadata.name);
    }
    assert!(["penguins", "penguins-direct"].iter().all(|name| seen.iter().any(|s| s == name)), "{seen:?}");
}

/// Whoever applies a file with templates and pipelines in it, in whatever order, is not refused.
#[test]
fn the_examples_are_admitted_before_their_stage_templates_are_there() {
    let known = Known { templates: templates(), ..Known::default() };
    for text in documents(&root().join("examples")).iter().filter(|text| text.contains("\nkind: MLPipeline\n")) {
        let pipeline: MLPipeline = serde_saphyr::from_str(text).unwrap();
        let name = pipeline.metadata.name.clone().unwrap();
        for known in [None, Some(&known)] {
            let verdict = admission::pipeline(&name, &pipeline.spec, known, &Config::default());
            assert_eq!(verdict, Verdict::default(), "{name}");
        }
        let verdict = admission::pipeline(&name, &pipeline.spec, Some(&Known::default()), &Config::default());
        assert!(verdict.problems.is_empty(), "{name}: {verdict:?}");
    }
}

#[test]
fn the_served_models_of_the_examples_pass() {
    let config = Config { service_accounts: ["default".to_owned()].into(), ..Config::default() };
    let mut seen = Vec::new();
    for text in documents(&root().join("examples")).iter().filter(|text| text.contains("kind: ModelDeployment\n")) {
        let model: ModelDeployment = serde_saphyr::from_str(text).unwrap();
        let problems = deployment::check(&model, &config);
        assert!(problems.is_empty(), "{}", problem::summary(&problems));
        seen.extend(model.metadata.name.clone().filter(|_| deployment::stream(&model).is_some()));
    }
    assert_eq!(seen, ["penguins-stream"], "its topics are told to the routers");
}

#[test]
fn the_graphs_of_the_examples_and_of_the_docs_pass() {
    let page = fs::read_to_string(root().join("docs/graphs.md")).unwrap();
    let shown = page.split("```yaml\n").skip(1).filter_map(|text| text.split("```").next()).map(str::to_owned);
    let all: Vec<String> = documents(&root().join("examples")).into_iter().chain(shown).collect();
    let mut seen = 0;
    for text in all.iter().filter(|text| text.contains("kind: InferenceGraph\n")) {
        let graph: InferenceGraph = serde_saphyr::from_str(text).unwrap();
        let problems = graph::check(&graph);
        assert!(problems.is_empty(), "{}", problem::summary(&problems));
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[test]
fn the_penguins_are_wired_as_their_manifest_says() {
    let text = fs::read_to_string(root().join("examples/penguins/pipeline.yaml")).unwrap();
    let pipeline: MLPipeline = serde_saphyr::from_str(&text).unwrap();
    let frozen = pipeline::check(&pipeline.spec, &templates(), &Config::default()).unwrap();
    assert_eq!(frozen.stages["evaluate"].needs, ["prepare", "train"]);
    assert_eq!(frozen.stages["register"].needs, ["evaluate", "train"]);
    assert_eq!(frozen.stages["deploy"].needs, ["register"]);
    let FrozenKind::Container(train) = &frozen.stages["train"].kind else { panic!("train runs a program") };
    let requests = &train.container.settings.resources.as_ref().unwrap().requests;
    assert_eq!((requests["cpu"].as_str(), requests["memory"].as_str()), (Some("250m"), Some("320Mi")));
    assert_eq!((train.timeout_seconds, train.retry.limit), (Some(600), 1));
}
