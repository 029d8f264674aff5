//! `cache`: a stage's result is taken from an earlier run that did the same.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// When a stage is not run because a kept run of the namespace has its result: the same image by digest, command, arguments, script,
/// environment, inputs by digest, and outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cache {
    #[serde(default, skip_serializing_if = "is_auto")]
    pub mode: CacheMode,
    /// A part of the key: another text, and nothing made before is taken. For what the key cannot see, such as the content of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub salt: Option<String>,
    /// What was made longer ago is not taken. Default: no bound. A stage without inputs needs it: nobody sees when its source changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub max_age: Option<String>,
    /// Of several runs that need the same result at a time one makes it, and the others wait for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub serialize: bool,
}

/// What a stage does with the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CacheMode {
    /// Takes what is there, and leaves what it makes for later runs.
    #[default]
    Auto,
    /// Takes nothing, and nobody takes what it makes.
    Off,
    /// Takes nothing: it is run, and what it makes is taken from then on.
    Refresh,
}

/// How all stages of a run are cached, instead of what the pipeline says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunCache {
    pub mode: RunCacheMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunCacheMode {
    /// They take nothing, and nobody takes what they make.
    Off,
    /// They take nothing: they are run, and what they make is taken from then on. One with `mode: Off` stays so.
    Refresh,
}

impl RunCacheMode {
    /// Over what a stage says.
    #[must_use]
    pub fn over(self, mode: CacheMode) -> CacheMode {
        match (self, mode) {
            (Self::Off, _) | (_, CacheMode::Off) => CacheMode::Off,
            (Self::Refresh, _) => CacheMode::Refresh,
        }
    }
}

fn is_auto(mode: &CacheMode) -> bool {
    *mode == CacheMode::Auto
}

/// How a stage of a run stands to the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheStatus {
    /// Digest of all that the result depends on. Runs of the namespace with the same key have the same result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub key: Option<String>,
    /// Where the result was made, if it was taken from there and nothing was run here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<CacheOrigin>,
    /// Whose result is taken if the source of an input says that it has not changed since. It is being asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<CacheOrigin>,
    /// Why nothing was taken, where `cache` is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub miss: Option<String>,
    /// It is run whatever the cache has: `retryFrom` named it, or what it had made was lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refresh: bool,
    /// Of a stage with `forEach`: some of its items read other things than the rest. Nobody takes what they made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mixed: bool,
    /// A result that was found missing or damaged. Nobody takes it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<CacheOrigin>,
}

/// Who made a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheOrigin {
    #[schemars(length(max = 253))]
    pub run: String,
    /// Of the run.
    #[schemars(length(max = 64))]
    pub uid: String,
    #[schemars(length(max = 63))]
    pub stage: String,
    /// When.
    pub time: Time,
}
