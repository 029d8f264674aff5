//! A stage that waits for a person, and what people decide.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Waits for a person. Who may decide is a right of Kubernetes: the verb `approve` on `mlpipelineruns`. A stage that is not approved skips
/// what depends on it, and the run succeeds with `Promoted=False`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approve {
    /// What is asked. It may hold templates `$[[ … ]]` over `params`, `run` and earlier `stages`.
    #[schemars(length(min = 1, max = 1024))]
    pub message: String,
    /// So long it waits for an answer; then it is rejected. Default 7d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub timeout: Option<String>,
}

/// What a person says of one `approve` stage of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    pub decision: Decision,
    /// Who says so: the name under which the apiserver knows you (`kubectl auth whoami`). Another name is refused.
    #[schemars(length(min = 1, max = 512))]
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub comment: Option<String>,
    /// What is said holds for one time that the stage is asked: where `retryFrom` began it again, `status.stages.<name>.retries`. Default 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub retries: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Decision {
    #[default]
    Approve,
    Reject,
}

/// What is known of an `approve` stage that was asked. When it was decided is its `completionTime`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalStatus {
    /// It is rejected if nobody decides before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// A person's; nothing where its time was over or a newer run took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A decision cannot be changed once it was acted upon, and one of an earlier time does not count. These rules look at spec and status together.
pub(super) fn rules() -> [serde_json::Value; 2] {
    const SAME: &str = "has(oldSelf.spec.approvals) && s in oldSelf.spec.approvals && oldSelf.spec.approvals[s] == self.spec.approvals[s]";
    const THERE: &str = "has(oldSelf.status) && has(oldSelf.status.stages) && s in oldSelf.status.stages";
    let all = |rule: &str| format!("!has(self.spec.approvals) || self.spec.approvals.all(s, ({SAME}) || {rule})");
    let open = format!(
        "(!(has(oldSelf.status) && has(oldSelf.status.completionTime)) && !({THERE} && oldSelf.status.stages[s].state in ['Succeeded', 'Failed', 'Skipped']))"
    );
    let asked = format!("({THERE} && has(oldSelf.status.stages[s].retries) ? oldSelf.status.stages[s].retries : 0)");
    let said = "(has(self.spec.approvals[s].retries) ? self.spec.approvals[s].retries : 0)";
    [
        serde_json::json!({
            "rule": all(&open),
            "message": "spec.approvals: a stage that has ended is not decided any more: status.stages says how it ended, and retryFrom asks again"
        }),
        serde_json::json!({
            "rule": all(&format!("{said} == {asked}")),
            "message": "spec.approvals: write retries as status.stages has it for this stage (0 where it has none): a decision holds for one time that it is asked"
        }),
    ]
}
