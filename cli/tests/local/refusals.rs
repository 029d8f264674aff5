//! What is not run: pipelines with mistakes, and those that need what this machine has not.

use serde_json::json;

use crate::support::{Place, script};

#[test]
fn a_pipeline_with_mistakes_is_told_as_lint_tells_it_and_nothing_runs() {
    let place = Place::new();
    place.write("p.yaml", "apiVersion: millrace.dev/v1alpha1\nkind: MLPipeline\nmetadata: { name: p }\nspec:\n  stages:\n    a:\n      needs: [ingst]\n      container: { image: i, command: [sh] }\n    ingest:\n      container: { image: i, command: [sh] }\n");
    let ran = place.run(&["-f", "p.yaml"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.starts_with("p.yaml:7:15: error: spec.stages.a.needs[0]: "), "{ran:?}");
    assert!(ran.out.contains("did you mean `ingest`?"), "{ran:?}");
    assert!(!place.path(".millrace/runs/p-1").exists());
    assert_eq!(place.run(&["-f", "p.yaml", "-o", "json"]).json()[0]["line"], 7);
}

#[test]
fn what_this_machine_has_not_is_told_before_anything_runs() {
    let place = Place::new();
    let mut stage = script("echo", &json!({}));
    stage["container"]["env"] = json!({ "KEY": { "secret": { "name": "s", "key": "k" } } });
    place.pipeline(
        &json!({ "a": stage, "b": { "container": { "image": "team/train:1", "command": ["no-such-program"] } }, "c": { "uses": "ingest", "with": { "source": "/x" } } }),
        &json!({}),
    );
    let ran = place.run(&["-f", "p.yaml"]);
    assert_eq!((ran.code, ran.out.lines().count()), (1, 4), "{ran:?}");
    for word in ["--env-file", "`no-such-program`", "train/bin", "`millrace-data`"] {
        assert!(ran.out.contains(word), "{word}: {ran:?}");
    }
    assert!(!place.path(".millrace/runs/p-1").exists());
}

#[test]
fn a_command_that_makes_no_sense_says_what_to_write() {
    let place = Place::new();
    let ask = json!({ "approve": { "message": "?" } });
    let go = script("echo", &json!({ "needs": ["ask"] }));
    place.pipeline(
        &json!({ "ask": ask, "go": go }),
        &json!({ "params": { "rows": { "type": "integer", "default": 1 } } }),
    );
    let said = |arguments: &[&str]| {
        let ran = place.run(arguments);
        assert_ne!(ran.code, 0, "{ran:?}");
        format!("{}{}", ran.out, ran.errors)
    };
    for (arguments, word) in [
        (&["-f", "p.yaml"] as &[&str], "--approve ask=yes"),
        (&["-f", "p.yaml", "--approve", "aks=yes"], "did you mean `ask`?"),
        (&["-f", "p.yaml", "--approve", "ask=perhaps"], "write STAGE=yes or STAGE=no"),
        (&["-f", "p.yaml", "--approve", "ask=yes", "-p", "rows=many"], "rows"),
        (&["-f", "no.yaml"], "no.yaml"),
        (&["p"], "-f FILE or FOLDER"),
        (&["-f", "p.yaml", "--programs", "none"], "no such folder"),
        (&["--again", "p-1"], "there is no run p-1"),
    ] {
        let found = said(arguments);
        assert!(found.contains(word), "{arguments:?}: {found}");
    }
}
