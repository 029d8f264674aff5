//! `locks`.

use serde_json::{Value, json};

use super::{checked, stage};

#[allow(clippy::needless_pass_by_value)] // The calls read better with `json!` as it is.
#[track_caller]
fn refused(patch: Value, path: &str, says: &str) {
    let problems = checked(patch.clone()).unwrap_err();
    assert!(problems.iter().any(|p| p.path == path && p.message.contains(says)), "{patch}: {problems:#?}");
}

#[test]
fn locks_belong_to_a_run_or_to_stages_that_do_something() {
    let frozen = checked(stage("fit", json!({ "locks": { "gpu": {}, "warehouse": { "max": 3 } } }))).unwrap();
    assert_eq!(frozen.stages["fit"].locks, [("gpu".to_owned(), 1), ("warehouse".to_owned(), 3)].into());
    assert!(checked(stage("deploy", json!({ "locks": { "production": {} } }))).is_ok());
    assert_eq!(checked(json!({ "locks": { "gpu": {} } })).unwrap().locks, [("gpu".to_owned(), 1)].into());
    let at = "spec.stages.fit.locks";
    refused(stage("fit", json!({ "locks": { "GPU": {} } })), "spec.stages.fit.locks.GPU", "no name for a lock");
    refused(stage("fit", json!({ "locks": { "gpu": { "max": 0 } } })), "spec.stages.fit.locks.gpu.max", "1 to 1000");
    let mut both = stage("fit", json!({ "locks": { "gpu": {} } }));
    both["locks"] = json!({ "warehouse": {} });
    refused(both, at, "wait for ever");
    let register = stage("register", json!({ "locks": { "gpu": {} } }));
    refused(register, "spec.stages.register.locks", "belongs to a stage with uses, container or deploy");
}
