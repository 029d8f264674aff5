//! How another revision of a served model takes over, and how far it has come.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PrometheusQuery, ServedArtifact, schema};

/// How another revision takes over from the one that is promoted. Without it, it gets all requests as soon as its pods answer. The first
/// revision of all has nothing to take over from, and one that was promoted and is still warm goes back to work at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.strategy != 'Canary' || (has(self.steps) && self.steps.exists(s, has(s.weight) && s.weight > 0))", "message": "Canary needs steps with a weight, such as steps: [{weight: 5, hold: 2m}, {weight: 50, hold: 5m}]" },
    { "rule": "self.strategy != 'BlueGreen' || !has(self.steps) || self.steps.all(s, !has(s.weight) || s.weight == 0 || s.weight == 100)", "message": "with BlueGreen a step's weight is 0, while the new revision is looked at, or 100" },
    { "rule": "self.strategy != 'Shadow' || (has(self.steps) && size(self.steps) > 0 && self.steps.all(s, !has(s.weight) || s.weight == 0))", "message": "Shadow needs steps without weight, such as steps: [{hold: 10m}]: the new revision gets copies" },
    { "rule": "self.strategy != 'Recreate' || !(has(self.steps) || has(self.analysis) || has(self.onFailure) || has(self.keepWarm))", "message": "Recreate has no steps, analysis, onFailure and keepWarm: the old pods are gone before the new ones come" },
    { "rule": "!has(self.analysis) || size(self.analysis) == 0 || (has(self.steps) && self.steps.exists(s, has(s.hold) || (has(s.pause) && s.pause)))", "message": "analysis needs steps with hold: the time in which it looks" },
    { "rule": "!has(self.analysis) || self.analysis.all(a, size(a) <= 63)", "message": "the name of an analysis must have at most 63 characters" },
    { "rule": "!has(self.sample) || self.sample >= 0.0001", "message": "sample must be 0.0001 or more" },
    { "rule": "self.strategy != 'Recreate' || !has(self.sample)", "message": "sample is the share of requests that both revisions answer, and with Recreate there is one at a time: leave it out" }
]))]
pub struct Rollout {
    pub strategy: RolloutStrategy,
    /// One after the other; then it is promoted. Each begins when enough pods for its weight answer and every router knows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub steps: Vec<RolloutStep>,
    /// The share of the promoted revision's requests, over 0 to 1, of which the one that comes gets copies: nobody waits for its answers, and
    /// `Agreement` compares them. With `Shadow`, and with `Canary` and `BlueGreen` where this or an analysis with `metric: Agreement` is written.
    /// Default 1, and 0.1 with `Canary`, which has the fewer pods the less is copied. In a step with weight 100 nothing is copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0001, max = 1.0))]
    pub sample: Option<f64>,
    /// What has to hold in every step, by name. All are looked at once a second, from the moment at which a step is in force.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 20))]
    pub analysis: BTreeMap<String, Analysis>,
    /// What one that failed does. Default `RollBack`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnRolloutFailure>,
    /// The revision that was promoted before keeps its pods for so long: going back to it takes no step and starts no pod. Default `0s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub keep_warm: Option<String>,
}

/// `Canary`: steps with a growing share of the requests. `BlueGreen`: all at once, with as many pods as the old one, after steps without a
/// share and, if there are steps with the weight 100, looked at once more while the old one stands by. `Shadow`: copies of requests, whose
/// answers are compared and thrown away, then all. `Recreate`: the old pods go before the new ones come, for what there is not room for
/// twice; requests wait meanwhile, as long as `routing.queue` lets them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutStrategy {
    #[default]
    Canary,
    BlueGreen,
    Shadow,
    Recreate,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStep {
    /// Percent of the requests. Default: that of the step before, and 0 in the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub weight: Option<i32>,
    /// The step takes so long at least. Default `0s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub hold: Option<String>,
    /// Waits for `spec.control` with `action: Approve` after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<bool>,
}

/// One figure of the new revision, and its limits. It is taken of all requests since the step began, or of the last five to ten minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "[has(self.metric), has(self.prometheus), has(self.live)].filter(x, x).size() == 1", "message": "exactly one of metric, prometheus and live is required" },
    { "rule": "!has(self.metric) || ((!has(self.max) || self.max >= 0.0) && (!has(self.min) || self.min >= 0.0))", "message": "max and min of a metric must be 0 or more" },
    { "rule": "!(has(self.prometheus) && (has(self.maxRatioToStable) || has(self.minRatioToStable))) || self.prometheus.query.contains('$[[')", "message": "maxRatioToStable and minRatioToStable need $[[ revision ]] in prometheus.query: it is asked once more with the promoted revision there" },
    { "rule": "has(self.max) || has(self.min) || has(self.maxRatioToStable) || has(self.minRatioToStable)", "message": "a limit is missing: write max, min, maxRatioToStable or minRatioToStable" },
    { "rule": "!has(self.max) || !has(self.min) || self.min <= self.max", "message": "min must not be above max" },
    { "rule": "!has(self.maxRatioToStable) || self.maxRatioToStable >= 0.01", "message": "maxRatioToStable must be 0.01 or more" },
    { "rule": "!has(self.minRatioToStable) || self.minRatioToStable >= 0.01", "message": "minRatioToStable must be 0.01 or more" },
    { "rule": "!has(self.maxRatioToStable) || !has(self.minRatioToStable) || self.minRatioToStable <= self.maxRatioToStable", "message": "minRatioToStable must not be above maxRatioToStable" },
    { "rule": "!has(self.minRatioToStable) || !has(self.metric)", "message": "minRatioToStable is for figures of which more is better, of live and prometheus: beside metric write max, min or maxRatioToStable" },
    { "rule": "!has(self.maxRatioToStable) || !has(self.metric) || self.metric != 'Agreement'", "message": "Agreement has nothing to be compared with: write min" },
    { "rule": "!has(self.failureLimit) || has(self.prometheus)", "message": "failureLimit counts answers of prometheus: a metric is one figure of all requests since the step began, for which minSamples says how many are enough, and a report of live is looked at once" },
    { "rule": "!has(self.metric) || self.metric != 'Drift' || (has(self.max) && self.max < 1.0 && !has(self.min) && !has(self.maxRatioToStable))", "message": "Drift is the share that has drifted from the profile of the version that comes: write max, 0 or more and below 1, and no other limit" }
]))]
pub struct Analysis {
    /// What the routers, or with `Drift` the model's servers, count. Exactly one of this, `prometheus` and `live`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<AnalysisMetric>,
    /// The figure is the answer to this query, as far as it was asked after the step was in force. Without any answer five times in a row it
    /// is an error, which does what a failure does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusQuery>,
    /// The figure is this metric of what a pipeline's `report` stage brought of the new revision's version after the step was in force: a report
    /// of another version, or an earlier one, says nothing. `minSamples` are the report's samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_.-]*$"))]
    pub live: Option<String>,
    /// More than this fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1e15, max = 1e15))]
    pub max: Option<f64>,
    /// Less than this fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1e15, max = 1e15))]
    pub min: Option<f64>,
    /// More than so many times the figure of the promoted revision in the same time fails. An `ErrorRate` of 0 there counts as one failure
    /// among all its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 1000.0))]
    pub max_ratio_to_stable: Option<f64>,
    /// Less than so many times the figure of the promoted revision fails: of `live` and `prometheus`, where more is better, as an accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 1000.0))]
    pub min_ratio_to_stable: Option<f64>,
    /// Requests that have to have ended before the figure says anything, of each of the revisions that are compared. Default 100, and
    /// none with `prometheus`, where the requests of the new revision count, and with `live`. With `Drift` they are rows, by default as many as
    /// `monitoring.drift` needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_samples: Option<u32>,
    /// So many answers of `prometheus` may break a limit in one step; the next one that does fails. They are counted every ten seconds. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub failure_limit: Option<u32>,
    /// A step waits so long for them, or for an answer with a number, and then for a person. Default `30m`, with
    /// `live` `7d`, and `hold` at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub max_hold: Option<String>,
}

impl Analysis {
    /// The figure of the promoted revision is needed too.
    #[must_use]
    pub fn compares(&self) -> bool {
        self.max_ratio_to_stable.is_some() || self.min_ratio_to_stable.is_some()
    }
}

/// What is counted. `ErrorRate`: the share, 0 to 1, of requests that ended with a 5xx, no answer or a broken one, of all but those that
/// the caller broke off and the router refused. `LatencyP50` to `LatencyP99`: milliseconds from arrival to the last byte of what pods
/// answered, so long that this share of the requests took no longer (exact within a fifth). `Agreement`: the share, 0 to 1, of the
/// answers to copies (`sample`) that were the caller's: the same status and outputs, numbers within 1e-5 of each other. `Drift`: the share, 0 to 1, of the importance of
/// the features that have drifted in the rows that the new revision was asked for, against the profile of its version, as `monitoring.drift` says, or
/// with its defaults where that is not written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AnalysisMetric {
    #[default]
    ErrorRate,
    LatencyP50,
    LatencyP90,
    LatencyP95,
    LatencyP99,
    Agreement,
    Drift,
}

impl AnalysisMetric {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ErrorRate => "ErrorRate",
            Self::LatencyP50 => "LatencyP50",
            Self::LatencyP90 => "LatencyP90",
            Self::LatencyP95 => "LatencyP95",
            Self::LatencyP99 => "LatencyP99",
            Self::Agreement => "Agreement",
            Self::Drift => "Drift",
        }
    }

    /// Of a latency: the share of the requests that took no longer.
    #[must_use]
    pub fn quantile(self) -> Option<f64> {
        match self {
            Self::LatencyP50 => Some(0.5),
            Self::LatencyP90 => Some(0.9),
            Self::LatencyP95 => Some(0.95),
            Self::LatencyP99 => Some(0.99),
            Self::ErrorRate | Self::Agreement | Self::Drift => None,
        }
    }
}

/// `RollBack`: the promoted revision gets all requests back at once, and the new one is not tried again until another one is asked for.
/// `Pause`: the step stays as it is, and waits for a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnRolloutFailure {
    #[default]
    RollBack,
    Pause,
}

/// Said of one revision: it says nothing of the next one, and may stay where it is, without `rollout` too. There, `Abort` still takes back a revision that is
/// not promoted yet, and `Approve` has nothing to approve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.action != 'Approve' || has(self.step)", "message": "Approve needs step: the number of the step that may go on, as status.rollout.step has it" }
]))]
pub struct RolloutControl {
    /// `status.rollout.revision`.
    #[schemars(length(min = 1, max = 63))]
    pub revision: String,
    pub action: RolloutAction,
    /// Of `Approve`: this step and those before it may go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub step: Option<i32>,
}

/// `Approve`: a step that waits for a person goes on, whatever it waits for; what fails under `RollBack` is still rolled back. `Promote`: all requests as soon as its pods answer, whatever
/// the steps and analyses say, after a rollback too. `Abort`: back to the promoted revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutAction {
    #[default]
    Approve,
    Promote,
    Abort,
}

/// The rollout that is under way, or was rolled back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The revision that comes.
    pub revision: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// What it serves instead of a version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ServedArtifact>,
    /// The number of the step, from 1. 0 until enough pods for the first step answer, and again when none answers any more.
    #[serde(default)]
    pub step: i32,
    /// How many there are.
    #[serde(default)]
    pub steps: i32,
    /// Percent of the requests that it gets.
    #[serde(default)]
    pub weight: i32,
    /// Since when every router has the step in force: `hold` counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_start_time: Option<Time>,
    /// How often it began with the first step again because none of its pods answered. The fifth time fails.
    #[serde(default)]
    pub restarts: i32,
    /// It waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<RolloutMark>,
    /// It was rolled back, and is not tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<RolloutMark>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]), length(max = 20))]
    pub analysis: Vec<AnalysisStatus>,
    /// When the figures of `analysis` are from. They are written when a verdict changes, and every 15 seconds at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Time>,
}

/// Something that happened to a rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutMark {
    /// `Approval`, `TooFewSamples`, `AnalysisFailed`, `AnalysisError` or `PodsFailed` where it waits; the last three or `Aborted` where it
    /// was rolled back.
    pub reason: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// One analysis of the step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisStatus {
    pub name: String,
    pub verdict: Verdict,
    /// The new revision's figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The promoted one's in the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<f64>,
    /// Requests of the new revision that the figure is of, with `Drift` rows.
    #[serde(default)]
    pub samples: i64,
    /// Answers in this step that broke a limit, of those that `failureLimit` lets pass, and one more if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<i32>,
    /// When the last of them was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Time>,
    /// Figure and limits in words.
    pub message: String,
}

/// `Inconclusive`: there are not `minSamples` yet, a query has no number, or there is no profile to compare with. `Error`: Prometheus gives no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    #[default]
    Inconclusive,
    Passed,
    Failed,
    Error,
}

/// A revision that was promoted or given up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRecord {
    pub revision: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// What it served instead of a version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ServedArtifact>,
    pub outcome: RolloutOutcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Why, where it was not promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `Superseded`: another one was asked for before its rollout had ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutOutcome {
    #[default]
    Promoted,
    RolledBack,
    Aborted,
    Superseded,
}
