//! Stages one after another: what they hand on, what they print, how they fail.

use serde_json::json;

use crate::support::{Place, script};

#[test]
fn a_chain_hands_on_files_metrics_and_results_and_is_told() {
    let place = Place::new();
    place.pipeline(
        &json!({
            "draw": script(
                "printf '%s\\n' \"$1\" > \"$MILLRACE_OUTPUT_POINTS\"; echo drawn; echo '{\"points\": 3}' > \"$MILLRACE_OUT/metrics.json\"",
                &json!({ "outputs": { "points": {} }, "container": {
                    "image": "debian", "args": ["$[[ params.word ]] costs $(HOME) 5$"],
                    "script": "#!/bin/sh\nprintf '%s\\n' \"$1\" > \"$MILLRACE_OUTPUT_POINTS\"\necho drawn\necho '{\"points\": 3}' > \"$MILLRACE_OUT/metrics.json\"\n",
                } }),
            ),
            "fit": {
                "inputs": { "points": { "from": "draw.points" } },
                "container": { "image": "debian", "command": ["sh", "-c", "cat \"$1\" \"$MILLRACE_INPUT_POINTS\"; echo \"$2 $LEVEL\"", "-"],
                    "args": ["$[[ inputs.points ]]", "$[[ stages.draw.metrics.points ]]"], "env": { "LEVEL": { "value": "$[[ run.pipeline ]]" } } },
            },
        }),
        &json!({ "params": { "word": { "type": "string", "default": "it" } } }),
    );
    let ran = place.run(&["-f", "p.yaml", "-p", "word=this"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let printed: Vec<&str> = ran.lines().into_iter().filter(|line| line.contains(" | ")).collect();
    let price = "this costs $(HOME) 5$";
    assert_eq!(printed, ["draw | drawn", &format!("fit  | {price}"), &format!("fit  | {price}"), "fit  | 3 p"]);
    for word in ["✔ draw Succeeded", "└─ ✔ fit", "draw: points 3", "p-1  of pipeline p  Succeeded  2/2"] {
        assert!(ran.out.contains(word), "{word}: {ran:?}");
    }
    assert!(!ran.out.contains('\u{1b}'), "there is no terminal");
    assert_eq!(place.read(".millrace/runs/p-1/logs/draw.1.log"), "drawn\n");
    assert!(place.read(".millrace/runs/p-1/run.yaml").contains("reason: Succeeded"));
    assert_eq!(place.read(".millrace/.gitignore"), "*\n");
    assert!(place.json(0, &[])["name"] == "p-2", "another run has another name");
}

#[test]
fn a_stage_that_fails_is_tried_again_after_its_backoff() {
    let place = Place::new();
    let text = "echo \"attempt $MILLRACE_ATTEMPT ${MILLRACE_RESTORE_DIR:+goes on}\"; touch \"$MILLRACE_CHECKPOINT_DIR/c\"; test \"$MILLRACE_ATTEMPT\" = 2";
    let retry = json!({ "retry": { "limit": 1, "backoff": { "initial": "1s" } } });
    place.pipeline(&json!({ "a": script(text, &retry) }), &json!({}));
    let ran = place.run(&["-f", "p.yaml"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let printed: Vec<&str> = ran.lines().into_iter().filter(|line| line.contains(" | ")).map(str::trim_end).collect();
    assert_eq!(printed, ["a | attempt 1", "a#2 | attempt 2 goes on"]);
    assert!(ran.out.contains("↻ a BackingOff"), "{ran:?}");
}

#[test]
fn a_failure_is_told_with_the_programs_words_and_skips_what_follows() {
    let place = Place::new();
    place.pipeline(
        &json!({
            "a": script("echo 'error: no such column'; exit 3", &json!({})),
            "b": script("echo never", &json!({ "needs": ["a"] })),
            "c": script("sleep 60", &json!({ "timeout": "1s" })),
        }),
        &json!({ "finally": { "tell": script("echo \"it $STATUS\"", &json!({ "container": {
            "image": "i", "env": { "STATUS": { "value": "$[[ run.status ]]" } }, "script": "#!/bin/sh\necho \"it $STATUS\"\n",
        } })) } }),
    );
    let run = place.json(1, &[]);
    let stage = |name: &str, field: &str| run["stages"][name][field].clone();
    assert_eq!((stage("a", "exitCode"), stage("b", "state")), (json!(3), json!("Skipped")));
    assert!(stage("a", "message").as_str().unwrap().starts_with("error: no such column"), "{run}");
    assert_eq!(stage("c", "reason"), "Timeout");
    assert_eq!(place.read(".millrace/runs/p-1/logs/tell.1.log"), "it Failed\n");
}

#[test]
fn stages_run_sometimes_and_take_another_input_where_one_is_skipped() {
    let place = Place::new();
    let make = |word: &str| format!("echo {word} > \"$MILLRACE_OUTPUT_OUT\"");
    place.pipeline(
        &json!({
            "quick": script(&make("quick"), &json!({ "outputs": { "out": {} } })),
            "thorough": script(&make("thorough"), &json!({ "outputs": { "out": {} }, "when": "params.thorough" })),
            "lint": script("exit 1", &json!({ "onFailure": "Continue" })),
            "report": script("cat \"$MILLRACE_INPUT_IN\"", &json!({
                "needs": ["lint"], "inputs": { "in": { "from": "thorough.out", "default": { "from": "quick.out" } } },
            })),
        }),
        &json!({ "params": { "thorough": { "type": "boolean", "default": false } } }),
    );
    assert_eq!(place.json(0, &[])["stages"]["thorough"]["state"], "Skipped");
    assert_eq!(place.read(".millrace/runs/p-1/logs/report.1.log"), "quick\n");
    place.json(0, &["-p", "thorough=true"]);
    assert_eq!(place.read(".millrace/runs/p-2/logs/report.1.log"), "thorough\n");
}

#[test]
fn what_failed_is_begun_again_and_what_succeeded_is_not() {
    let place = Place::new();
    let fixed = place.path("fixed").display().to_string();
    place.pipeline(
        &json!({
            "a": script("echo made > \"$MILLRACE_OUTPUT_OUT\"", &json!({ "outputs": { "out": {} } })),
            "b": script(&format!("test -e {fixed}; cat \"$MILLRACE_INPUT_IN\""), &json!({ "inputs": { "in": { "from": "a.out" } } })),
        }),
        &json!({}),
    );
    place.json(1, &[]);
    place.write("fixed", "");
    let ran = place.run(&["--again", "p-1", "-o", "json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let attempts = |name: &str| ran.json()["stages"][name]["attempts"].clone();
    assert_eq!((attempts("a"), attempts("b")), (json!(1), json!(2)));
    assert_eq!(place.read(".millrace/runs/p-1/logs/b.2.log"), "made\n");
    let ran = place.run(&["--again", "p-1", "--stage", "a", "-o", "json"]);
    assert_eq!((ran.code, &ran.json()["stages"]["b"]["attempts"]), (0, &json!(3)), "{ran:?}");
    assert!(place.run(&["--again", "p-11"]).errors.contains("did you mean `p-1`?"));
}

#[test]
fn config_maps_secrets_and_variables_come_from_files() {
    let place = Place::new();
    let key = |name: &str| json!({ "secret": { "name": name, "key": "k" } });
    place.pipeline(
        &json!({ "a": { "container": {
            "image": "debian", "command": ["sh", "-c", "cat \"$0\"; echo \"$KEY $TOKEN\""], "args": ["/data/rows.csv"],
            "env": { "KEY": key("s"), "TOKEN": key("elsewhere") },
            "volumes": { "data": { "configMap": { "name": "rows" }, "mountPath": "/data", "readOnly": true } },
        } } }),
        &json!({}),
    );
    place.write("rows.csv", "1,2\n");
    place.write("secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata: { name: s }\nstringData: { k: key }\n");
    place.write(
        "kustomization.yaml",
        "resources: [p.yaml, secret.yaml]\nconfigMapGenerator: [{ name: rows, files: [rows.csv] }]\n",
    );
    place.write("env", "# for tests\nTOKEN=to=ken\n");
    let ran = place.run(&["-f", ".", "--env-file", "env"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(place.read(".millrace/runs/p-1/logs/a.1.log"), "1,2\nkey to=ken\n");
}
