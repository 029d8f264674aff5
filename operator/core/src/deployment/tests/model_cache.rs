//! A model that is kept in a cache of its namespace: what its pod gets, what is refused, and what the agents are told to leave there.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use k8s_openapi::jiff::Timestamp;
use millrace_contract::{Fetch, NeededModels};
use serde_json::{Value, json};

use super::cluster::Cluster;
use crate::plan::Apply;
use crate::run::{ContainerView, PodView, Terminated};

/// Every version lies in a bucket.
fn in_a_bucket(cache: Option<Value>) -> Cluster {
    let mut cluster = Cluster::new();
    for version in &mut cluster.observed.model_versions {
        let artifact = &mut Arc::make_mut(version).spec.artifact;
        artifact.uri = "s3://lake/models/m".to_owned();
        artifact.size = 3 << 30;
    }
    cluster.owner.spec.model.cache = cache.map(|cache| serde_json::from_value(cache).unwrap());
    cluster.set_version(4);
    cluster
}

fn template(cluster: &Cluster) -> PodTemplateSpec {
    let found = cluster.plan().apply.into_iter().find_map(|apply| match apply {
        Apply::Deployment(deployment) => deployment.spec.map(|spec| spec.template),
        _ => None,
    });
    found.unwrap()
}

fn fetch(pod: &PodSpec) -> Fetch {
    let init = &pod.init_containers.as_ref().unwrap()[0];
    let told = init.env.as_ref().unwrap()[0].value.clone().unwrap();
    serde_json::from_str::<Vec<Fetch>>(&told).unwrap().remove(0)
}

fn digest(version: i64) -> String {
    format!("sha256:{version:064}")
}

#[test]
fn the_agent_has_the_claims_folder_and_the_server_its_model_alone() {
    let template = template(&in_a_bucket(Some(json!({ "claim": "models", "maxSize": "20Gi", "keepUnused": "1h" }))));
    let pod = template.spec.unwrap();
    let fetch = fetch(&pod);
    assert_eq!(fetch.path, format!("/millrace/models/models/{:064}", 4));
    let cache = fetch.cache.unwrap();
    assert_eq!((cache.claim.as_str(), cache.max_bytes, cache.keep_seconds), ("models", Some(20 << 30), 3600));
    let volumes = pod.volumes.as_ref().unwrap();
    assert_eq!(volumes[0].persistent_volume_claim.as_ref().unwrap().claim_name, "models");
    let needed = volumes[1].config_map.as_ref().unwrap();
    assert_eq!((needed.name.as_str(), needed.optional), ("millrace-routes", Some(true)));
    let keys: Vec<&str> = needed.items.iter().flatten().map(|item| item.key.as_str()).collect();
    assert_eq!(keys, ["models.json"], "nothing of the routes");
    let mounts = pod.init_containers.as_ref().unwrap()[0].volume_mounts.clone().unwrap();
    let mounted: Vec<_> = mounts.iter().map(|m| (m.mount_path.as_str(), m.sub_path.as_deref(), m.read_only)).collect();
    assert_eq!(mounted, [("/millrace/models", Some("millrace-models"), None), ("/millrace/needed", None, Some(true))]);
    let mounts = pod.containers[0].volume_mounts.clone().unwrap();
    assert_eq!(mounts.len(), 1);
    let entry = format!("millrace-models/models/{:064}", 4);
    assert_eq!((mounts[0].sub_path.as_deref(), mounts[0].read_only), (Some(entry.as_str()), Some(true)));
    let annotations = template.metadata.unwrap().annotations.unwrap();
    assert_eq!(annotations["millrace.dev/model-cache"], "models");
}

#[test]
fn without_a_cache_and_on_a_claim_of_its_own_a_model_comes_as_before() {
    let pod = template(&in_a_bucket(None)).spec.unwrap();
    let told = pod.init_containers.as_ref().unwrap()[0].env.as_ref().unwrap()[0].value.clone().unwrap();
    // No word more: an upgrade starts no pod anew.
    assert!(!told.contains("cache"), "{told}");
    assert_eq!((fetch(&pod).path.as_str(), pod.volumes.unwrap().len()), ("/mnt/models", 1));
    let mut mounted = Cluster::new();
    mounted.owner.spec.model.cache = Some(serde_json::from_value(json!({ "claim": "models" })).unwrap());
    mounted.set_version(4);
    let pod = template(&mounted).spec.unwrap();
    assert!(pod.init_containers.is_none());
    assert_eq!(pod.volumes.unwrap()[0].persistent_volume_claim.as_ref().unwrap().claim_name, "artifacts");
}

#[test]
fn what_a_cache_can_never_hold_is_refused_with_what_to_write() {
    for (cache, reason, words) in [
        (json!({ "claim": "models", "maxSize": "1Gi" }), "ModelTooLarge", "version 4 has 3221225472 bytes"),
        (json!({ "claim": "models", "maxSize": 0 }), "InvalidQuantity", "spec.model.cache.maxSize"),
        (json!({ "claim": "models", "keepUnused": "9m" }), "InvalidDuration", "write 10m or more"),
    ] {
        let mut cluster = in_a_bucket(Some(cache.clone()));
        cluster.settle();
        assert_eq!(cluster.condition("Accepted").1, reason, "{cache}");
        assert!(cluster.message().contains(words), "{}", cluster.message());
        assert!(cluster.observed.deployments.is_empty());
    }
}

#[test]
fn agents_are_told_of_every_revisions_model_for_as_long_as_it_is_there() {
    let mut cluster = in_a_bucket(Some(json!({ "claim": "models" })));
    let needed = |cluster: &Cluster| -> Vec<String> {
        let text = cluster.routes.as_ref().unwrap().needed.clone().unwrap();
        let all: NeededModels = serde_json::from_str(&text).unwrap();
        all.claims["models"].iter().cloned().collect()
    };
    cluster.settle();
    // Before a pod of it is ready.
    assert_eq!(needed(&cluster), [digest(4)]);
    cluster.pods_get_ready();
    cluster.settle();
    let cached = cluster.owner.status.as_ref().unwrap().revisions[0].cached.clone().unwrap();
    assert_eq!((cached.claim, cached.digest), ("models".to_owned(), digest(4)));
    let first = cluster.served().unwrap().name.clone();
    cluster.busy.insert(first.clone());
    cluster.set_version(5);
    cluster.settle();
    cluster.pods_get_ready();
    cluster.settle();
    // It has requests in hand.
    assert_eq!(needed(&cluster), [digest(4), digest(5)]);
    cluster.busy.clear();
    cluster.routers_report();
    cluster.settle();
    assert!(cluster.view(&first).is_none());
    assert_eq!(needed(&cluster), [digest(5)]);
    // Without a cache nobody is told anything, as before there were any.
    cluster.owner.spec.model.cache = None;
    cluster.edited();
    cluster.settle();
    cluster.pods_get_ready();
    cluster.settle();
    assert_eq!(cluster.routes.as_ref().unwrap().needed, None);
}

#[test]
fn a_pod_that_fetches_is_told_of_and_why_it_failed_comes_first() {
    let mut cluster = in_a_bucket(Some(json!({ "claim": "models" })));
    cluster.settle();
    let revision = cluster.observed.deployments[0].name.clone();
    let since: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
    let init = ContainerView { running_since: Some(since), ..ContainerView::default() };
    let pod = |name: &str, init: &ContainerView| {
        let (name, stage) = (name.to_owned(), revision.clone());
        Arc::new(PodView { name, stage, phase: "Pending".to_owned(), init: Some(init.clone()), ..PodView::default() })
    };
    cluster.observed.pods = vec![pod("a", &init)];
    cluster.settle();
    assert_eq!(cluster.condition("Ready").1, "Progressing");
    let told = cluster.message();
    assert!(
        told.contains("pod a fetches its model since 2026-11-22T10:00:00Z") && told.contains("kubectl logs a -c agent"),
        "{told}"
    );
    let end = Terminated {
        exit_code: 75,
        reason: "Error".to_owned(),
        message: "the claim \"models\" has no room for the model".to_owned(),
        ..Terminated::default()
    };
    let failed = ContainerView { terminated: Some(end), ..init.clone() };
    cluster.observed.pods = vec![pod("a", &init), pod("b", &failed)];
    cluster.settle();
    assert_eq!(cluster.condition("Ready").1, "RevisionFailing");
    assert!(
        cluster.message().contains("pod b: Error (exit code 75): the claim \"models\" has no room"),
        "{}",
        cluster.message()
    );
}

#[test]
fn a_start_from_zero_that_fetches_stays_ready() {
    let mut cluster = in_a_bucket(Some(json!({ "claim": "models" })));
    cluster.owner.spec.scale = Some(serde_json::from_value(json!({ "min": 0, "toZeroAfter": "10s" })).unwrap());
    cluster.edited();
    cluster.settle();
    cluster.pods_get_ready();
    cluster.settle();
    let name = cluster.served().unwrap().name.clone();
    cluster.change(&name, |view| {
        (view.wanted, view.replicas, view.ready, view.available) = (1, 1, 0, 0);
    });
    let init = ContainerView { running_since: Some(cluster.now), ..ContainerView::default() };
    cluster.observed.pods = vec![Arc::new(PodView {
        name: "a".to_owned(),
        stage: name,
        phase: "Pending".to_owned(),
        created: Some(cluster.now),
        init: Some(init),
        ..PodView::default()
    })];
    cluster.pass();
    let (ready, reason) = cluster.condition("Ready");
    assert_eq!((ready.as_str(), reason.as_str()), ("True", "Starting"), "{}", cluster.message());
    assert!(cluster.message().contains("fetches its model"), "{}", cluster.message());
}
