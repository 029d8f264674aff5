//! Every right that the controller has, and what for. No wildcard, nothing about Secrets, nothing that gives rights.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use millrace_core::api::GROUP;

struct Right {
    /// Why: the code that needs it.
    #[allow(dead_code)]
    what_for: &'static str,
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
}

const READ: &[&str] = &["get", "list", "watch"];

const RIGHTS: &[Right] = &[
    Right {
        what_for: "watches of Millrace's own kinds",
        group: GROUP,
        resources: &["mlpipelines", "mlpipelineruns", "stagetemplates", "modelversions", "modeldeployments"],
        verbs: READ,
    },
    Right {
        what_for: "the one status write of a pass",
        group: GROUP,
        resources: &[
            "mlpipelines/status",
            "mlpipelineruns/status",
            "stagetemplates/status",
            "modelversions/status",
            "modeldeployments/status",
        ],
        verbs: &["update"],
    },
    Right {
        what_for: "runs that a trigger starts, and history",
        group: GROUP,
        resources: &["mlpipelineruns"],
        verbs: &["create", "delete"],
    },
    Right { what_for: "register stages", group: GROUP, resources: &["modelversions"], verbs: &["create"] },
    Right {
        what_for: "deploy stages set the version",
        group: GROUP,
        resources: &["modeldeployments"],
        verbs: &["patch"],
    },
    Right {
        what_for: "owner references that block deletion, where the cluster asks for the right to them (OpenShift)",
        group: GROUP,
        resources: &["mlpipelines/finalizers", "mlpipelineruns/finalizers", "modeldeployments/finalizers"],
        verbs: &["update"],
    },
    Right {
        what_for: "a stage's attempt",
        group: "batch",
        resources: &["jobs"],
        verbs: &["get", "list", "watch", "create", "delete"],
    },
    Right { what_for: "what the pods of stages and servers say", group: "", resources: &["pods"], verbs: READ },
    Right {
        what_for: "what a run runs",
        group: "apps",
        resources: &["controllerrevisions"],
        verbs: &["get", "create", "delete"],
    },
    Right {
        what_for: "revisions",
        group: "apps",
        resources: &["deployments"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
    Right { what_for: "replicas", group: "apps", resources: &["deployments/scale"], verbs: &["patch"] },
    Right {
        what_for: "addresses",
        group: "",
        resources: &["services"],
        verbs: &["get", "list", "watch", "create", "patch"],
    },
    Right { what_for: "why a Job has no pod", group: "", resources: &["events"], verbs: &["list"] },
    Right { what_for: "events", group: "events.k8s.io", resources: &["events"], verbs: &["create"] },
    // The chart gives these two in the operator's own namespace only.
    Right { what_for: "PodTemplates of the catalog", group: "", resources: &["podtemplates"], verbs: &["get"] },
    Right {
        what_for: "the lease",
        group: "coordination.k8s.io",
        resources: &["leases"],
        verbs: &["get", "create", "update"],
    },
];

/// The ClusterRole with these rights.
pub fn cluster_role(name: &str) -> ClusterRole {
    let text = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let rules = RIGHTS.iter().map(|right| PolicyRule {
        api_groups: Some(text(&[right.group])),
        resources: Some(text(right.resources)),
        verbs: text(right.verbs),
        ..PolicyRule::default()
    });
    ClusterRole {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        rules: Some(rules.collect()),
        ..ClusterRole::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_right_is_a_wildcard_or_gives_rights_or_reads_secrets() {
        for right in RIGHTS {
            let all = right.resources.iter().chain(right.verbs).chain([&right.group]);
            for word in all {
                assert!(!word.contains('*'), "{}: {word}", right.what_for);
                assert!(!["escalate", "bind", "impersonate", "secrets"].contains(word), "{}: {word}", right.what_for);
            }
        }
    }
}
