//! A pod that looks at a place for new data: what it is told, and what it says when it ends.

use serde::{Deserialize, Serialize};

/// Where the claim of a `pvc://` address is mounted.
pub const LOOK_DIR: &str = "/millrace/look";
/// A version is at most this long; what is longer is replaced by its digest.
pub const LONGEST_VERSION: usize = 200;

/// What the pod is told. It ends when what it finds is not what is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LookTask {
    pub uri: String,
    /// Seconds between two looks.
    pub poll: u64,
    /// For so many seconds a new version has to stay as it is before it counts.
    #[serde(default)]
    pub settle: u64,
    #[serde(default, skip_serializing_if = "LookAccess::is_default")]
    pub access: LookAccess,
    /// Nothing at first: then whatever is found is told at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<LookKnown>,
    /// Not before this time, in seconds since 1970: `poll` after the last look that found something. So data that differ at every look are
    /// looked at no more often, and a pod that is lost does not wait anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
}

/// How a bucket is reached. Who asks is in variables of the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LookAccess {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Of Azure: whose container it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Asks without a signature.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
}

impl LookAccess {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What the last pod said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LookKnown {
    /// The last version; none while nothing was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The reason why looking fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What the pod says, in its termination message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum LookReport {
    #[serde(rename_all = "camelCase")]
    Found {
        /// What the data are called in this state; none if nothing is there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        /// For people: `3 files, 12.0 MB`.
        found: String,
    },
    Failed(LookFault),
}

/// Why nobody can say what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LookFault {
    /// One word. The same reason is told once.
    pub reason: String,
    pub message: String,
}
