//! StageTemplates, and what overrides may do to them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{check, check_template};
use super::{base, config, merge, refused, score, stage, templates};
use crate::api::{MLPipelineSpec, StageTemplate, StageTemplateSpec};

#[test]
fn a_template_that_is_not_right_is_not_used() {
    let mut templates = templates();
    let mut broken = StageTemplate::clone(&templates["load"]);
    broken.spec.container.command = None;
    templates.insert("load".to_owned(), Arc::new(broken));
    let spec: MLPipelineSpec = serde_json::from_value(base()).unwrap();
    let problems = check(&spec, &templates, &config()).unwrap_err();
    assert_eq!(problems[0].path, "spec.stages.load.uses");
    assert!(problems[0].message.contains("command or script is required"), "{problems:?}");
}

#[test]
fn an_override_may_not_mount_where_the_template_does() {
    let volume = |name: &str| json!({ "volumes": { name: { "mountPath": "/data", "memory": {} } } });
    let mut templates = templates();
    let mut mounting = StageTemplate::clone(&templates["load"]);
    mounting.spec.container.settings = serde_json::from_value(volume("a")).unwrap();
    templates.insert("load".to_owned(), Arc::new(mounting));
    let mut spec = base();
    merge(&mut spec, stage("load", json!({ "overrides": volume("b") })));
    let spec: MLPipelineSpec = serde_json::from_value(spec).unwrap();
    let problems = check(&spec, &templates, &config()).unwrap_err();
    assert_eq!(problems[0].path, "spec.stages.load.overrides.volumes.b.mountPath");
}

#[test]
fn what_the_template_asks_for_and_the_override_allows_go_together() {
    let limits = json!({ "overrides": { "resources": { "limits": { "memory": "512Mi" } } } });
    let at = "spec.stages.score.overrides.resources.requests.memory";
    refused(stage("score", limits), at, "1Gi is more than the limit of 512Mi");
}

#[test]
fn a_template_is_checked_with_its_own_names() {
    let refused = |patch: Value, path: &str, says: &str| {
        let mut spec = score();
        merge(&mut spec, patch);
        let spec: StageTemplateSpec = serde_json::from_value(spec).unwrap();
        let problems = check_template(&spec, &config()).unwrap_err();
        assert!(problems.iter().any(|p| p.path == path && p.message.contains(says)), "{path}: {problems:#?}");
    };
    let spec: StageTemplateSpec = serde_json::from_value(score()).unwrap();
    assert_eq!(check_template(&spec, &config()), Ok(()));
    refused(
        json!({ "container": { "args": ["$[[ params.trget ]]"] } }),
        "spec.container.args[0]",
        "did you mean `target`?",
    );
    refused(
        json!({ "container": { "args": ["$[[ stages.fit.status ]]"] } }),
        "spec.container.args[0]",
        "`stages` is unknown",
    );
    refused(json!({ "metrics": { "F1": {} } }), "spec.metrics.F1", "a-z, 0-9 and `_`");
    refused(json!({ "inputs": { "A": {} } }), "spec.inputs.A", "a-z, 0-9 and `-`");
    refused(json!({ "timeout": "x" }), "spec.timeout", "such as 90s");
    refused(json!({ "retry": { "when": "params.target == 'a'" } }), "spec.retry.when", "`params` is unknown");
    refused(json!({ "container": { "command": null } }), "spec.container", "command or script is required");
    refused(json!({ "params": { "bins": { "default": 99 } } }), "spec.params.bins.default", "from 1 to 10");
}
