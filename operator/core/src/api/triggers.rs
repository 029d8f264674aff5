//! What starts runs of a pipeline by itself, and how far that has come.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DataTrigger, DataTriggerStatus, PipelineTrigger, PipelineTriggerStatus, Value, schema};

/// What starts a run. A pipeline that was not accepted starts none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Triggers {
    /// `params`, `stages`, `finally` or `store` changed: run. A description, and a stage's `timeout`, `pendingTimeout` and `retry`, do not
    /// count.
    #[serde(default)]
    pub on_change: bool,
    /// Times at which a run starts, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub schedules: BTreeMap<String, Schedule>,
    /// Runs for times of a schedule that are past, by name: each time of the range gets its run, once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub backfills: BTreeMap<String, Backfill>,
    /// What is found of served models, by name: retraining.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub on_model: BTreeMap<String, ModelTrigger>,
    /// The success of other pipelines, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub on_pipeline: BTreeMap<String, PipelineTrigger>,
    /// New data at an address, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub on_data: BTreeMap<String, DataTrigger>,
}

/// Times at which a run starts. Its stages read the time as `run.scheduledTime`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Minute, hour, day of the month, month and day of the week (0 or 7 is Sunday), as in a crontab: `0 3 * * *` is every day at three. Also
    /// names (`mon-fri`), steps (`*/15`), `L` for the last day of a month, and `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    #[schemars(length(min = 1, max = 128))]
    pub cron: String,
    /// Of the tz database, such as `Europe/Berlin`. A schedule with one minute and one hour keeps its one time a day: where the clock is put
    /// forward, a time that is left out comes right after the gap; where it is put back, one that comes twice counts the first time only.
    /// Others go by the clock: what is left out does not come, and what comes twice counts twice. Default `UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// What becomes of times at which no operator was there, or the pipeline was not accepted. Default `Last`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<Missed>,
    /// Starts nothing. What is passed meanwhile was not missed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// Values for the pipeline's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_map")]
    pub params: BTreeMap<String, Value>,
}

/// What becomes of times that were missed. Up to a minute after it a time is not missed yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Missed {
    /// Nothing.
    Skip,
    /// One run, for the last of them.
    #[default]
    Last,
    /// A run for each, the last hundred at most.
    All,
}

/// Runs for the times of a schedule from `from` on and before `to`, in their order, 10,000 at most. They read their time as
/// `run.scheduledTime`. It begins anew when `schedule`, `from` or `to` is changed, and when it is taken out and put in again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.from < self.to", "message": "from must be before to" },
    { "rule": "self.from >= timestamp('1970-01-01T00:00:00Z') && self.to <= timestamp('3000-01-01T00:00:00Z')", "message": "from and to must lie in the years 1970 to 2999" }
]))]
pub struct Backfill {
    /// One of `schedules`; it may be suspended.
    #[schemars(length(min = 1, max = 63))]
    pub schedule: String,
    /// The first time that may have a run, such as `2026-01-01T00:00:00Z`.
    #[schemars(schema_with = "schema::time")]
    pub from: Time,
    /// The end, which has none itself. Times that are still to come are waited for.
    #[schemars(schema_with = "schema::time")]
    pub to: Time,
    /// So many of its runs at a time. Where `concurrency` is `Forbid` or `Replace`, it also keeps to that, all other runs counted. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub parallelism: Option<u32>,
    /// Values for the pipeline's parameters, over those of the schedule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_map")]
    pub params: BTreeMap<String, Value>,
}

/// A run starts when `when` has held for `for` of what is watched of a served model. It starts once: then `cooldown` and the end of that run
/// are waited for, and `when` has to hold anew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelTrigger {
    /// A ModelDeployment of the namespace. For `drift` it needs `monitoring.drift`.
    #[schemars(length(min = 1, max = 63))]
    pub model_deployment: String,
    /// A CEL expression over `drift`, which has figures of `status.drift` of the ModelDeployment: `share`, `samples`, `drifted`, `compared`,
    /// `outliers`, `predictions` (null where there are none) and, by name, `features`, those that the status lists; and over `live`, the metrics
    /// by name that a `report` stage brought last of the promoted version, as `live.accuracy < 0.75`. While there are too few rows for a figure, or
    /// nothing was reported of that version, it does not hold.
    #[schemars(length(min = 1, max = 1024))]
    pub when: String,
    /// So long without a break. Default `0s`.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub for_: Option<String>,
    /// With fewer rows, or fewer samples of the report where `when` asks for `live`, it does not hold. Default: `minSamples` of the
    /// ModelDeployment's `monitoring.drift`, and none of a report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_samples: Option<i64>,
    /// So long after a start nothing starts. Default `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub cooldown: Option<String>,
    /// Values for the pipeline's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_map")]
    pub params: BTreeMap<String, Value>,
}

/// How far the triggers have come, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriggersStatus {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub schedules: BTreeMap<String, ScheduleStatus>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub backfills: BTreeMap<String, BackfillStatus>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub on_model: BTreeMap<String, ModelTriggerStatus>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub on_pipeline: BTreeMap<String, PipelineTriggerStatus>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub on_data: BTreeMap<String, DataTriggerStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    /// Times and zone that this is said of. With others it begins anew.
    pub rule: String,
    /// Up to here every time has its run or was passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_time: Option<Time>,
    /// When the next run starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackfillStatus {
    /// Schedule and range that this is said of. With others it begins anew.
    pub rule: String,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// The last time that has its run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<String>,
    /// Runs that were started.
    #[serde(default)]
    pub runs: i64,
    /// Of those, the ones that have succeeded, and that have ended otherwise.
    #[serde(default)]
    pub succeeded: i64,
    #[serde(default)]
    pub failed: i64,
    /// Those that go on, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(max = 253)), extend("x-kubernetes-list-type" = "atomic"))]
    pub running: Vec<String>,
    /// When every time had its run, and all of them had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelTriggerStatus {
    /// What this is said of: with another model or `when` it has to hold anew.
    #[serde(default)]
    pub rule: String,
    /// When the trigger was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// Runs that were started.
    #[serde(default)]
    pub runs: i64,
    /// Since when `when` holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds_since: Option<Time>,
    /// When the last run was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<String>,
    /// Why nothing is known of the model, or what a start waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
