//! What a right pipeline becomes.

use serde_json::json;

use super::{checked, container, stage};

#[test]
fn a_right_pipeline_is_frozen_with_every_reference_as_an_edge() {
    let frozen = checked(json!({})).unwrap();
    let needs: Vec<(&str, Vec<String>)> = frozen.stages.iter().map(|(n, s)| (n.as_str(), s.needs.clone())).collect();
    let expected: [(&str, &[&str]); 5] = [
        ("deploy", &["register"]),
        ("fit", &["load"]),
        ("load", &[]),
        ("register", &["fit", "score"]),
        ("score", &["fit", "load"]),
    ];
    assert_eq!(needs.len(), expected.len());
    for ((name, found), (wanted, list)) in needs.iter().zip(expected) {
        assert_eq!((*name, found.iter().map(String::as_str).collect::<Vec<_>>()), (wanted, list.to_vec()));
    }
}

#[test]
fn an_expression_draws_an_edge() {
    let patch =
        stage("tell", json!({ "container": { "image": "i", "command": ["echo", "$[[ stages.load.results.rows ]]"] } }));
    assert_eq!(checked(patch).unwrap().stages["tell"].needs, ["load"]);
    let patch = stage("score", json!({ "with": { "target": "$[[ stages.register.status ]]" }, "gate": null }));
    let problems = checked(patch).unwrap_err();
    assert!(problems[0].message.contains("register -> score -> register"), "{problems:?}");
}

#[test]
fn settings_come_from_the_stage_then_the_template_then_the_defaults() {
    let frozen = checked(json!({})).unwrap();
    let (fit, score) = (container(&frozen, "fit"), container(&frozen, "score"));
    assert_eq!((fit.retry.limit, fit.timeout_seconds, fit.pending_timeout_seconds), (1, Some(3600), 3600));
    assert_eq!((score.retry.limit, score.timeout_seconds), (3, Some(300)));
    assert_eq!(score.container.settings.service_account_name.as_deref(), Some("trainer"));
    let own = json!({ "retry": { "limit": 0 }, "timeout": "90s", "pendingTimeout": "2m" });
    let score = container(&checked(stage("score", own)).unwrap(), "score");
    assert_eq!((score.retry.limit, score.timeout_seconds, score.pending_timeout_seconds), (0, Some(90), 120));
    let bare = container(&checked(json!({ "defaults": null })).unwrap(), "fit");
    assert_eq!((bare.retry.limit, bare.timeout_seconds, bare.pending_timeout_seconds), (0, None, 3600));
}

#[test]
fn overrides_are_laid_over_by_key() {
    let over = json!({ "overrides": {
        "env": { "B": { "value": "3" }, "C": { "value": "4" } }, "resources": { "requests": { "cpu": "2" } }
    } });
    let settings = container(&checked(stage("score", over)).unwrap(), "score").container.settings;
    let env: Vec<&str> = settings.env.values().filter_map(|value| value.value.as_deref()).collect();
    assert_eq!(env, ["1", "3", "4"]);
    let requests = settings.resources.unwrap().requests;
    assert_eq!((&requests["cpu"], &requests["memory"]), (&json!("2"), &json!("1Gi")));
}

#[test]
fn any_input_goes_where_the_template_takes_any() {
    let any = json!({ "uses": "any", "inputs": { "a": { "from": "load.data" }, "b": { "from": "fit.log" } } });
    assert_eq!(checked(stage("join", any)).unwrap().stages["join"].needs, ["fit", "load"]);
}
