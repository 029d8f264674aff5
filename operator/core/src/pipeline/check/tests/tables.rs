//! Inputs that are tables: the stage that reads each, and what is refused.

use serde_json::{Value, json};

use super::{checked, container, refused, stage};
use crate::api::{CacheMode, OnFailure};
use crate::pipeline::Bond;

#[allow(clippy::needless_pass_by_value)] // The calls read better with `json!` as it is.
fn clicks(input: Value) -> Value {
    stage("fit", json!({ "inputs": { "clicks": input } }))
}

#[test]
fn a_table_is_read_by_a_stage_of_its_own() {
    let mut patch = clicks(json!({
        "table": { "uri": "s3://lake/clicks/", "timeColumn": "at", "columns": ["at", "user"],
                   "access": { "endpoint": "http://minio:9000", "secretRef": { "name": "lake" } } },
        "window": "30d"
    }));
    patch["stages"]["fit"]["onFailure"] = json!("Continue");
    patch["stages"]["fit"]["when"] = json!("params.rate > 0.1");
    patch["stages"]["fit"]["retry"] = json!({ "limit": 4, "when": "exitCode == 1" });
    patch["stages"]["fit"]["container"] = json!({ "serviceAccountName": "trainer" });
    let frozen = checked(patch).unwrap();
    let reader = &frozen.stages["fit"];
    assert_eq!(container(&frozen, "fit").inputs["clicks"].from.as_deref(), Some("fit-clicks.data"));
    assert_eq!(container(&frozen, "fit").inputs["clicks"].window, None);
    assert!(reader.needs.contains(&"fit-clicks".to_owned()));

    let made = &frozen.stages["fit-clicks"];
    assert_eq!((made.needs.clone(), made.bond("load")), (vec!["load".to_owned()], Bond::Follows));
    assert_eq!((made.on_failure, made.when.as_deref()), (OnFailure::Continue, Some("params.rate > 0.1")));
    let reads = container(&frozen, "fit-clicks");
    assert_eq!(reads.cache.unwrap().mode, CacheMode::Off);
    assert_eq!((reads.retry.limit, reads.retry.when), (4, None));
    let program = reads.container;
    assert_eq!(
        (program.image.as_str(), program.command.unwrap().join(" ").as_str()),
        ("millrace-data", "millrace-data ingest")
    );
    let params: Value = serde_json::from_str(&program.args[1]).unwrap();
    assert_eq!(
        params,
        json!({
            "source": "s3://lake/clicks/", "format": "delta", "columns": ["at", "user"],
            "delta": { "timeColumn": "at", "window": "30d" },
            "s3": { "endpoint": "http://minio:9000", "region": null, "allowHttp": true }
        })
    );
    assert_eq!(program.args[2..], ["--param", "delta.until=$[[ run.scheduledTime == null ? '' : run.scheduledTime ]]"]);
    let keys: Vec<&str> = program.settings.env.keys().map(String::as_str).collect();
    assert_eq!(keys, ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]);
    assert_eq!(program.settings.service_account_name.as_deref(), Some("trainer"));
    assert_eq!(
        container(&frozen, "fit").container.settings.env.len(),
        0,
        "the program of the reader gets no credentials"
    );
}

#[test]
fn a_table_in_a_public_bucket_is_read_without_a_signature() {
    let table = json!({ "table": { "uri": "s3://open/clicks", "access": { "anonymous": true } } });
    let program = container(&checked(clicks(table)).unwrap(), "fit-clicks").container;
    let params: Value = serde_json::from_str(&program.args[1]).unwrap();
    assert_eq!(params["s3"], json!({ "endpoint": null, "region": null, "allowHttp": null, "anonymous": true }));
    assert!(program.settings.env.is_empty());
}

#[test]
fn a_table_in_another_cloud_is_reached_as_that_has_it() {
    let reads = |uri: &str, access: Value| {
        let program =
            container(&checked(clicks(json!({ "table": { "uri": uri, "access": access } }))).unwrap(), "fit-clicks")
                .container;
        let keys: Vec<(String, bool)> =
            program.settings.env.into_iter().map(|(name, value)| (name, value.secret.unwrap().optional)).collect();
        (serde_json::from_str::<Value>(&program.args[1]).unwrap(), keys)
    };
    let secret = json!({ "name": "keys" });
    let (params, keys) = reads("gs://lake/clicks", json!({ "endpoint": "http://fake:4443", "secretRef": secret }));
    assert_eq!(params["gcs"], json!({ "endpoint": "http://fake:4443" }));
    assert_eq!(keys, [("GOOGLE_SERVICE_ACCOUNT_KEY".to_owned(), false)]);
    let (params, keys) = reads("az://lake/clicks", json!({ "account": "me", "secretRef": secret }));
    assert_eq!(params["azure"], json!({ "endpoint": null, "account": "me" }));
    assert!(keys.len() == 5 && keys.iter().all(|(name, optional)| name.starts_with("AZURE_") && *optional), "{keys:?}");
    assert!(params.get("s3").is_none());
}

#[test]
fn a_claims_table_is_mounted_to_read_and_its_version_may_be_a_result() {
    let frozen = checked(clicks(json!({
        "table": { "uri": "pvc://lake/tables/clicks/", "version": "$[[ stages.load.results.rows ]]" }
    })))
    .unwrap();
    let program = container(&frozen, "fit-clicks").container;
    let params: Value = serde_json::from_str(&program.args[1]).unwrap();
    assert_eq!(params, json!({ "source": "/mnt/table/tables/clicks", "format": "delta", "delta": {} }));
    assert_eq!(program.args[2..], ["--param", "delta.version=$[[ stages.load.results.rows ]]"]);
    let volume = &program.settings.volumes["table"];
    assert_eq!(
        (volume.claim.as_ref().unwrap().name.as_str(), volume.mount_path.as_str(), volume.read_only),
        ("lake", "/mnt/table", true)
    );
}

#[test]
fn no_value_of_a_table_is_a_template_but_its_version() {
    let frozen = checked(clicks(json!({
        "table": { "uri": "s3://lake/a", "timeColumn": "$[[ params.rate ]]" }, "window": "1d"
    })));
    let program = container(&frozen.unwrap(), "fit-clicks").container;
    assert!(!program.args[1].contains("$[["), "{}", program.args[1]);
    let params: Value = serde_json::from_str(&program.args[1]).unwrap();
    assert_eq!(params["delta"]["timeColumn"], json!("$[[ params.rate ]]"));
}

#[test]
fn a_table_of_finally_is_read_there() {
    let tell = json!({
        "inputs": { "data": { "from": "load.data" }, "clicks": { "table": { "uri": "s3://lake/clicks" } } },
        "container": { "image": "i", "command": ["tell"] }
    });
    let frozen = checked(json!({ "finally": { "tell": tell } })).unwrap();
    let made = &frozen.stages["tell-clicks"];
    assert!(made.finally && made.needs.is_empty(), "{made:?}");
}

#[test]
fn a_table_that_cannot_be_read_so_is_refused() {
    let at = "spec.stages.fit.inputs.clicks";
    let table = json!({ "uri": "s3://lake/clicks" });
    for (input, path, says) in [
        (
            json!({ "table": table, "from": "load.data" }),
            at.to_owned(),
            "exactly one of from, uri, table, deployed, model and input",
        ),
        (
            json!({ "table": table, "optional": true }),
            at.to_owned(),
            "default and optional are not for an input with table",
        ),
        (json!({ "table": table, "mode": "Uri" }), format!("{at}.mode"), "a table is read into a folder"),
        (json!({ "table": table, "window": "1d" }), format!("{at}.window"), "write table.timeColumn"),
        (
            json!({ "table": { "uri": "s3://lake/clicks", "timeColumn": "at" }, "window": "0s" }),
            format!("{at}.window"),
            "`0s` is no time: write one such as 12h or 30d",
        ),
        (json!({ "table": { "uri": "s3://lake" } }), format!("{at}.table.uri"), "is no address of a table"),
        (json!({ "table": { "uri": "ftp://lake/a" } }), format!("{at}.table.uri"), "is no address of a table"),
        (
            json!({ "table": { "uri": "az://lake/a" } }),
            format!("{at}.table.access.account"),
            "write access: { account: <storage account> }",
        ),
        (
            json!({ "table": { "uri": "gs://lake/a", "access": { "region": "eu" } } }),
            format!("{at}.table.access.region"),
            "region is for an address that begins with s3://",
        ),
        (json!({ "table": { "uri": "s3://lake/a/../b" } }), format!("{at}.table.uri"), "is no address of a table"),
        (
            json!({ "table": { "uri": "s3://lake/a", "timeColumn": "at" } }),
            format!("{at}.table.timeColumn"),
            "write window, or take timeColumn out",
        ),
        (
            json!({ "table": { "uri": "s3://lake/a", "columns": ["a", "b", "a"] } }),
            format!("{at}.table.columns"),
            "`a` is named twice",
        ),
        (json!({ "table": { "uri": "pvc://lake/../a" } }), format!("{at}.table.uri"), "is no address of a table"),
        (
            json!({ "table": { "uri": "s3://lake/a", "access": { "anonymous": true, "secretRef": { "name": "k" } } } }),
            format!("{at}.table.access.anonymous"),
            "take secretRef or anonymous out",
        ),
        (
            json!({ "table": { "uri": "pvc://lake/a", "access": { "region": "eu" } } }),
            format!("{at}.table.access"),
            "a claim needs no access",
        ),
    ] {
        refused(clicks(input), &path, says);
    }
    refused(
        stage("score", json!({ "inputs": { "clicks": { "table": table } } })),
        "spec.stages.score.inputs.clicks",
        "takes no input `clicks`",
    );
    let mut taken = clicks(json!({ "table": table }));
    taken["stages"]["fit-clicks"] = json!({ "uses": "load" });
    refused(taken, at, "there is a stage `fit-clicks` already: rename that one, or the input");
}

#[test]
fn two_stages_that_would_be_made_with_one_name_are_refused() {
    let reader = |input: &str| json!({ "inputs": { input: { "table": { "uri": "s3://lake/clicks" } } }, "container": { "image": "i", "command": ["read"] } });
    let problems = checked(json!({ "stages": { "a": reader("b-c"), "a-b": reader("c") } })).unwrap_err();
    assert!(problems.iter().any(|problem| problem.message.contains("is called `a-b-c`")), "{problems:?}");
}

#[test]
fn what_the_reader_only_speaks_of_comes_before_the_table_is_read() {
    let frozen = checked(json!({ "stages": { "fit": {
        "inputs": { "clicks": { "table": { "uri": "s3://lake/clicks" } } },
        "container": { "image": "i", "command": ["fit", "$[[ stages.load.results.rows ]]"] }
    } } }));
    assert_eq!(frozen.unwrap().stages["fit-clicks"].needs, ["load"]);
}
