use std::fs;
use std::path::Path;

use super::*;

/// Line, column, field and message of everything that is found in a text.
fn found(text: &str) -> Vec<(u64, u64, String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.yaml");
    fs::write(&path, text).unwrap();
    let files = files::find(&[path.display().to_string()]).unwrap();
    let Found { findings, .. } = findings(&files, &[]);
    findings.into_iter().map(|f| (f.place.line, f.place.column, f.problem.path, f.problem.message)).collect()
}

/// Line, column and field.
fn places(text: &str) -> Vec<(u64, u64, String)> {
    found(text).into_iter().map(|(line, column, path, _)| (line, column, path)).collect()
}

fn at(line: u64, column: u64, path: &str) -> (u64, u64, String) {
    (line, column, path.to_owned())
}

const HEAD: &str = "apiVersion: millrace.dev/v1alpha1\nkind: MLPipeline\nmetadata: { name: p }\n";

#[test]
fn every_example_and_every_stock_template_passes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let paths = ["examples", "charts/millrace/catalog"].map(|folder| root.join(folder).display().to_string());
    let files = files::find(&paths).unwrap();
    let Found { findings, objects, .. } = findings(&files, &[]);
    assert_eq!(findings, []);
    assert!(objects >= 11, "{objects} objects");
}

#[test]
fn an_unknown_field_is_told_with_its_place_and_the_one_that_was_meant() {
    let text = format!("{HEAD}spec:\n  stages:\n    a:\n      container:\n        imge: i\n        command: [c]\n");
    let found = found(&text);
    assert_eq!(places(&text), [at(7, 7, "spec.stages.a.container.image"), at(8, 9, "spec.stages.a.container.imge")]);
    assert!(found[1].3.contains("did you mean `image`?"), "{found:?}");
}

#[test]
fn types_bounds_and_words_are_looked_at() {
    let text = format!(
        "{HEAD}spec:\n  timeout: soon\n  concurrency: {{ policy: Queu }}\n  history: {{ keepFailed: -1 }}\n  stages:\n    a:\n      needs: b\n      container: {{ image: 7, command: [c] }}\n"
    );
    let found = found(&text);
    let messages: Vec<_> = found.iter().map(|(line, _, path, message)| format!("{line} {path}: {message}")).collect();
    assert_eq!(
        messages,
        [
            "5 spec.timeout: `soon` does not match a duration: write one such as 90s, 1h30m or 7d",
            "6 spec.concurrency.policy: `Queu` is not allowed: did you mean `Queue`? write one of Allow, Queue, Forbid, Replace",
            "7 spec.history.keepFailed: -1 is out of bounds: write a number from 0 to 1000",
            "10 spec.stages.a.needs: here is `b`, which is text: write a list",
            "11 spec.stages.a.container.image: here is `7`, which is a number: write text, in quotes",
        ]
    );
}

#[test]
fn the_rules_of_the_schema_hold() {
    let text =
        format!("{HEAD}spec:\n  stages:\n    a:\n      uses: ingest\n      container: {{ image: i, command: [c] }}\n");
    let found = found(&text);
    assert_eq!(places(&text), [at(6, 5, "spec.stages.a")]);
    assert_eq!(found[0].3, "a stage is exactly one of uses, container, pipeline, approve, register, deploy and report");
    let text = "\
apiVersion: millrace.dev/v1alpha1
kind: ModelDeployment
metadata: { name: m }
spec:
  model: { name: m }
  rollout:
    strategy: Canary
  scale: { min: 3, max: 2, target: 1 }
";
    assert_eq!(places(text), [at(6, 3, "spec.rollout"), at(8, 3, "spec.scale")]);
}

#[test]
fn graphs_are_checked() {
    let text = "\
apiVersion: millrace.dev/v1alpha1
kind: InferenceGraph
metadata: { name: g }
spec:
  nodes:
    main:
      splitter:
        steps:
          - { name: a, model: a, weight: 80 }
          - { name: b, node: other, weight: 10 }
";
    let said: Vec<String> = found(text).into_iter().map(|(_, _, _, message)| message).collect();
    assert!(said.iter().any(|said| said.starts_with("the weights add up to 90")), "{said:?}");
    assert!(said.iter().any(|said| said.starts_with("`other` is none of nodes")), "{said:?}");
}

#[test]
fn the_operators_checks_are_made() {
    let text = format!(
        "{HEAD}spec:\n  params:\n    rows: {{ type: integer, default: many }}\n  stages:\n    a:\n      container:\n        image: i\n        command: [echo, \"$[[ params.row ]]\"]\n    b:\n      needs: [c]\n      uses: ingst\n"
    );
    let places = places(&text);
    assert_eq!(
        places,
        [
            at(6, 28, "spec.params.rows.default"),
            at(11, 25, "spec.stages.a.container.command[1]"),
            at(13, 15, "spec.stages.b.needs[0]"),
            at(14, 7, "spec.stages.b.uses"),
        ]
    );
}

#[test]
fn a_run_is_checked_against_the_pipeline_beside_it() {
    let text = format!(
        "{HEAD}spec:\n  params: {{ rows: {{ type: integer }} }}\n  stages: {{ a: {{ container: {{ image: i, command: [c] }} }} }}\n---\napiVersion: millrace.dev/v1alpha1\nkind: MLPipelineRun\nmetadata: {{ generateName: p- }}\nspec:\n  pipelineRef: {{ name: p }}\n  params: {{ rows: \"3\" }}\n"
    );
    assert_eq!(places(&text), [at(13, 13, "spec.params.rows")]);
    let inline = text.replace(
        "  pipelineRef: { name: p }",
        "  pipeline: { stages: { a: { needs: [z], container: { image: i, command: [c] } } } }",
    );
    let fields: Vec<_> = found(&inline).into_iter().map(|(_, _, path, _)| path).collect();
    assert_eq!(fields, ["spec.pipeline.stages.a.needs[0]", "spec.params.rows"]);
}

#[test]
fn a_run_is_given_what_the_pipeline_beside_it_takes() {
    let text = format!(
        "{HEAD}spec:\n  inputs: {{ rows: {{}} }}\n  stages: {{ a: {{ inputs: {{ x: {{ input: rws }} }}, container: {{ image: i, command: [c] }} }} }}\n---\napiVersion: millrace.dev/v1alpha1\nkind: MLPipelineRun\nmetadata: {{ generateName: p- }}\nspec:\n  pipelineRef: {{ name: p }}\n"
    );
    let found: Vec<_> = found(&text).into_iter().map(|(_, _, path, message)| (path, message)).collect();
    assert_eq!(found[0].0, "spec.stages.a.inputs.x.input");
    assert!(found[0].1.contains("did you mean `rows`?"), "{found:?}");
    assert_eq!(found[1].0, "spec.inputs.rows");
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn pipelines_that_start_each_other_are_told() {
    let starts = |name: &str, other: &str| {
        format!(
            "{}spec:\n  triggers: {{ onPipeline: {{ x: {{ pipeline: {other} }} }} }}\n  stages: {{ a: {{ container: {{ image: i, command: [c] }} }} }}\n",
            HEAD.replace("name: p", &format!("name: {name}"))
        )
    };
    let said = found(&starts("p", "p"));
    assert!(said.len() == 1 && said[0].3.contains("`p` would start itself for ever"), "{said:?}");
    assert_eq!(found(&format!("{}---\n{}", starts("p", "q"), starts("q", "p"))).len(), 2);
}

#[test]
fn templates_of_other_tools_are_warnings() {
    let text = format!(
        "{HEAD}spec:\n  stages:\n    a:\n      container:\n        image: i\n        command: [echo, \"{{{{ params.x }}}}\"]\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.yaml");
    fs::write(&path, text).unwrap();
    let Found { findings, .. } = findings(&files::find(&[folder.path().display().to_string()]).unwrap(), &[]);
    assert_eq!(findings.iter().map(|finding| (finding.place.line, finding.is_error)).collect::<Vec<_>>(), [(9, false)]);
}

#[test]
fn what_is_no_yaml_and_what_is_no_kind_is_told() {
    assert_eq!(places("apiVersion: millrace.dev/v1alpha1\nspec: [\n").len(), 1);
    assert_eq!(
        places("apiVersion: millrace.dev/v1\nkind: MLPipeline\nmetadata: { name: p }\n"),
        [at(1, 1, "apiVersion")]
    );
    let kind = found("apiVersion: millrace.dev/v1alpha1\nkind: MLPipelin\nmetadata: { name: p }\n");
    assert!(kind[0].3.contains("did you mean `MLPipeline`?"), "{kind:?}");
    assert_eq!(places("apiVersion: v1\nkind: ConfigMap\ndata: { a: 1 }\n"), []);
}

#[test]
fn a_kind_of_ours_in_another_group_is_a_mistake() {
    let version = |line: &str| found(&format!("{line}kind: MLPipeline\nmetadata: {{ name: p }}\n"));
    for wrong in ["v1", "batch/v1"] {
        let found = version(&format!("apiVersion: {wrong}\n"));
        let message = format!("{wrong} has no kind MLPipeline: did you mean apiVersion: millrace.dev/v1alpha1?");
        assert_eq!(found, [(1, 1, "apiVersion".to_owned(), message)]);
    }
    assert!(version("")[0].3.contains("it is missing: write apiVersion: millrace.dev/v1alpha1"));
    assert_eq!(places("apiVersion: serving.kserve.io/v1alpha1\nkind: InferenceGraph\nmetadata: { name: g }\n"), []);
    // In a folder too, where other files are passed over.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), "apiVersion: v1\nkind: MLPipeline\nmetadata: { name: p }\n").unwrap();
    fs::write(folder.path().join("b.yaml"), "apiVersion: v1\nkind: {{ no yaml\n").unwrap();
    let files = files::find(&[folder.path().display().to_string()]).unwrap();
    assert_eq!((files.len(), findings(&files, &[]).findings.len()), (1, 1));
}

#[test]
fn a_service_account_is_the_clusters_business() {
    let text = format!(
        "{HEAD}spec:\n  defaults: {{ serviceAccountName: trainer }}\n  stages: {{ a: {{ container: {{ image: i, command: [c] }} }} }}\n"
    );
    assert_eq!(places(&text), []);
}

#[test]
fn what_kubectl_reads_otherwise_or_nobody_reads_is_told() {
    let text = format!(
        "{HEAD}spec:\n  params: {{ n: {{ type: integer }} }}\n  stages: {{ a: {{ container: {{ image: i, command: [c] }} }} }}\n"
    );
    assert!(found(&text)[0].3.contains("kubectl reads the key `n` as false: write it in quotes"), "{:?}", found(&text));
    let text = text.replace("{ n:", "{ \"n\":");
    assert_eq!(found(&text), []);
    let text = text.replace("millrace.dev", "millrace.io");
    assert!(
        found(&text)[0].3.contains("there is no millrace.io/v1alpha1: write millrace.dev/v1alpha1"),
        "{:?}",
        found(&text)
    );
}
