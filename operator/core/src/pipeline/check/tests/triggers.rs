//! Schedules, backfills and what served models trigger.

use serde_json::{Value, json};

use super::{checked, refused};

fn schedule(more: Value) -> Value {
    let mut schedule = json!({ "cron": "0 3 * * *", "timeZone": "Europe/Berlin" });
    super::merge(&mut schedule, more);
    json!({ "triggers": { "schedules": { "nightly": schedule } } })
}

#[test]
fn a_schedule_has_times_that_come_and_values_that_fit() {
    let at = |field: &str| format!("spec.triggers.schedules.nightly.{field}");
    assert!(checked(schedule(json!({ "params": { "rate": 0.1 } }))).is_ok());
    refused(schedule(json!({ "cron": "0 25 * * *" })), &at("cron"), "`0 25 * * *` is no schedule");
    refused(schedule(json!({ "cron": "0 0 31 4 *" })), &at("cron"), "never comes");
    refused(schedule(json!({ "timeZone": "Europe/Berln" })), &at("timeZone"), "did you mean `Europe/Berlin`?");
    refused(schedule(json!({ "params": { "rat": 0.1 } })), &at("params.rat"), "did you mean `rate`?");
    refused(schedule(json!({ "params": { "rate": "x" } })), &at("params.rate"), "write a value of type number");
    let mut required = schedule(json!({}));
    required["params"]["day"] = json!({ "type": "string" });
    refused(required, &at("params.day"), "the parameter `day` is required");
    let mut required = json!({ "triggers": { "onChange": true } });
    assert!(checked(required.clone()).is_ok());
    required["params"]["day"] = json!({ "type": "string" });
    refused(required, "spec.triggers.onChange", "no value for the parameter `day`: give it a default");
    let named = json!({ "triggers": { "schedules": { "every day": { "cron": "@daily" } } } });
    refused(named, "spec.triggers.schedules.every day", "is no name for a schedule");
}

#[test]
fn a_backfill_is_of_a_schedule_that_there_is() {
    let backfill = |more: Value| {
        let mut triggers = schedule(json!({}));
        let mut past = json!({ "schedule": "nightly", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z" });
        super::merge(&mut past, more);
        triggers["triggers"]["backfills"] = json!({ "past": past });
        triggers
    };
    let at = |field: &str| format!("spec.triggers.backfills.past.{field}");
    assert!(checked(backfill(json!({}))).is_ok());
    refused(backfill(json!({ "schedule": "nightli" })), &at("schedule"), "did you mean `nightly`?");
    refused(backfill(json!({ "params": { "rate": 7 } })), &at("params.rate"), "from 0 to 1");
}

#[test]
fn the_time_of_a_run_is_text_or_null() {
    let with = |when: &str| super::stage("score", json!({ "when": when }));
    assert!(checked(with("run.scheduledTime == null || run.scheduledTime.startsWith('2026')")).is_ok());
    refused(with("run.scheduledTime == 3"), "spec.stages.score.when", "with the same type");
}

#[test]
fn what_is_asked_of_a_served_model_is_said_in_its_names() {
    let with = |more: Value| {
        let mut trigger = json!({ "modelDeployment": "shop", "when": "drift.share > 0.3" });
        super::merge(&mut trigger, more);
        json!({ "triggers": { "onModel": { "degraded": trigger } } })
    };
    let at = |field: &str| format!("spec.triggers.onModel.degraded.{field}");
    for when in [
        "drift.share > 0.3 && drift.samples >= 1000",
        "drift.features['bill-length'].value > 0.2 || drift.features.island.newCategories > 0.1",
        "drift.predictions != null && drift.predictions.drifted",
    ] {
        assert!(checked(with(json!({ "when": when }))).is_ok(), "{when}");
    }
    refused(with(json!({ "when": "drift.shar > 0.3" })), &at("when"), "`drift.shar` is unknown");
    refused(with(json!({ "when": "params.rate > 0.3" })), &at("when"), "`params` is unknown");
    refused(with(json!({ "when": "drift.share" })), &at("when"), "a boolean is needed here");
    refused(with(json!({ "when": "$[[ drift.share > 0.3 ]]" })), &at("when"), "leave the `$[[` and `]]` out");
    refused(with(json!({ "for": "soon" })), &at("for"), "is no duration");
    refused(with(json!({ "cooldown": "1d1" })), &at("cooldown"), "is no duration");
}

#[test]
fn an_address_of_data_is_one_that_can_be_looked_at() {
    let with = |more: Value| {
        let mut trigger = json!({ "uri": "https://example.com/day.csv" });
        super::merge(&mut trigger, more);
        json!({ "triggers": { "onData": { "lake": trigger } } })
    };
    let at = |field: &str| format!("spec.triggers.onData.lake.{field}");
    for uri in ["http://h/x", "s3://lake/", "s3://lake/a.csv", "gs://lake/a/", "pvc://inbox/day", "pvc://inbox/day/"] {
        assert!(checked(with(json!({ "uri": uri, "poll": "1s", "settle": "7d" }))).is_ok(), "{uri}");
    }
    refused(with(json!({ "uri": "s3://lake" })), &at("uri"), "write s3://bucket/key");
    refused(with(json!({ "uri": "s3:///lake" })), &at("uri"), "write s3://bucket/key");
    refused(with(json!({ "uri": "https:///x" })), &at("uri"), "has no host");
    refused(with(json!({ "uri": "pvc://inbox" })), &at("uri"), "names no file or folder: write pvc://claim/path");
    refused(with(json!({ "uri": "pvc://inbox/../etc" })), &at("uri"), "names no path below the claim's root");
    refused(with(json!({ "uri": "ftp://lake/x" })), &at("uri"), "is no address that can be looked at");
    refused(
        with(json!({ "uri": "https://me:secret@h/x" })),
        &at("uri"),
        "write access.secretRef with HTTP_AUTHORIZATION",
    );
    refused(with(json!({ "uri": "http://169.254.169.254/x" })), &at("uri"), "is for the machine alone");
    refused(with(json!({ "uri": "s3://$[[params.x]]/p/" })), &at("uri"), "nothing is filled in here");
    refused(with(json!({ "uri": "s3://lake/../p/" })), &at("uri"), "write the key as it is in the bucket");
    refused(with(json!({ "uri": "az://lake", "access": { "account": "me" } })), &at("uri"), "write az://container/key");
    refused(
        with(json!({ "uri": "az://lake/a" })),
        &at("access.account"),
        "write access: { account: <storage account> }",
    );
    assert!(checked(with(json!({ "uri": "az://lake/a", "access": { "account": "me" } }))).is_ok());
    let region = json!({ "uri": "gs://lake/x", "access": { "region": "eu" } });
    refused(with(region), &at("access.region"), "region is for an address that begins with s3://: take it out");
    let both = json!({ "uri": "s3://lake/x", "access": { "anonymous": true, "secretRef": { "name": "k" } } });
    refused(with(both), &at("access.anonymous"), "take secretRef or anonymous out");
    refused(with(json!({ "poll": "100ms" })), &at("poll"), "write at least 1s");
    refused(with(json!({ "settle": "8d" })), &at("settle"), "write at most 7d");
    refused(with(json!({ "params": { "rat": 0.1 } })), &at("params.rat"), "did you mean `rate`?");
}

#[test]
fn what_started_a_run_is_text_or_null() {
    let with = |when: &str| super::stage("score", json!({ "when": when }));
    assert!(
        checked(with("run.upstream == null || run.dataVersion == null || run.dataVersion.startsWith('v')")).is_ok()
    );
    refused(with("run.upstream == 3"), "spec.stages.score.when", "with the same type");
    let upstream =
        json!({ "triggers": { "onPipeline": { "up": { "pipeline": "clean", "params": { "rate": "x" } } } } });
    refused(upstream, "spec.triggers.onPipeline.up.params.rate", "write a value of type number");
}
