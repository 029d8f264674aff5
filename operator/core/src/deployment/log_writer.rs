//! What writes the payload log into a table: a Deployment of one small pod of Millrace's own image, and the Service by which routers reach
//! it. It alone has the credentials of the table's store.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec,
    SecurityContext, Service, ServiceSpec, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::drift::{self, Then};
use super::{DeploymentView, Observed, digest, objects, scaling};
use crate::api::{LogTable, ModelDeployment, ModelDeploymentStatus, StoreAccess};
use crate::config::Config;
use crate::names::{self, LOG_WRITER_LABEL, MANAGED_BY, MANAGED_BY_LABEL, label_value};
use crate::plan::{Apply, Delete, DeleteKind, Plan, sooner};
use crate::problem::Problem;
use crate::{duration, pod, reach};

/// Where it takes events.
pub(crate) const PORT: u16 = 8080;
const HTTP: &str = "http";
const PROGRAM: &str = "/usr/local/bin/millrace-data";
/// Events that are not in the table yet. They outlive the container, and not the pod.
const SPOOL: &str = "spool";
const SPOOL_DIR: &str = "/spool";
const SPOOL_SIZE: &str = "512Mi";
/// Where the claim of a table is mounted.
const TABLE: &str = "table";
const TABLE_DIR: &str = "/mnt/table";
/// Rows wait for so long unless something is said.
const INTERVAL: Duration = Duration::from_mins(5);
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_hours(1);
/// Seconds that it has for what waits when it is to end.
const TERMINATION: i64 = 45;

/// The table of a payload log that goes into one.
fn table(owner: &ModelDeployment) -> Option<&LogTable> {
    owner.spec.monitoring.as_ref()?.log.as_ref()?.table.as_ref()
}

/// Where routers send the events.
pub(crate) fn address(owner: &ModelDeployment) -> Option<String> {
    table(owner)?;
    let namespace = owner.metadata.namespace.as_deref().unwrap_or_default();
    Some(format!("http://{}.{namespace}:{PORT}/", name(owner)))
}

/// Of its Deployment and its Service.
fn name(owner: &ModelDeployment) -> String {
    names::log_writer(owner.metadata.name.as_deref().unwrap_or_default())
}

/// Makes it, keeps it as it should be, and takes it away with the table.
pub(super) fn turn(
    plan: &mut Plan<ModelDeploymentStatus>,
    owner: &ModelDeployment,
    config: &Config,
    observed: &Observed,
    now: Timestamp,
) {
    let there = there(owner, observed);
    let name = name(owner);
    let Some(table) = table(owner) else {
        let writer = there.filter(|view| !view.deleting);
        let writer = writer.map(|view| (DeleteKind::Deployment, view.name.clone(), view.uid.clone()));
        let service = observed.services.get(&name).filter(|service| service.owner == owner.metadata.uid);
        let service = service.map(|service| (DeleteKind::Service, name, service.uid.clone()));
        plan.delete.extend(writer.into_iter().chain(service).map(|(kind, name, uid)| Delete { kind, name, uid }));
        return;
    };
    let service = service(owner);
    let of_service = observed.services.get(&name).map_or(Then::Apply, |there| {
        drift::then(observed.applied_services.get(&name), Some(drift::asked(&service)), there.shape, now)
    });
    let deployment = deployment(owner, table, config);
    let of_deployment = there.map_or(Then::Apply, |there| {
        drift::then(observed.applied_log_writer.as_ref(), Some(digest(&deployment.spec)), there.shape, now)
    });
    for (then, apply) in
        [(of_service, Apply::Service(Box::new(service))), (of_deployment, Apply::Deployment(Box::new(deployment)))]
    {
        match then {
            Then::Leave => {}
            Then::Later(left) => plan.requeue = sooner(plan.requeue, Some(left)),
            Then::Apply => plan.apply.push(apply),
        }
    }
    plan.apply.extend(there.and_then(|view| scaling::scale(view, 1)));
}

fn there<'a>(owner: &ModelDeployment, observed: &'a Observed) -> Option<&'a DeploymentView> {
    observed.log_writer.as_deref().filter(|view| view.owner == owner.metadata.uid)
}

/// Why it takes nothing; `None` where its pod is ready, or nothing goes into a table.
pub(super) fn lack(owner: &ModelDeployment, observed: &Observed) -> Option<String> {
    table(owner)?;
    let name = name(owner);
    let Some(view) = there(owner, observed) else {
        return Some(format!("the Deployment {name}, which writes the table, is not there yet"));
    };
    if view.ready > 0 {
        return None;
    }
    let why = view.failure.as_ref().map(|words| format!(": {}", words.message)).unwrap_or_default();
    Some(format!("no pod of the Deployment {name}, which writes the table, is ready{why}"))
}

/// What no schema can see.
pub(super) fn check(owner: &ModelDeployment, config: &Config) -> Vec<Problem> {
    const AT: &str = "spec.monitoring.log.table";
    let Some(LogTable { uri, access, interval }) = table(owner) else { return Vec::new() };
    let mut problems = reach::of_table(uri, access.as_ref(), AT);
    if let Some(text) = interval.as_ref().filter(|text| !duration::parse(text).is_some_and(|time| fits(&time))) {
        let message = format!("\"{text}\" is no time from 5s to 1h: write one, such as 1m");
        problems.push(Problem::new(format!("{AT}.interval"), "InvalidDuration", message));
    }
    // A check outside a cluster knows no image at all.
    if config.data_image.is_empty() && !config.agent_image.is_empty() {
        let message =
            "the operator was started without --data-image, whose program writes tables: set that, or write sink";
        problems.push(Problem::new(AT, "NoImage", message));
    }
    problems
}

fn fits(time: &Duration) -> bool {
    (SHORTEST..=LONGEST).contains(time)
}

fn selector(owner: &ModelDeployment) -> BTreeMap<String, String> {
    let of = label_value(owner.metadata.name.as_deref().unwrap_or_default());
    BTreeMap::from([(LOG_WRITER_LABEL.to_owned(), of)])
}

fn metadata(owner: &ModelDeployment) -> ObjectMeta {
    let mut metadata = ObjectMeta { name: Some(name(owner)), ..objects::own_metadata(owner) };
    metadata.labels.get_or_insert_default().extend(selector(owner));
    metadata
}

fn service(owner: &ModelDeployment) -> Service {
    let port = objects::service_port(i32::from(PORT), IntOrString::String(HTTP.to_owned()));
    let spec = ServiceSpec {
        type_: Some("ClusterIP".to_owned()),
        session_affinity: Some("None".to_owned()),
        selector: Some(selector(owner)),
        ports: Some(vec![port]),
        ..ServiceSpec::default()
    };
    Service { metadata: metadata(owner), spec: Some(spec), ..Service::default() }
}

fn deployment(owner: &ModelDeployment, table: &LogTable, config: &Config) -> Deployment {
    let pod = pod_spec(owner, table, config);
    // Its pods have no label of the ModelDeployment: they are none of its servers.
    let mut labels = selector(owner);
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    let mut of_pod = ObjectMeta { labels: Some(labels), ..ObjectMeta::default() };
    pod::name_claims(&mut of_pod, &pod);
    Deployment {
        metadata: metadata(owner),
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            revision_history_limit: Some(0),
            selector: LabelSelector { match_labels: Some(selector(owner)), ..LabelSelector::default() },
            strategy: Some(strategy(reach::claim_of(&table.uri).is_some())),
            template: PodTemplateSpec { metadata: Some(of_pod), spec: Some(pod) },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// Two may write at once, and the new one listens before the old one goes; but a claim may be for one node, or for one pod.
fn strategy(on_claim: bool) -> DeploymentStrategy {
    if on_claim {
        return DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None };
    }
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(1)),
            max_unavailable: Some(IntOrString::Int(0)),
        }),
    }
}

fn pod_spec(owner: &ModelDeployment, table: &LogTable, config: &Config) -> PodSpec {
    let LogTable { uri, access, interval } = table;
    let access = access.clone().unwrap_or_default();
    let spool =
        EmptyDirVolumeSource { size_limit: Some(Quantity(SPOOL_SIZE.to_owned())), ..EmptyDirVolumeSource::default() };
    let mut volumes = vec![Volume { name: SPOOL.to_owned(), empty_dir: Some(spool), ..Volume::default() }];
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount(SPOOL, SPOOL_DIR)];
    let place = match reach::claim_of(uri) {
        Some((claim, path)) => {
            let source = PersistentVolumeClaimVolumeSource { claim_name: claim.to_owned(), read_only: None };
            volumes.push(Volume { name: TABLE.to_owned(), persistent_volume_claim: Some(source), ..Volume::default() });
            mounts.push(mount(TABLE, TABLE_DIR));
            format!("{TABLE_DIR}/{path}")
        }
        None => uri.clone(),
    };
    let every = interval.as_deref().and_then(duration::parse).unwrap_or(INTERVAL);
    let params = json!({
        "table": at(&place, uri, &access),
        "listen": format!("[::]:{PORT}"),
        "spool": SPOOL_DIR,
        "everySeconds": every.as_secs(),
    });
    let main = Container {
        command: Some(vec![PROGRAM.to_owned()]),
        args: Some(vec!["payload-log".to_owned(), "--params".to_owned(), pod::escape(&params.to_string())]),
        env: reach::credentials(uri, access.secret_ref.as_ref()),
        ports: Some(vec![ContainerPort {
            name: Some(HTTP.to_owned()),
            container_port: i32::from(PORT),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        volume_mounts: Some(mounts),
        resources: Some(pod::small("10m", "64Mi", "512Mi")),
        readiness_probe: Some(pod::http_probe(HTTP, "/healthz", 5, 3)),
        liveness_probe: Some(pod::http_probe(HTTP, "/healthz", 10, 6)),
        security_context: Some(SecurityContext { read_only_root_filesystem: Some(true), ..pod::container_security() }),
        ..pod::own_container(pod::MAIN, &config.data_image, config)
    };
    PodSpec {
        // Where no Secret is named, its identity counts.
        service_account_name: owner
            .spec
            .server
            .as_ref()
            .and_then(|server| server.settings.service_account_name.clone()),
        image_pull_secrets: config.pull_secrets(),
        termination_grace_period_seconds: Some(TERMINATION),
        volumes: Some(volumes),
        containers: vec![main],
        ..pod::base()
    }
}

/// The table as the stock stages' program is told of one.
fn at(place: &str, uri: &str, access: &StoreAccess) -> serde_json::Value {
    let mut table = json!({ "uri": place });
    if let Some((parameter, how)) = reach::kind_of(uri).and_then(|kind| reach::parameter(kind, access)) {
        table[parameter] = how;
    }
    table
}
