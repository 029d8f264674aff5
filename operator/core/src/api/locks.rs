//! `locks`: what runs and stages of a namespace hold while they run, so that not too many of them run at a time.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A lock by its name, which all pipelines of the namespace share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lock {
    /// So many hold it at a time; 1 is a mutex. Where those who hold or want it say different numbers the least counts.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 1000))]
    pub max: u32,
}

fn one() -> u32 {
    1
}

// What is not written is not kept: a release with other defaults starts no run.
fn is_one(max: &u32) -> bool {
    *max == one()
}

impl Default for Lock {
    fn default() -> Self {
        Self { max: one() }
    }
}

/// How many may hold each lock.
pub(crate) fn bounds(locks: &BTreeMap<String, Lock>) -> BTreeMap<String, u32> {
    locks.iter().map(|(name, lock)| (name.clone(), lock.max)).collect()
}

/// The locks of a run or a stage. It holds all of them or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocksStatus {
    /// How many may hold each at a time.
    #[schemars(extend("maxProperties" = 8))]
    pub names: BTreeMap<String, u32>,
    /// Since when it waits, or waited, for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_time: Option<Time>,
    /// Since when it holds them, until it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_time: Option<Time>,
}
