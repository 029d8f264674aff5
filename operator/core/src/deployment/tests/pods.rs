//! The model server's pod.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplate, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use millrace_contract::{Fetch, FetchSource};

use super::cluster::Cluster;
use crate::api::{Batching, ModelArtifact, Server};
use crate::plan::Apply;

fn template(cluster: &Cluster) -> PodTemplateSpec {
    let found = cluster.plan().apply.into_iter().find_map(|apply| match apply {
        Apply::Deployment(deployment) => deployment.spec.map(|spec| spec.template),
        _ => None,
    });
    found.unwrap()
}

fn pod(cluster: &Cluster) -> PodSpec {
    template(cluster).spec.unwrap()
}

fn with_server(change: impl FnOnce(&mut Server)) -> Cluster {
    let mut cluster = Cluster::new();
    let mut server = Server::default();
    change(&mut server);
    cluster.owner.spec.server = Some(server);
    cluster.set_version(4);
    cluster
}

#[test]
fn the_model_is_mounted_read_only_from_its_claim() {
    let pod = pod(&with_server(|_| {}));
    let volume = &pod.volumes.as_ref().unwrap()[0];
    assert_eq!(volume.persistent_volume_claim.as_ref().unwrap().claim_name, "artifacts");
    let mount = &pod.containers[0].volume_mounts.as_ref().unwrap()[0];
    assert_eq!(mount.sub_path.as_deref(), Some("runs/r4/train/attempts/1/outputs/model"));
    assert_eq!((mount.mount_path.as_str(), mount.read_only), ("/mnt/models", Some(true)));
}

#[test]
fn a_pod_says_which_claim_it_mounts_for_stages_that_come_to_its_node_and_is_no_other_revision_for_that() {
    let deployment = with_server(|_| {}).plan().apply.into_iter().find_map(|apply| match apply {
        Apply::Deployment(deployment) => Some(deployment),
        _ => None,
    });
    let spec = deployment.unwrap().spec.unwrap();
    let template = spec.template;
    assert_eq!(template.metadata.unwrap().labels.unwrap()["claim.millrace.dev/artifacts"], "mounted");
    assert!(!spec.selector.match_labels.unwrap().contains_key("claim.millrace.dev/artifacts"), "it cannot be changed");
    assert_eq!(template.spec.unwrap().affinity, None);
}

#[test]
fn a_model_in_a_bucket_is_fetched_before_its_server_starts() {
    let mut cluster = with_server(|_| {});
    let version = cluster.observed.model_versions.iter_mut().find(|version| version.spec.version == 4).unwrap();
    let artifact = &mut Arc::make_mut(version).spec.artifact;
    artifact.uri = "s3://lake/runs/r4/train/outputs/model/ab".to_owned();
    artifact.access = serde_json::from_value(serde_json::json!({ "secretRef": { "name": "keys" } })).unwrap();
    let digest = artifact.digest.clone();
    // What was fetched can be fetched again: it keeps no node from being taken away.
    let annotations = template(&cluster).metadata.unwrap().annotations.unwrap();
    assert_eq!(annotations["cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"], "millrace-model");
    let pod = pod(&cluster);
    let init = &pod.init_containers.as_ref().unwrap()[0];
    assert_eq!(init.command.as_ref().unwrap().last().map(String::as_str), Some("fetch"));
    let told = init.env.as_ref().unwrap()[0].value.clone().unwrap();
    let fetches: Vec<Fetch> = serde_json::from_str(&told).unwrap();
    let fetch = &fetches[0];
    assert_eq!(
        (fetch.source.uri().as_str(), fetch.path.as_str()),
        ("s3://lake/runs/r4/train/outputs/model/ab", "/mnt/models")
    );
    assert_eq!(fetch.digest, digest);
    let from = &init.env_from.as_ref().unwrap()[0];
    assert_eq!(from.secret_ref.as_ref().unwrap().name, "keys");
    let FetchSource::Objects(source) = &fetch.source else { panic!("{fetch:?}") };
    assert_eq!(from.prefix, source.store.credentials);
    // The server sees the files, and no credential.
    let main = &pod.containers[0];
    let mount = &main.volume_mounts.as_ref().unwrap()[0];
    assert_eq!((mount.mount_path.as_str(), mount.read_only), ("/mnt/models", Some(true)));
    assert!(main.env_from.is_none() && pod.volumes.as_ref().unwrap()[0].empty_dir.is_some());
    let security = init.security_context.as_ref().unwrap();
    assert_eq!(security.allow_privilege_escalation, Some(false));
}

#[test]
fn the_server_is_told_its_model_and_has_time_to_drain() {
    let cluster = with_server(|server| server.batching = Some(Batching { max_size: Some(8), ..Batching::default() }));
    let pod = pod(&cluster);
    let arguments = pod.containers[0].args.clone().unwrap();
    for argument in ["--model-name=penguins", "--model-version=4", "--max-batch-size=8", "--drain=15s", "--grace=30s"] {
        assert!(arguments.iter().any(|given| given == argument), "{arguments:?}");
    }
    let digest = format!("--model-digest=sha256:{:064}", 4);
    assert!(arguments.contains(&digest), "{arguments:?}");
    assert_eq!(pod.termination_grace_period_seconds, Some(60));
}

#[test]
fn drain_and_grace_fit_into_a_shorter_termination() {
    for (period, drain, grace) in [("20s", 10, 8), ("47s", 15, 30), ("10m", 15, 30), ("1s", 0, 0)] {
        let cluster = with_server(|server| server.settings.termination_grace_period = Some(period.to_owned()));
        let arguments = pod(&cluster).containers[0].args.clone().unwrap();
        for argument in [format!("--drain={drain}s"), format!("--grace={grace}s")] {
            assert!(arguments.contains(&argument), "{period}: {arguments:?}");
        }
    }
}

#[test]
fn the_pod_passes_pod_security_restricted() {
    let pod = pod(&with_server(|_| {}));
    let security = pod.security_context.unwrap();
    assert_eq!(
        (security.run_as_non_root, security.run_as_user, security.fs_group),
        (Some(true), Some(65532), Some(65532))
    );
    assert_eq!(security.seccomp_profile.unwrap().type_, "RuntimeDefault");
    let container = pod.containers[0].security_context.clone().unwrap();
    assert_eq!(container.allow_privilege_escalation, Some(false));
    assert_eq!(container.capabilities.unwrap().drop, Some(vec!["ALL".to_owned()]));
    assert_eq!(pod.automount_service_account_token, Some(false));
}

#[test]
fn a_model_outside_of_its_claim_is_refused() {
    for uri in [
        "pvc://claim/../other",
        "pvc://claim/a/../../b",
        "pvc://claim/",
        "s3://bucket/../model",
        "az://container/model",
    ] {
        let mut cluster = Cluster::new();
        cluster.set_version(1);
        let version = Arc::make_mut(&mut cluster.observed.model_versions[0]);
        version.spec.artifact = ModelArtifact { uri: uri.to_owned(), ..ModelArtifact::default() };
        let plan = cluster.pass();
        assert!(plan.apply.is_empty(), "{uri}");
        assert!(cluster.message().contains(uri), "{}", cluster.message());
    }
}

#[test]
fn the_catalogs_pod_template_lies_below_the_pod_and_makes_another_revision() {
    let mut cluster = with_server(|server| server.settings.pod_template = Some("gpu".to_owned()));
    let refused = cluster.pass();
    assert!(refused.apply.is_empty());
    assert!(cluster.message().contains("no PodTemplate \"gpu\" in the namespace \"millrace-system\""));
    let container =
        |name: &str| Container { name: name.to_owned(), image: Some("other".to_owned()), ..Container::default() };
    let annotations = Some([("k8s.v1.cni.cncf.io/networks".to_owned(), "rdma".to_owned())].into());
    let mut main = container("main");
    main.command = Some(vec!["other".to_owned()]);
    let below = PodTemplateSpec {
        metadata: Some(ObjectMeta { annotations, ..ObjectMeta::default() }),
        spec: Some(PodSpec { containers: vec![container("sidecar"), main], ..PodSpec::default() }),
    };
    let found = PodTemplate { template: Some(below), ..PodTemplate::default() };
    cluster.observed.pod_templates.insert("gpu".to_owned(), Arc::new(found));
    let merged = template(&cluster);
    let annotations = merged.metadata.unwrap().annotations.unwrap();
    assert_eq!(annotations.len(), 2, "{annotations:?}");
    let containers = merged.spec.unwrap().containers;
    let named: Vec<_> = containers.iter().map(|c| (c.name.as_str(), c.image.as_deref().unwrap_or(""))).collect();
    assert_eq!(named, [("main", "registry/server:1"), ("sidecar", "other")]);
    assert_eq!(containers[0].command, None, "the server is the program");
}

#[test]
fn the_servers_image_is_pulled_as_the_installation_says() {
    let mut cluster = with_server(|_| {});
    assert_eq!(pod(&cluster).containers[0].image_pull_policy, None);
    cluster.config.image_pull_policy = Some("Never".to_owned());
    assert_eq!(pod(&cluster).containers[0].image_pull_policy.as_deref(), Some("Never"));
}

fn on_gpu(server: &mut Server) {
    server.settings.resources =
        serde_json::from_value(serde_json::json!({ "limits": { "nvidia.com/gpu": 1 } })).unwrap();
}

#[test]
fn a_server_with_a_gpu_is_the_one_for_cuda_and_must_use_it() {
    let mut cluster = with_server(on_gpu);
    cluster.config.image_pull_policy = Some("Never".to_owned());
    let main = pod(&cluster).containers.remove(0);
    assert_eq!(main.image.as_deref(), Some("registry/server-cuda:1"));
    assert_eq!(main.image_pull_policy.as_deref(), Some("Never"));
    assert!(main.args.unwrap().contains(&"--device=gpu".to_owned()));
    assert_eq!(main.resources.unwrap().limits.unwrap()["nvidia.com/gpu"].0, "1");
    // Without one nothing is said of devices, so that no revision is made anew.
    let main = pod(&with_server(|_| {})).containers.remove(0);
    assert_eq!(main.image.as_deref(), Some("registry/server:1"));
    assert!(main.args.unwrap().iter().all(|argument| !argument.starts_with("--device")));
}

#[test]
fn another_server_with_a_gpu_stays_that_server() {
    let main = pod(&with_server(|server| {
        on_gpu(server);
        server.container = serde_json::from_value(serde_json::json!({ "image": "registry/triton:1" })).unwrap();
    }));
    assert_eq!(main.containers[0].image.as_deref(), Some("registry/triton:1"));
    assert!(main.containers[0].args.is_none());
}

#[test]
fn another_image_for_cuda_is_another_revision_only_where_there_is_a_gpu() {
    for with_gpu in [true, false] {
        let mut cluster = with_server(|server| {
            if with_gpu {
                on_gpu(server);
            }
        });
        cluster.settle();
        let makes_one = |cluster: &Cluster| cluster.plan().apply.iter().any(|a| matches!(a, Apply::Deployment(_)));
        assert!(!makes_one(&cluster));
        cluster.config.server_cuda_image = "registry/server-cuda:2".to_owned();
        assert_eq!(makes_one(&cluster), with_gpu);
    }
}

#[test]
fn another_server_image_is_another_revision() {
    let mut cluster = Cluster::serving_version_1();
    let before = cluster.served().unwrap().name.clone();
    cluster.config.server_image = "registry/server:2".to_owned();
    cluster.settle();
    assert_eq!(cluster.observed.deployments.len(), 2);
    assert_eq!(cluster.served().unwrap().name, before);
}

#[test]
fn another_server_gets_the_model_and_nothing_that_it_would_not_understand() {
    let container = serde_json::json!({
        "image": "registry/triton:1", "command": ["tritonserver"], "args": ["--model-repository=/mnt/models"],
        "port": 8000, "readyPath": "/v2/ready"
    });
    let mut cluster = with_server(|server| server.container = Some(serde_json::from_value(container).unwrap()));
    let pod = pod(&cluster);
    let main = &pod.containers[0];
    assert_eq!(main.image.as_deref(), Some("registry/triton:1"));
    assert_eq!(main.command.as_deref(), Some(["tritonserver".to_owned()].as_slice()));
    assert_eq!(main.args.as_deref(), Some(["--model-repository=/mnt/models".to_owned()].as_slice()));
    assert_eq!(main.ports.as_ref().unwrap()[0].container_port, 8000);
    let get = main.readiness_probe.as_ref().unwrap().http_get.as_ref().unwrap();
    assert_eq!(get.path.as_deref(), Some("/v2/ready"));
    assert!(main.liveness_probe.is_none() && main.lifecycle.is_some());
    assert_eq!(main.volume_mounts.as_ref().unwrap()[0].mount_path, "/mnt/models");
    cluster.settle();
    cluster.pods_get_ready();
    cluster.settle();
    let led = |cluster: &Cluster| {
        let revision = cluster.in_force[0].models[0].revisions.iter().find(|revision| revision.weight > 0).unwrap();
        (revision.port, revision.ready_path.clone().unwrap())
    };
    assert_eq!(led(&cluster), (8000, "/v2/ready".to_owned()));
    // The next one is Millrace's own: the routes say of each where it listens.
    cluster.owner.spec.server = None;
    cluster.set_version(5);
    cluster.settle();
    assert_eq!(led(&cluster), (8000, "/v2/ready".to_owned()));
    cluster.pods_get_ready();
    cluster.settle();
    assert_eq!(led(&cluster), (8080, "/v2/health/ready".to_owned()));
}

#[test]
fn another_server_may_read_another_format() {
    let mut cluster = with_server(|server| {
        let container = serde_json::json!({ "image": "registry/xgboost:1" });
        server.container = Some(serde_json::from_value(container).unwrap());
    });
    for version in &mut cluster.observed.model_versions {
        Arc::make_mut(version).spec.format = "xgboost".to_owned();
    }
    cluster.settle();
    assert_eq!(cluster.condition("Accepted").0, "True");
    cluster.owner.spec.server = None;
    cluster.edited();
    cluster.settle();
    assert_eq!(cluster.condition("Accepted").1, "UnsupportedFormat");
    assert!(cluster.message().contains("spec.server.container"), "{}", cluster.message());
}
