//! The Deployment of a namespace's routers.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Affinity, Container, ContainerPort, EnvVar, EnvVarSource, ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity,
    PodSpec, PodTemplateSpec, SecurityContext, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use millrace_routes::Routes;

use super::objects::{Home, labels, selector};
use super::security;
use crate::config::Config;
use crate::names::{ROUTER, ROUTES};
use crate::pod;

/// `/livez`, `/readyz`, `/metrics` and `/stats`.
pub const ADMIN_PORT: u16 = 9090;
const ADMIN: &str = "admin";
/// Where routers ask each other for places at pods that take a bounded number of requests.
pub const PLACES_PORT: u16 = 9091;
/// Seconds that a router goes on serving after SIGTERM: nodes learn that late that it leaves.
const LEAVE: i64 = 10;
/// Seconds that requests in hand may take after that: the least of these in which the slowest of the namespace is done. Few, so that a change
/// of one ModelDeployment hardly ever starts the routers of all anew.
const DRAINS: [i64; 4] = [300, 900, 3600, 7200];
/// Seconds that the process needs to end: for five of them it waits for sinks of payload logs.
const EXIT: i64 = 10;

pub(super) fn deployment(home: &Home<'_>, told: &Routes, config: &Config) -> Deployment {
    Deployment {
        metadata: home.metadata(ROUTER),
        spec: Some(DeploymentSpec {
            replicas: Some(config.router.replicas),
            revision_history_limit: Some(0),
            selector: pods(),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                // The new one is ready before an old one goes.
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels()), ..ObjectMeta::default() }),
                spec: Some(pod(home, told, config)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn pod(home: &Home<'_>, told: &Routes, config: &Config) -> PodSpec {
    let (volumes, mounts) = security::volumes(home, told);
    let drain = drain(told);
    let main = container(home.namespace, drain, config);
    PodSpec {
        service_account_name: Some(ROUTER.to_owned()),
        automount_service_account_token: Some(true),
        image_pull_secrets: config.pull_secrets(),
        termination_grace_period_seconds: Some(LEAVE + drain + EXIT),
        affinity: Some(apart()),
        topology_spread_constraints: Some(vec![TopologySpreadConstraint {
            label_selector: Some(pods()),
            max_skew: 1,
            topology_key: "topology.kubernetes.io/zone".to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            ..TopologySpreadConstraint::default()
        }]),
        volumes: Some(volumes).filter(|volumes| !volumes.is_empty()),
        containers: vec![Container { volume_mounts: Some(mounts).filter(|mounts| !mounts.is_empty()), ..main }],
        ..pod::base()
    }
}

/// How long the slowest request may take: it waits for a pod, and then for its answer. The time of a graph is that of all its steps.
fn drain(told: &Routes) -> i64 {
    let longest = told.models.iter().map(|model| match &model.graph {
        Some(graph) => graph.timeout_ms,
        None => model.queue.timeout_ms.saturating_add(model.limits.answer_ms.unwrap_or_default()),
    });
    let seconds = longest.max().unwrap_or_default().div_ceil(1000);
    let enough = DRAINS.into_iter().find(|drain| u64::try_from(*drain).is_ok_and(|drain| seconds <= drain));
    enough.unwrap_or(DRAINS[DRAINS.len() - 1])
}

fn container(namespace: &str, drain: i64, config: &Config) -> Container {
    let own = |name: &str, field: &str| {
        let field_ref = ObjectFieldSelector { field_path: field.to_owned(), ..ObjectFieldSelector::default() };
        let from = EnvVarSource { field_ref: Some(field_ref), ..EnvVarSource::default() };
        EnvVar { name: name.to_owned(), value_from: Some(from), ..EnvVar::default() }
    };
    Container {
        name: pod::MAIN.to_owned(),
        image: Some(config.router.image.clone()),
        image_pull_policy: config.image_pull_policy.clone(),
        command: Some(vec!["/millrace-router".to_owned()]),
        args: Some(vec![
            format!("--routes-configmap={ROUTES}"),
            format!("--namespace={namespace}"),
            format!("--admin=[::]:{ADMIN_PORT}"),
            format!("--places-port={PLACES_PORT}"),
            format!("--leave-seconds={LEAVE}"),
            format!("--drain-seconds={drain}"),
            format!("--max-connections={}", config.router.max_connections),
        ]),
        env: Some(vec![
            own("MILLRACE_POD_NAME", "metadata.name"),
            own("MILLRACE_POD_IP", "status.podIP"),
            // Of its allocator: huge pages would be half of what a router takes, and there are two in each namespace.
            EnvVar { name: "MIMALLOC_ALLOW_THP".to_owned(), value: Some("0".to_owned()), ..EnvVar::default() },
        ]),
        ports: Some(vec![ContainerPort {
            name: Some(ADMIN.to_owned()),
            container_port: i32::from(ADMIN_PORT),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(config.router.resources.clone()),
        readiness_probe: Some(pod::http_probe(ADMIN, "/readyz", 1, 3)),
        liveness_probe: Some(pod::http_probe(ADMIN, "/livez", 10, 6)),
        security_context: Some(SecurityContext { read_only_root_filesystem: Some(true), ..pod::container_security() }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// On different nodes where there are some.
fn apart() -> Affinity {
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: PodAffinityTerm {
                    label_selector: Some(pods()),
                    topology_key: "kubernetes.io/hostname".to_owned(),
                    ..PodAffinityTerm::default()
                },
            }]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn pods() -> LabelSelector {
    LabelSelector { match_labels: Some(selector()), ..LabelSelector::default() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use millrace_routes::{Limits, Model, Queue};

    use super::*;

    fn told(times: &[(u64, Option<u64>)]) -> Routes {
        let text = r#"{"models": [{"name": "m", "port": 9000, "revisions": []}]}"#;
        let one = serde_json::from_str::<Routes>(text).unwrap().models.remove(0);
        let model = |(wait, answer): &(u64, Option<u64>)| Model {
            queue: Queue { timeout_ms: wait * 1000, ..Queue::default() },
            limits: Limits { answer_ms: answer.map(|answer| answer * 1000), ..Limits::default() },
            ..one.clone()
        };
        Routes { models: times.iter().map(model).collect() }
    }

    #[test]
    fn the_slowest_request_of_the_namespace_is_waited_for_in_few_steps() {
        for (times, seconds) in [
            (&[][..], 300),
            (&[(120, None), (120, Some(180))], 300),
            (&[(120, None), (120, Some(181))], 900),
            (&[(120, Some(600)), (120, Some(60))], 900),
            (&[(3600, None)], 3600),
            (&[(3600, Some(3600)), (120, None)], 7200),
        ] {
            assert_eq!(drain(&told(times)), seconds, "{times:?}");
        }
    }

    #[test]
    fn a_router_has_time_for_all_that_it_waits_for_at_its_end() {
        let home = Home { namespace: "team", owners: &[], graphs: &[], names: &BTreeSet::new() };
        for told in [Routes::default(), told(&[(3600, Some(3600))])] {
            let pod = pod(&home, &told, &Config::default());
            let args = pod.containers[0].args.as_ref().unwrap();
            let seconds =
                |name: &str| -> i64 { args.iter().find_map(|arg| arg.strip_prefix(name)).unwrap().parse().unwrap() };
            // Of sinks, in the router's own code.
            let sinks = 5;
            let longest = seconds("--leave-seconds=") + seconds("--drain-seconds=") + sinks;
            assert!(pod.termination_grace_period_seconds.unwrap() > longest, "the process has to end too");
        }
    }
}
