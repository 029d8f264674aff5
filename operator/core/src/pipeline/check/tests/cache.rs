//! What can be cached.

use serde_json::json;

use super::{checked, container, refused, stage};
use crate::api::CacheMode;

#[test]
fn a_cache_that_could_not_be_trusted_is_refused_with_what_to_write() {
    let fit = |cache: serde_json::Value| stage("fit", json!({ "cache": cache }));
    refused(fit(json!({ "maxAge": "soon" })), "spec.stages.fit.cache.maxAge", "is no duration");
    let each = json!({ "stages": { "fit": { "forEach": { "items": [1] }, "cache": { "maxAge": "1h" }, "container": { "image": "i", "command": ["c"] } } } });
    let problems = crate::pipeline::check(
        &serde_json::from_value(each).unwrap(),
        &std::collections::BTreeMap::new(),
        &crate::config::Config::default(),
    )
    .unwrap_err();
    assert!(
        problems
            .iter()
            .any(|p| p.path == "spec.stages.fit.cache" && p.message.contains("write store into the pipeline")),
        "{problems:?}"
    );
    let at = "spec.stages.load.cache.maxAge";
    refused(stage("load", json!({ "cache": { "serialize": true } })), at, "the stage has no inputs");
    let claim = json!({ "lake": { "claim": { "name": "lake" }, "mountPath": "/lake" } });
    let mounts = stage("fit", json!({ "cache": {}, "container": { "volumes": claim } }));
    refused(mounts, "spec.stages.fit.cache.maxAge", "mounts a claim, in the volume `lake`");
    for cache in [json!({ "maxAge": "1h" }), json!({ "mode": "Refresh" }), json!({ "mode": "Off" })] {
        checked(stage("load", json!({ "cache": cache }))).unwrap();
    }
}

#[test]
fn cache_belongs_to_a_stage_that_runs_a_program() {
    refused(
        stage("deploy", json!({ "cache": {} })),
        "spec.stages.deploy.cache",
        "belongs to a stage with uses or container",
    );
}

#[test]
fn a_stage_without_a_cache_of_its_own_has_the_pipelines() {
    let frozen = checked(json!({
        "defaults": { "cache": { "mode": "Off" } },
        "stages": { "fit": { "cache": { "salt": "2", "maxAge": "1h" } } },
    }))
    .unwrap();
    let own = container(&frozen, "fit").cache.unwrap();
    assert_eq!((own.mode, own.salt.as_deref(), own.max_age_seconds), (CacheMode::Auto, Some("2"), Some(3600)));
    assert_eq!(container(&frozen, "load").cache.unwrap().mode, CacheMode::Off);
    refused(json!({ "defaults": { "cache": { "maxAge": "1" } } }), "spec.defaults.cache.maxAge", "is no duration");
}
