//! The objects of a ModelDeployment: the model server's pod, the Deployment and the Service of a revision, the model's own Service.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Lifecycle, LifecycleHandler, PodSpec, PodTemplateSpec, Service, ServicePort, ServiceSpec,
    SleepAction,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube_core::Resource;
use millrace_contract::SERVER_ADMIN_PORT;

use super::asked_model::AskedModel;
use super::revision::Revision;
use super::{
    CACHE_ANNOTATION, DIGEST_ANNOTATION, ENTRY_ANNOTATION, PORT_ANNOTATION, READY_PATH_ANNOTATION, ServiceView,
};
use super::{gateway, gpu, limits, model};
use crate::api::{ModelDeployment, ReadyProbe, Server, ServerContainer, ServerProtocol};
use crate::config::Config;
use crate::names::{
    CLAIM_LABEL, DEPLOYMENT_LABEL, FETCHES_LABEL, MANAGED_BY, MANAGED_BY_LABEL, MODEL_LABEL, REVISION_LABEL,
    label_value,
};
use crate::{pod, routing};

/// Where the server finds the model.
pub(super) const MODEL_DIR: &str = "/mnt/models";
/// The server's port.
pub const SERVER_PORT: u16 = 8080;
/// What the server answers with 200 when it can serve.
pub const READY_PATH: &str = "/v2/health/ready";
/// The port of the address without TLS.
pub(super) const ADDRESS_PORT: i32 = 80;
/// Name of the server's port.
const HTTP: &str = "http";
/// Kubernetes' name of HTTP/2 without TLS: https://kubernetes.io/docs/concepts/services-networking/service/#application-protocol
const H2C: &str = "kubernetes.io/h2c";
/// Seconds from SIGTERM to SIGKILL unless the settings say otherwise: longer than drain and grace together.
const TERMINATION: i64 = 60;
/// Seconds that the server goes on answering after SIGTERM: nodes learn that late that it leaves.
const SERVER_DRAIN: i64 = 15;
/// Seconds that the process needs to end.
const SERVER_EXIT: i64 = 2;
/// Seconds from the end of a pod of another server until it gets SIGTERM: routers learn meanwhile that it leaves.
const LEAVE: i64 = 5;

/// The model server's pod for a model, without what tells revisions apart.
pub(super) fn server_pod(deployment: &ModelDeployment, asked: &AskedModel, config: &Config) -> PodTemplateSpec {
    let server = deployment.spec.server.clone().unwrap_or_default();
    let mut spec = pod::base();
    // What requests in flight have to end in is what they may take.
    let answer = limits::beyond_usual(&server).unwrap_or(limits::ANSWER);
    let grace = limits::seconds(answer);
    let termination = TERMINATION + grace - limits::seconds(limits::ANSWER);
    spec.termination_grace_period_seconds = Some(termination);
    let start = i32::try_from(limits::seconds(limits::startup(&server))).unwrap_or(i32::MAX);
    spec.image_pull_secrets = config.pull_secrets();
    let on_gpu = gpu::is_asked_for(&server.settings);
    let image = if on_gpu { &config.server_cuda_image } else { &config.server_image };
    let source = model::Source { asked, cache: deployment.spec.model.cache.as_ref() };
    let mount = source.mount();
    spec.volumes = Some(source.volumes());
    spec.init_containers = source.fetched(&mount, config).map(|init| vec![init]);
    let mut main = Container {
        name: pod::MAIN.to_owned(),
        image: Some(image.clone()),
        image_pull_policy: config.pull_policy_of(image),
        ports: Some(vec![ContainerPort {
            name: Some(HTTP.to_owned()),
            container_port: i32::from(SERVER_PORT),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        volume_mounts: Some(vec![mount]),
        security_context: Some(pod::container_security()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        // Until the model answers once; loading may take minutes. Then the other two begin.
        startup_probe: Some(pod::http_probe(HTTP, READY_PATH, 1, start)),
        readiness_probe: Some(pod::http_probe(HTTP, READY_PATH, 5, 2)),
        liveness_probe: Some(pod::http_probe(HTTP, "/v2/health/live", 10, 6)),
        ..Container::default()
    };
    // The hash must not depend on itself: pods spread by the ModelDeployment's label.
    pod::settings_into(&mut spec, &mut main, &server.settings, &labels(deployment, None));
    let terminates_in = spec.termination_grace_period_seconds.unwrap_or(termination);
    match &server.container {
        None => {
            let ends = Ends::within(terminates_in, grace);
            main.args = Some(arguments(deployment, &server, asked, on_gpu, &ends));
        }
        Some(other) => another_server(&mut main, other, start, terminates_in, config),
    }
    spec.containers = vec![main];
    let mut annotations = BTreeMap::from([(DIGEST_ANNOTATION.to_owned(), asked.digest.clone())]);
    if let Some((cache, entry)) = source.cached() {
        annotations.insert(CACHE_ANNOTATION.to_owned(), cache.claim.clone());
        let entry = Some(format!("sha256:{entry}")).filter(|entry| *entry != asked.digest);
        annotations.extend(entry.map(|entry| (ENTRY_ANNOTATION.to_owned(), entry)));
    }
    PodTemplateSpec {
        metadata: Some(ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() }),
        spec: Some(spec),
    }
}

/// A server that knows nothing of Millrace.
fn another_server(main: &mut Container, server: &ServerContainer, start: i32, terminates_in: i64, config: &Config) {
    main.image = Some(server.image.clone());
    main.image_pull_policy = config.pull_policy_of(&server.image);
    main.command.clone_from(&server.command);
    main.args = Some(server.args.clone()).filter(|args| !args.is_empty());
    for port in main.ports.iter_mut().flatten() {
        port.container_port = server.port.unwrap_or(port.container_port);
    }
    let probe = |period, failures| match server.ready_probe.unwrap_or_default() {
        ReadyProbe::HTTP => {
            let path = server.ready_path.as_deref().unwrap_or(READY_PATH);
            pod::http_probe(HTTP, path, period, failures)
        }
        ReadyProbe::GRPC => pod::grpc_probe(server.port.unwrap_or(i32::from(SERVER_PORT)), period, failures),
        ReadyProbe::TCP => pod::tcp_probe(HTTP, period, failures),
    };
    main.startup_probe = Some(probe(1, start));
    main.readiness_probe = Some(probe(5, 2));
    // Nobody knows what shows that it lives: its process does.
    main.liveness_probe = None;
    let seconds = LEAVE.min(terminates_in / 2);
    let pre_stop = LifecycleHandler { sleep: Some(SleepAction { seconds }), ..LifecycleHandler::default() };
    let lifecycle = Lifecycle { pre_stop: Some(pre_stop), ..Lifecycle::default() };
    main.lifecycle = Some(lifecycle).filter(|_| seconds > 0);
}

/// How Millrace's own server ends, in seconds.
struct Ends {
    drain: i64,
    grace: i64,
}

impl Ends {
    /// `wanted` is what requests in flight are to have.
    fn within(terminates_in: i64, wanted: i64) -> Self {
        let drain = SERVER_DRAIN.min(terminates_in / 2);
        Self { drain, grace: wanted.min(terminates_in - drain - SERVER_EXIT).max(0) }
    }
}

/// Seconds of a pod's end that are not for the requests that it has in hand.
pub(super) fn besides_grace(server: &Server) -> i64 {
    if server.container.is_some() { LEAVE } else { SERVER_DRAIN + SERVER_EXIT }
}

fn arguments(
    deployment: &ModelDeployment,
    server: &Server,
    asked: &AskedModel,
    on_gpu: bool,
    ends: &Ends,
) -> Vec<String> {
    let Ends { drain, grace } = ends;
    let mut arguments = vec![
        format!("--model-dir={MODEL_DIR}"),
        format!("--model-name={}", deployment.model_name()),
        format!("--model-version={}", asked.version),
        format!("--admin-port={SERVER_ADMIN_PORT}"),
        format!("--drain={drain}s"),
        format!("--grace={grace}s"),
    ];
    let batch = server.batching.as_ref().and_then(|batching| batching.max_size);
    arguments.extend(batch.map(|rows| format!("--max-batch-size={rows}")));
    let delay = limits::max_delay(server).map(limits::milliseconds);
    arguments.extend(delay.map(|delay| format!("--max-delay={delay}ms")));
    // The routers keep a shorter one, without another revision, where requests come by them.
    let answer = if gateway::splits(deployment) { limits::timeout(server) } else { limits::beyond_usual(server) };
    let answer = answer.map(limits::milliseconds);
    arguments.extend(answer.map(|answer| format!("--request-timeout={answer}ms")));
    arguments.extend(limits::longer_bodies(deployment).map(|bytes| format!("--max-body={bytes}")));
    arguments.extend(server.threads.map(|threads| format!("--threads={threads}")));
    arguments.extend(server.explain_budget.map(|rows| format!("--explain-budget={rows}")));
    // A server that was given a GPU and cannot use it must not be slow in silence: it ends, and says why.
    arguments.extend(on_gpu.then(|| "--device=gpu".to_owned()));
    // The server compares before it answers: what lies on a claim may have been written to since it was registered.
    if !asked.digest.is_empty() {
        arguments.push(format!("--model-digest={}", asked.digest));
    }
    arguments
}

/// The Deployment of a revision: applied when it is not there, and when it is not what was applied.
pub(super) fn revision_deployment(owner: &ModelDeployment, revision: &Revision, replicas: i32) -> Deployment {
    let labels = labels(owner, Some(&revision.name));
    let mut template = revision.template.clone();
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().extend(labels.clone());
    // Not hashed either: stages that mount the same claim go where it is in use.
    pod::name_claims(metadata, template.spec.get_or_insert_default());
    if template.spec.as_ref().is_some_and(fetches) {
        let metadata = template.metadata.get_or_insert_default();
        metadata.labels.get_or_insert_default().insert(FETCHES_LABEL.to_owned(), "true".to_owned());
    }
    let mut annotations = revision.version.annotations();
    if let Some(server) = owner.spec.server.as_ref().and_then(|server| server.container.as_ref()) {
        annotations.extend(server.port.map(|port| (PORT_ANNOTATION.to_owned(), port.to_string())));
        annotations.extend(server.ready_path.clone().map(|path| (READY_PATH_ANNOTATION.to_owned(), path)));
    }
    if revision.cached().is_some() {
        let noted = template.metadata.iter().filter_map(|metadata| metadata.annotations.clone()).flatten();
        let of_cache = [CACHE_ANNOTATION, DIGEST_ANNOTATION, ENTRY_ANNOTATION];
        annotations.extend(noted.filter(|(key, _)| of_cache.contains(&key.as_str())));
    }
    Deployment {
        metadata: ObjectMeta {
            annotations: Some(annotations),
            ..metadata_of(owner, revision.name.clone(), labels.clone())
        },
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            revision_history_limit: Some(0),
            selector: LabelSelector { match_labels: Some(selector(owner, &revision.name)), ..LabelSelector::default() },
            template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// A label of a revision's pods that is not hashed, and that no pod is replaced for.
#[must_use]
pub fn is_beside(label: &str) -> bool {
    label == FETCHES_LABEL || label.starts_with(CLAIM_LABEL)
}

/// The agent's init container is there for a model that is fetched alone: one on a claim is mounted.
fn fetches(of: &PodSpec) -> bool {
    of.init_containers.iter().flatten().any(|container| container.name == pod::AGENT_INIT)
}

/// The model's own Service: it leads to the model's port on the routers.
pub(super) fn service(owner: &ModelDeployment, port: i32) -> Service {
    let metadata = own_metadata(owner);
    let spec = ServiceSpec {
        type_: Some("ClusterIP".to_owned()),
        session_affinity: Some("None".to_owned()),
        selector: Some(routing::selector()),
        ports: Some(vec![own_port(owner, port)]),
        ..ServiceSpec::default()
    };
    Service { metadata, spec: Some(spec), ..Service::default() }
}

/// The port of the address, by which clients know whether it speaks TLS.
fn own_port(owner: &ModelDeployment, port: i32) -> ServicePort {
    let target = IntOrString::Int(port);
    if speaks_tls(owner) {
        return ServicePort { name: Some("https".to_owned()), ..service_port(443, target) };
    }
    service_port(ADDRESS_PORT, target)
}

/// Whether the address speaks TLS.
pub(super) fn speaks_tls(owner: &ModelDeployment) -> bool {
    owner.spec.security.as_ref().is_some_and(|security| security.tls.is_some())
}

/// The Service of a revision: by its EndpointSlices the routers know the pods. A Gateway learns by it how to speak to them.
pub(super) fn revision_service(owner: &ModelDeployment, revision: &str, protocol: Option<ServerProtocol>) -> Service {
    let mut port = service_port(i32::from(SERVER_PORT), IntOrString::String(HTTP.to_owned()));
    if protocol == Some(ServerProtocol::H2C) {
        port.app_protocol = Some(H2C.to_owned());
    }
    let metadata = metadata_of(owner, revision.to_owned(), labels(owner, Some(revision)));
    let spec = ServiceSpec {
        type_: Some("ClusterIP".to_owned()),
        session_affinity: Some("None".to_owned()),
        cluster_ip: Some("None".to_owned()),
        selector: Some(selector(owner, revision)),
        ports: Some(vec![port]),
        ..ServiceSpec::default()
    };
    Service { metadata, spec: Some(spec), ..Service::default() }
}

pub(super) fn service_port(port: i32, target: IntOrString) -> ServicePort {
    ServicePort {
        name: Some(HTTP.to_owned()),
        port,
        target_port: Some(target),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

/// Whether a Service leads to the routers.
pub(super) fn is_router_service(service: &ServiceView) -> bool {
    service.selector == routing::selector()
}

/// What selects the pods of a revision.
pub(super) fn selector(owner: &ModelDeployment, revision: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (DEPLOYMENT_LABEL.to_owned(), label_value(owner.metadata.name.as_deref().unwrap_or_default())),
        (REVISION_LABEL.to_owned(), revision.to_owned()),
    ])
}

fn labels(owner: &ModelDeployment, revision: Option<&str>) -> BTreeMap<String, String> {
    let name = label_value(owner.metadata.name.as_deref().unwrap_or_default());
    let mut labels = BTreeMap::from([
        (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
        (DEPLOYMENT_LABEL.to_owned(), name),
        (MODEL_LABEL.to_owned(), owner.model_name().to_owned()),
    ]);
    labels.extend(revision.map(|revision| (REVISION_LABEL.to_owned(), revision.to_owned())));
    labels
}

/// Of something that has the ModelDeployment's own name.
pub(super) fn own_metadata(owner: &ModelDeployment) -> ObjectMeta {
    metadata_of(owner, owner.metadata.name.clone().unwrap_or_default(), labels(owner, None))
}

fn metadata_of(owner: &ModelDeployment, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: owner.metadata.namespace.clone(),
        labels: Some(labels),
        owner_references: Some(vec![OwnerReference {
            api_version: ModelDeployment::api_version(&()).into_owned(),
            kind: ModelDeployment::kind(&()).into_owned(),
            name: owner.metadata.name.clone().unwrap_or_default(),
            uid: owner.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}
