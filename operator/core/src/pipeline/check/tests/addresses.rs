//! Inputs by `uri`: the stages that are made of them, and what is refused.

use serde_json::{Value, json};

use super::{base, check, checked, config, merge, refused, stage, templates};
use crate::api::{ArtifactType, CacheMode};
use crate::pipeline::{Bond, Frozen, FrozenContainer, FrozenKind};

const FILE: &str = "https://example.com/base.csv";

/// The stage `other` with an input `base`.
#[allow(clippy::needless_pass_by_value)] // The calls read better with `json!` as it is.
fn reads(input: Value) -> Value {
    stage(
        "other",
        json!({ "container": { "image": "i", "command": ["c", "$[[ inputs.base ]]"] }, "inputs": { "base": input } }),
    )
}

fn program<'a>(frozen: &'a Frozen, name: &str) -> &'a FrozenContainer {
    match &frozen.stages.get(name).unwrap_or_else(|| panic!("no stage {name}")).kind {
        FrozenKind::Container(container) => container,
        other => panic!("{other:?}"),
    }
}

fn at(field: &str) -> String {
    format!("spec.stages.other.inputs.base{field}")
}

#[test]
fn an_address_becomes_a_stage_whose_program_is_the_agent_alone() {
    let frozen = checked(reads(json!({ "uri": FILE }))).unwrap();
    assert_eq!(program(&frozen, "other").inputs["base"].from.as_deref(), Some("other-base.data"));
    assert_eq!(frozen.stages["other"].needs, ["other-base"]);
    assert_eq!(frozen.stages["other"].bond("other-base"), Bond::Uses);
    let made = program(&frozen, "other-base");
    assert_eq!(made.container.command.as_deref().unwrap(), ["/millrace-agent"]);
    assert_eq!(made.container.args, ["get", "--uri", FILE, "--to", "$[[ outputs.data ]]"]);
    assert_eq!(made.outputs["data"].kind, ArtifactType::Artifact);
    let cache = made.cache.as_ref().unwrap();
    assert_eq!((cache.mode, cache.max_age_seconds), (CacheMode::Auto, None), "its source is asked in every run");
    let claim = checked(reads(json!({ "uri": "pvc://lake/base.csv" }))).unwrap();
    assert_eq!(
        program(&claim, "other-base").cache.as_ref().unwrap().mode,
        CacheMode::Off,
        "nobody says whether it has changed"
    );
    assert_eq!(made.retry.when.as_deref(), Some("exitCode != 2 && reason != 'OutputMissing'"));
    assert!(made.container.settings.env.is_empty() && made.container.settings.volumes.is_empty());
}

#[test]
fn what_is_named_by_its_digest_or_may_be_old_is_taken_from_the_cache() {
    let cache = |more: Value| {
        let mut input = json!({ "uri": FILE });
        merge(&mut input, more);
        let frozen = checked(reads(input)).unwrap();
        let made = program(&frozen, "other-base");
        let cache = made.cache.clone().unwrap();
        (cache.mode, cache.max_age_seconds, made.container.args[5..].to_vec())
    };
    let digest = format!("sha256:{}", "ab".repeat(32));
    let (mode, age, args) = cache(json!({ "digest": digest }));
    assert!(mode == CacheMode::Auto && age > Some(86_400 * 10_000), "{age:?}");
    assert_eq!(args, ["--digest".to_owned(), digest]);
    assert_eq!(cache(json!({ "maxAge": "1h" })), (CacheMode::Auto, Some(3600), Vec::new()));
    refused(reads(json!({ "uri": FILE, "maxAge": "soon" })), &at(".maxAge"), "is no duration");
}

#[test]
fn a_bucket_is_reached_with_entries_of_the_secret_by_name() {
    let frozen = checked(reads(json!({ "uri": "s3://lake/base/", "access": {
        "endpoint": "http://minio:9000", "region": "eu-central-1", "secretRef": { "name": "keys" }, "caConfigMap": { "name": "ca", "key": "root" },
    } })));
    let frozen = frozen.unwrap();
    let made = program(&frozen, "other-base");
    assert_eq!(made.container.args[5..], ["--endpoint", "http://minio:9000", "--region", "eu-central-1", "--secret"]);
    let env = &made.container.settings.env;
    let secret = env["GET_AWS_SECRET_ACCESS_KEY"].secret.as_ref().unwrap();
    assert_eq!((secret.name.as_str(), secret.key.as_str(), secret.optional), ("keys", "AWS_SECRET_ACCESS_KEY", false));
    assert!(env["GET_AWS_SESSION_TOKEN"].secret.as_ref().unwrap().optional);
    assert_eq!(env["GET_ca.crt"].config_map.as_ref().unwrap().key, "root", "it stands for the Secret's");
    assert!(program(&frozen, "other").container.settings.env.is_empty(), "nobody's program has them");
}

#[test]
fn a_claim_is_mounted_for_reading() {
    let frozen = checked(reads(json!({ "uri": "pvc://raw/2026/rows.csv" }))).unwrap();
    let settings = &program(&frozen, "other-base").container;
    assert_eq!(settings.args[5..], ["--from", "/source/2026/rows.csv"]);
    let volume = &settings.settings.volumes["source"];
    assert!(volume.read_only && volume.claim.as_ref().unwrap().name == "raw" && volume.sub_path.is_none());
}

#[test]
fn the_reader_is_waited_for_in_nothing_but_what_it_comes_after() {
    let frozen = checked(stage("score", json!({
        "inputs": { "data": { "uri": "gs://lake/$[[ params.model_name ]]/x", "from": null } }, "when": "params.rate > 0.1", "onFailure": "Continue",
        "overrides": { "serviceAccountName": "trainer", "env": { "HTTPS_PROXY": { "value": "http://proxy:3128" }, "A": { "value": "9" } } },
    })))
    .unwrap();
    let made = &frozen.stages["score-data"];
    assert_eq!(made.needs, ["fit"], "what comes before the reader may be what writes there");
    assert_eq!(made.when.as_deref(), Some("params.rate > 0.1"));
    assert_eq!(made.on_failure, frozen.stages["score"].on_failure);
    let settings = &program(&frozen, "score-data").container.settings;
    assert_eq!(settings.service_account_name.as_deref(), Some("trainer"));
    assert_eq!(settings.env.keys().collect::<Vec<_>>(), ["HTTPS_PROXY"]);
}

#[test]
fn a_template_that_takes_models_gets_one_and_finally_has_its_own() {
    let frozen =
        checked(stage("score", json!({ "inputs": { "model": { "uri": "s3://lake/m", "from": null } } }))).unwrap();
    assert_eq!(program(&frozen, "score-model").outputs["data"].kind, ArtifactType::Model);
    let tell = json!({ "finally": { "tell": {
        "container": { "image": "i", "command": ["tell"] }, "inputs": { "list": { "uri": FILE }, "log": { "from": "fit.log", "optional": true } },
    } } });
    let frozen = checked(tell).unwrap();
    assert!(frozen.stages["tell-list"].finally && frozen.stages["tell-list"].needs.is_empty());
}

#[test]
fn an_address_that_is_handed_over_makes_no_stage() {
    let frozen = checked(reads(json!({ "uri": "s3://lake/$[[ params.model_name ]]", "mode": "Uri" }))).unwrap();
    assert!(!frozen.stages.contains_key("other-base"));
    let handed = |mode: Value| reads(json!({ "uri": "s3://lake/$[[ params.name ]]", "mode": mode }));
    refused(handed(json!("Uri")), &at(".uri"), "`params.name` is unknown");
    refused(handed(json!("Path")), &at(".uri"), "`params.name` is unknown");
    let from = reads(json!({ "from": "fit.model", "mode": "Uri" }));
    refused(from.clone(), &at(".mode"), "lies on a claim");
    let mut spec = base();
    merge(&mut spec, from);
    spec["store"] = json!({ "s3": { "bucket": "lake" } });
    check(&serde_json::from_value(spec).unwrap(), &templates(), &config()).unwrap();
}

#[test]
fn what_cannot_be_read_is_refused_with_what_to_write_instead() {
    for (input, field, words) in [
        (json!({ "uri": "ftp://host/file" }), ".uri", "nobody reads ftp:// here"),
        (json!({ "uri": "https://me:secret@host/file" }), ".uri", "access.secretRef with HTTP_AUTHORIZATION"),
        (json!({ "uri": "http://169.254.169.254/latest" }), ".uri", "is for the machine alone"),
        (json!({ "uri": "http://metadata.google.internal/x" }), ".uri", "is for the machine alone"),
        (json!({ "uri": "s3://lake" }), ".uri", "write s3://<bucket>/<path>"),
        (json!({ "uri": "s3://lake/../other/x" }), ".uri", "without \"..\""),
        (json!({ "uri": "pvc://raw/../x" }), ".uri", "write pvc://<claim>/<path>"),
        (json!({ "uri": "pvc://$[[ params.model_name ]]/x" }), ".uri", "has to be named as it is called"),
        (json!({ "uri": "pvc://raw/x", "mode": "Uri" }), ".uri", "by a path alone"),
        (json!({ "uri": "az://box/x" }), ".access.account", "write access: { account"),
        (json!({ "uri": FILE, "access": { "region": "eu" } }), ".access.region", "begins with s3://"),
        (
            json!({ "uri": FILE, "access": { "anonymous": true } }),
            ".access.anonymous",
            "begins with s3://, gs:// or az://",
        ),
        (
            json!({ "uri": "pvc://raw/x", "access": { "secretRef": { "name": "k" } } }),
            ".access.secretRef",
            "take it out",
        ),
        (
            json!({ "uri": "s3://b/x", "access": { "anonymous": true, "secretRef": { "name": "k" } } }),
            ".access.anonymous",
            "needs no credentials",
        ),
        (
            json!({ "uri": "s3://b/x", "access": { "endpoint": "http://169.254.169.254" } }),
            ".access.endpoint",
            "for the machine alone",
        ),
        (json!({ "uri": FILE, "optional": true }), ".optional", "has to be there"),
        (json!({ "uri": FILE, "default": { "from": "fit.model" } }), ".default", "belongs to an input with from"),
        (json!({ "uri": FILE, "digest": "sha256:0", "maxAge": "1h" }), ".maxAge", "does not age"),
        (json!({ "uri": FILE, "mode": "Uri", "maxAge": "1h" }), ".maxAge", "with mode: Uri nothing is read"),
        (json!({ "from": "fit.model", "maxAge": "1h" }), ".maxAge", "belongs to an input with uri"),
        (json!({ "uri": "https://host/$[[ item ]]" }), ".uri", "`item` is unknown"),
        (json!({ "uri": FILE, "from": "fit.model" }), "", "exactly one of from, uri, table, deployed, model and input"),
    ] {
        refused(reads(input), &at(field), words);
    }
    let taken = json!({ "stages": { "other-base": { "container": { "image": "i", "command": ["c"] } } } });
    let mut both = reads(json!({ "uri": FILE }));
    merge(&mut both, taken);
    refused(both, &at(""), "there is one already");
}
