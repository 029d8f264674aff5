//! Models that are registered, deployed, and compared with what was deployed before; people who decide.

use serde_json::{Value, json};

use crate::support::{Place, script};

/// Trains a model of the quality `f1`, judges it against the champion, registers and deploys it.
fn loop_of(place: &Place) {
    let train = "mkdir \"$MILLRACE_OUTPUT_MODEL\"; echo '{\"task\":\"t\",\"inputs\":[],\"outputs\":[]}' > \"$MILLRACE_OUTPUT_MODEL/signature.json\"\n\
                 echo \"$MILLRACE_RUN\" > \"$MILLRACE_OUTPUT_MODEL/model.onnx\"; echo \"$F1\" > \"$MILLRACE_OUTPUT_MODEL/f1\"";
    let judge = "echo \"{\\\"f1\\\": $(cat \"$MILLRACE_INPUT_MODEL/f1\")}\" > \"$MILLRACE_OUT/metrics.json\"\n\
                 test -z \"${MILLRACE_INPUT_CHAMPION:-}\" || echo \"{\\\"f1\\\": $(cat \"$MILLRACE_INPUT_CHAMPION/f1\")}\" > \"$MILLRACE_OUT/champion.json\"";
    let mut stage = script(train, &json!({ "outputs": { "model": { "type": "model" } } }));
    stage["container"]["env"] = json!({ "F1": { "value": "$[[ params.f1 ]]" } });
    place.pipeline(
        &json!({
            "train": stage,
            "evaluate": script(judge, &json!({
                "inputs": { "model": { "from": "train.model" }, "champion": { "deployed": "web", "optional": true } },
                "gate": { "pass": "metrics.f1 >= 0.5 && (champion == null || metrics.f1 >= champion.metrics.f1)", "otherwise": "Reject" },
            })),
            "sign-off": { "needs": ["evaluate"], "approve": { "message": "Ship $[[ stages.evaluate.metrics.f1 ]]?" } },
            "register": { "needs": ["sign-off"], "register": { "model": "m", "from": "train.model", "metrics": "evaluate" } },
            "deploy": { "deploy": { "modelDeployment": "web", "version": "register", "wait": "Promoted" } },
        }),
        &json!({ "params": { "f1": { "type": "number" } } }),
    );
}

fn promoted(run: &Value, place: &Place) -> bool {
    let text = place.read(&format!(".millrace/runs/{}/run.yaml", run["name"].as_str().unwrap()));
    !text.contains("GateRejected")
}

#[test]
fn a_second_run_is_judged_against_what_the_first_deployed() {
    let place = Place::new();
    loop_of(&place);
    let run = |f1: &str| place.json(0, &["-p", f1, "--approve", "sign-off=yes"]);
    let first = run("f1=0.7");
    assert_eq!(first["stages"]["register"]["modelVersion"], "m-v1", "{first}");
    assert_eq!(first["stages"]["evaluate"]["champion"], Value::Null);
    let version = place.read(".millrace/models/m-v1.yaml");
    assert!(version.contains("f1: 0.7") && version.contains("uri: pvc://c/runs/p-1-"), "{version}");

    let worse = run("f1=0.6");
    assert_eq!(worse["stages"]["evaluate"]["champion"]["f1"], 0.7);
    assert!(!promoted(&worse, &place) && worse["stages"]["deploy"]["state"] == "Skipped", "{worse}");

    let better = run("f1=0.8");
    assert_eq!(better["stages"]["deploy"]["modelVersion"], "m-v2", "{better}");
    let deployed = place.read(".millrace/deployments/web.yaml");
    assert!(deployed.contains("servedVersion: 2"), "{deployed}");
}

#[test]
fn an_end_tells_what_was_registered_and_what_would_be_served() {
    let place = Place::new();
    loop_of(&place);
    let ran = place.run(&["-f", "p.yaml", "-p", "f1=0.7", "--approve", "sign-off=yes"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for word in ["m-v1 is registered: ", "web would serve m-v1 from now on", "approved by ada", "evaluate: f1 0.7"] {
        assert!(ran.out.contains(word) || place.read(".millrace/runs/p-1/run.yaml").contains(word), "{word}: {ran:?}");
    }
}

#[test]
fn who_says_no_ships_nothing() {
    let place = Place::new();
    loop_of(&place);
    let run = place.json(0, &["-p", "f1=0.7", "--approve", "sign-off=no"]);
    assert_eq!(run["stages"]["register"]["state"], "Skipped", "{run}");
    assert!(!place.path(".millrace/models/m-v1.yaml").exists());
}
