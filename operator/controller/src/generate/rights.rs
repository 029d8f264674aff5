//! Every right that the controller has, and what for. No wildcard, nothing about Secrets, nothing that gives rights but one role's: the
//! routers'.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use millrace_core::api::GROUP;
use millrace_core::names::{ROUTER, ROUTES};
use millrace_core::routing::{FETCH_POLICY, LOG_WRITERS_POLICY, SERVERS_POLICY};

struct Right {
    /// Why: the code that needs it.
    #[allow(dead_code)]
    what_for: &'static str,
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
}

/// The routers' ClusterRole. The chart gives it another name for a release of another name.
const ROUTER_ROLE: &str = "millrace-router";

const READ: &[&str] = &["get", "list", "watch"];
/// To watch one name and keep what has it by server-side apply.
const KEEP: &[&str] = &["get", "list", "watch", "create", "patch"];
const RBAC: &str = "rbac.authorization.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const GATEWAYS: &str = "gateway.networking.k8s.io";

const RIGHTS: &[Right] = &[
    Right {
        what_for: "watches of Millrace's own kinds",
        group: GROUP,
        resources: &[
            "mlpipelines",
            "mlpipelineruns",
            "stagetemplates",
            "modelversions",
            "modeldeployments",
            "inferencegraphs",
        ],
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
            "inferencegraphs/status",
        ],
        verbs: &["update"],
    },
    Right {
        what_for: "runs that a trigger starts, and history",
        group: GROUP,
        resources: &["mlpipelineruns"],
        verbs: &["create", "delete"],
    },
    Right { what_for: "register stages", group: GROUP, resources: &["modelversions"], verbs: &["create", "delete"] },
    Right {
        what_for: "deploy stages set the version",
        group: GROUP,
        resources: &["modeldeployments"],
        verbs: &["patch"],
    },
    Right {
        what_for: "owner references that block deletion, where the cluster asks for the right to them (OpenShift)",
        group: GROUP,
        resources: &[
            "mlpipelines/finalizers",
            "mlpipelineruns/finalizers",
            "modeldeployments/finalizers",
            "inferencegraphs/finalizers",
        ],
        verbs: &["update"],
    },
    Right {
        what_for: "a stage's attempt",
        group: "batch",
        resources: &["jobs"],
        verbs: &["get", "list", "watch", "create", "delete"],
    },
    // Nobody's is read: what has the name of a list is it, or has another digest.
    Right { what_for: "lists that forEach runs over", group: "", resources: &["configmaps"], verbs: &["create"] },
    Right { what_for: "what the pods of stages and servers say", group: "", resources: &["pods"], verbs: READ },
    Right { what_for: "runs that are canceled at once", group: "", resources: &["pods"], verbs: &["delete"] },
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
        verbs: &["get", "list", "watch", "create", "update", "patch", "delete"],
    },
    Right { what_for: "replicas", group: "apps", resources: &["deployments/scale"], verbs: &["get", "update"] },
    Right {
        what_for: "addresses, and Services of revisions that go with them",
        group: "",
        resources: &["services"],
        verbs: &["get", "list", "watch", "create", "update", "delete"],
    },
    Right {
        what_for: "metric: CPU",
        group: "autoscaling",
        resources: &["horizontalpodautoscalers"],
        verbs: &["get", "list", "watch", "create", "update", "delete"],
    },
    // Of models, by their names: they go with their owners.
    Right {
        what_for: "nodes are drained one pod of a model at a time",
        group: "policy",
        resources: &["poddisruptionbudgets"],
        verbs: &["get", "list", "watch", "create", "update"],
    },
    // By name: those that a pipeline mounts.
    Right {
        what_for: "whether one node alone may mount a claim",
        group: "",
        resources: &["persistentvolumeclaims"],
        verbs: &["get"],
    },
    // The chart gives these three where gatewayAPI.enabled is set.
    Right {
        what_for: "ways in through Gateways",
        group: GATEWAYS,
        resources: &["httproutes"],
        verbs: &["get", "list", "watch", "create", "update", "delete"],
    },
    Right {
        what_for: "where a Gateway answers, and whether it is there",
        group: GATEWAYS,
        resources: &["gateways"],
        verbs: READ,
    },
    Right {
        what_for: "whether Gateways can copy requests",
        group: GATEWAYS,
        resources: &["gatewayclasses"],
        verbs: &["get"],
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
    Right {
        what_for: "policies of the routers, by label",
        group: NETWORKING,
        resources: &["networkpolicies"],
        verbs: READ,
    },
];

/// What of these kinds has these names, and nothing else of them.
const NAMED: &[(Right, &[&str])] = &[
    (Right { what_for: "routes", group: "", resources: &["configmaps"], verbs: KEEP }, &[ROUTES]),
    (Right { what_for: "the routers' account", group: "", resources: &["serviceaccounts"], verbs: KEEP }, &[ROUTER]),
    (
        Right {
            what_for: "the routers' rights in their namespace",
            group: RBAC,
            resources: &["rolebindings"],
            verbs: KEEP,
        },
        &[ROUTER],
    ),
    (
        Right {
            what_for: "one router stays while nodes are drained",
            group: "policy",
            resources: &["poddisruptionbudgets"],
            verbs: &["patch"],
        },
        &[ROUTER],
    ),
    (
        Right {
            what_for: "callers come through where a namespace refuses all",
            group: NETWORKING,
            resources: &["networkpolicies"],
            verbs: &["create", "patch", "delete"],
        },
        &[ROUTER, SERVERS_POLICY, FETCH_POLICY, LOG_WRITERS_POLICY],
    ),
    // The one role that it gives, and no other.
    (
        Right {
            what_for: "the routers' rights in their namespace",
            group: RBAC,
            resources: &["clusterroles"],
            verbs: &["bind"],
        },
        &[ROUTER_ROLE],
    ),
];

/// The ClusterRole with these rights.
pub fn cluster_role(name: &str) -> ClusterRole {
    let text = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let rule = |right: &Right, names: Option<Vec<String>>| PolicyRule {
        api_groups: Some(text(&[right.group])),
        resources: Some(text(right.resources)),
        resource_names: names,
        verbs: text(right.verbs),
        ..PolicyRule::default()
    };
    let all = RIGHTS.iter().map(|right| rule(right, None));
    let named = NAMED.iter().map(|(right, names)| rule(right, Some(text(names))));
    ClusterRole {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        rules: Some(all.chain(named).collect()),
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

    #[test]
    fn what_is_given_or_configures_others_is_written_by_name_only() {
        let rules = cluster_role("c").rules.unwrap_or_default();
        let sensitive = ["configmaps", "serviceaccounts", "rolebindings", "networkpolicies", "clusterroles"];
        for rule in rules.iter().filter(|rule| rule.resources.iter().flatten().any(|r| sensitive.contains(&r.as_str())))
        {
            let reads = rule.verbs.iter().all(|verb| READ.contains(&verb.as_str()));
            let policies = rule.resources == Some(vec!["networkpolicies".to_owned()]);
            let lists = rule.resources == Some(vec!["configmaps".to_owned()]) && rule.verbs == ["create"];
            assert!(rule.resource_names.is_some() || reads && policies || lists, "{rule:?}");
        }
    }

    #[test]
    fn the_only_role_that_it_may_give_is_the_routers() {
        let rules = cluster_role("c").rules.unwrap_or_default();
        let gives: Vec<_> = rules.iter().filter(|rule| rule.verbs.contains(&"bind".to_owned())).collect();
        assert_eq!(gives.len(), 1);
        assert_eq!(gives[0].resource_names, Some(vec![ROUTER_ROLE.to_owned()]));
        assert_eq!((gives[0].resources.as_ref().unwrap().len(), gives[0].verbs.len()), (1, 1));
    }
}
