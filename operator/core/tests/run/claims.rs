//! Runs whose claim one node may mount at a time: their pods come together, what can never be is refused, and who waits says why.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PodTemplate, PodTemplateSpec};
use millrace_core::api::StageState;
use millrace_core::pod::{Access, Claims};
use millrace_core::run::PodView;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Fate, words};
use crate::{pipeline, stage};

const LABEL: &str = "claim.millrace.dev/artifacts";

fn cluster(stages: Value, access: Access) -> Cluster {
    let mut cluster = Cluster::new(pipeline(stages));
    cluster.claims = Claims::from([("artifacts".to_owned(), access)]);
    cluster
}

fn template(cluster: &Cluster, job: &str) -> PodTemplateSpec {
    cluster.jobs[job].1.spec.clone().unwrap().template
}

/// The claims whose pods this Job's pods have to be beside.
fn beside(cluster: &Cluster, job: &str) -> Vec<String> {
    let affinity = template(cluster, job).spec.unwrap().affinity.and_then(|affinity| affinity.pod_affinity);
    let terms = affinity.and_then(|near| near.required_during_scheduling_ignored_during_execution).unwrap_or_default();
    let key = |term: k8s_openapi::api::core::v1::PodAffinityTerm| {
        assert_eq!(term.topology_key, "kubernetes.io/hostname");
        term.label_selector.unwrap().match_expressions.unwrap()[0].key.clone()
    };
    terms.into_iter().map(key).collect()
}

fn is_labelled(cluster: &Cluster, job: &str) -> bool {
    template(cluster, job).metadata.unwrap().labels.unwrap().contains_key(LABEL)
}

#[test]
fn every_pod_of_a_run_goes_where_its_claim_is_in_use_also_another_attempt_the_items_and_what_collects_them() {
    let each = json!({ "forEach": { "range": { "count": 3 } }, "outputs": { "part": {} } });
    let stages = json!({ "a": stage(json!({ "retry": { "limit": 1 } })), "fan": stage(each) });
    let mut cluster = cluster(stages, Access::OneNode).fate("a", 1, Fate::Exits(1));
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
    let jobs: Vec<String> = cluster.jobs.keys().cloned().collect();
    assert_eq!(jobs, ["r-a-1", "r-a-2", "r-fan-1", "r-fan-2"]);
    for job in jobs {
        assert_eq!(beside(&cluster, &job), [LABEL], "{job}");
        assert!(is_labelled(&cluster, &job), "{job}: the next one would not find it");
    }
}

#[test]
fn after_a_node_is_lost_pods_are_not_bound_to_where_its_pod_still_is() {
    let mut cluster = cluster(json!({ "a": stage(json!({})) }), Access::OneNode).fate("a", 1, Fate::Hangs);
    cluster.settle_until(|cluster| cluster.stage("a").state == StageState::Running);
    assert_eq!(beside(&cluster, "r-a-1"), [LABEL]);
    for pod in &mut cluster.pods {
        pod.deleting = true;
        pod.disrupted = Some(words("DeletionByTaintManager", "the node is not heard of"));
    }
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
    assert!(beside(&cluster, "r-a-2").is_empty() && is_labelled(&cluster, "r-a-2"));
}

#[test]
fn pods_of_a_claim_that_all_nodes_may_mount_are_where_they_like() {
    for access in [Access::Shared, Access::OnePod] {
        let mut cluster = cluster(json!({ "s": stage(json!({})) }), access);
        cluster.settle();
        assert!(beside(&cluster, "r-s-1").is_empty() && !is_labelled(&cluster, "r-s-1"), "{access:?}");
    }
    let mut cluster =
        Cluster::new(json!({ "store": { "s3": { "bucket": "lake" } }, "stages": { "s": stage(json!({})) } }));
    cluster.claims = Claims::from([("artifacts".to_owned(), Access::OneNode)]);
    cluster.settle();
    assert!(beside(&cluster, "r-s-1").is_empty() && !is_labelled(&cluster, "r-s-1"));
}

#[test]
fn a_claim_that_a_stage_mounts_itself_counts_too_and_so_does_one_of_the_platforms_template() {
    let volumes = json!({ "v": { "claim": { "name": "scratch" }, "mountPath": "/v" } });
    let mut own = stage(json!({}));
    own["container"]["volumes"] = volumes;
    let mut cluster = Cluster::new(json!({ "stages": { "s": own } }));
    cluster.claims = Claims::from([("scratch".to_owned(), Access::OneNode)]);
    cluster.settle();
    assert_eq!(beside(&cluster, "r-s-1"), ["claim.millrace.dev/scratch"]);

    let mut templated = stage(json!({}));
    templated["container"]["podTemplate"] = json!("lab");
    let mut cluster = Cluster::new(json!({ "stages": { "s": templated } }));
    let volume = json!({ "name": "lab", "persistentVolumeClaim": { "claimName": "lab" } });
    let spec = json!({ "containers": [{ "name": "main", "image": "x" }], "volumes": [volume] });
    let found: PodTemplate = serde_json::from_value(json!({ "metadata": {}, "template": { "spec": spec } })).unwrap();
    cluster.pod_templates.insert("lab".into(), Arc::new(found));
    cluster.claims = Claims::from([("lab".to_owned(), Access::OneNode)]);
    cluster.settle();
    assert_eq!(beside(&cluster, "r-s-1"), ["claim.millrace.dev/lab"]);
}

#[test]
fn an_impossible_graph_is_refused_before_anything_is_made() {
    let on = |pool: &str| {
        let mut stage = stage(json!({}));
        stage["container"]["nodeSelector"] = json!({ "pool": pool });
        stage
    };
    let stages = || json!({ "prepare": on("cpu"), "train": on("gpu") });
    let mut refused = cluster(stages(), Access::OneNode);
    refused.settle();
    let (status, reason, message) = refused.condition("Accepted").unwrap();
    assert_eq!((status, reason), ("False", "ClaimNotShared"));
    for words in ["spec.stages.train.container.nodeSelector", "`artifacts`", "pool=cpu", "pool=gpu", "needs: [prepare]"]
    {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert_eq!(refused.condition("Stalled").unwrap().0, "True");
    assert!(refused.status().completion_time.is_some() && refused.jobs.is_empty() && refused.frozen.is_none());

    let mut shared = cluster(stages(), Access::Shared);
    shared.settle();
    assert_eq!(shared.condition("Succeeded").unwrap().0, "True");

    // One after the other they may be on different nodes.
    let mut chained = stages();
    chained["train"]["needs"] = json!(["prepare"]);
    let mut chained = cluster(chained, Access::OneNode);
    chained.settle();
    assert_eq!(chained.condition("Succeeded").unwrap().0, "True");
}

#[test]
fn the_next_pod_is_made_when_the_one_before_has_left_its_node_or_takes_too_long_to() {
    let made = |access: Access, leaves: bool| {
        let mut cluster = cluster(json!({ "a": stage(json!({})), "b": stage(json!({ "needs": ["a"] })) }), access);
        // The kubelet says that the program has ended, and a moment later that the pod has.
        cluster.settle_until(|cluster| cluster.stage("a").state == StageState::Running);
        crate::node::tick(&mut cluster);
        cluster.pods[0].phase = "Running".into();
        cluster.reconcile();
        assert_eq!(cluster.stage("a").state, StageState::Succeeded);
        let at_once = cluster.jobs.contains_key("r-b-1");
        if leaves {
            cluster.pods[0].phase = "Succeeded".into();
        } else {
            assert_eq!(cluster.stage("b").reason, None, "nothing is wrong");
            cluster.pass_time(Duration::from_secs(11));
        }
        cluster.reconcile();
        (at_once, cluster.jobs.contains_key("r-b-1"))
    };
    for leaves in [true, false] {
        assert_eq!(made(Access::OneNode, leaves), (false, true), "{leaves}");
        assert_eq!(made(Access::Shared, leaves), (true, true), "{leaves}");
    }
}

/// A stage whose pod the scheduler has no node for, in these words, until nothing moves any more.
fn waiting(access: Access, settings: Value, said: &str) -> Cluster {
    let mut stage = stage(json!({ "pendingTimeout": "5m" }));
    for (key, value) in settings.as_object().unwrap() {
        stage["container"][key] = value.clone();
    }
    let mut cluster = cluster(json!({ "s": stage }), access);
    cluster.reconcile();
    let created = Some(cluster.now);
    let owner = Some(cluster.jobs["r-s-1"].0.uid.clone());
    let unschedulable = Some(words("Unschedulable", said));
    let (name, uid, phase) = ("r-s-1-x".into(), "pod".into(), "Pending".into());
    cluster.pods.push(PodView {
        name,
        uid,
        phase,
        owner,
        created,
        unschedulable,
        stage: "s".into(),
        attempt: 1,
        ..PodView::default()
    });
    cluster.pass_time(Duration::from_secs(10));
    cluster.reconcile();
    cluster
}

#[test]
fn a_pod_that_has_no_room_beside_its_claim_says_so_before_the_schedulers_words() {
    let said = "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) didn't match pod affinity rules.";
    let mut cluster = waiting(Access::OneNode, json!({}), said);
    let status = cluster.stage("s").clone();
    let message = status.message.clone().unwrap();
    assert_eq!((status.state, status.reason.as_deref()), (StageState::Pending, Some("Unschedulable")));
    assert!(message.starts_with("the claim `artifacts` is in use on one node") && message.contains(said), "{message}");
    assert!(message.contains("gives up at"), "{message}");
    assert!(cluster.condition("Succeeded").unwrap().2.contains("the claim `artifacts` is in use"));
    let writes = cluster.writes;
    cluster.reconcile();
    assert_eq!((cluster.writes, cluster.stage("s").message.as_ref()), (writes, Some(&message)), "it is said once");
    cluster.pass_time(Duration::from_mins(5));
    cluster.reconcile();
    let status = cluster.stage("s");
    assert_eq!((status.state, status.reason.as_deref()), (StageState::Failed, Some("PendingTimeout")));
    assert!(status.message.as_ref().unwrap().contains("the claim `artifacts` is in use on one node"));
}

#[test]
fn what_is_no_claims_fault_is_told_as_it_is() {
    let said = "0/2 nodes are available: 2 node(s) didn't match pod affinity rules.";
    let message = |cluster: &Cluster| cluster.stage("s").message.clone().unwrap();
    assert!(message(&waiting(Access::Shared, json!({}), said)).starts_with(said));
    // A person's own rule, beside which the claim only draws.
    let term = json!({ "labelSelector": {}, "topologyKey": "kubernetes.io/hostname" });
    let own = json!({ "affinity": { "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } } });
    assert!(message(&waiting(Access::OneNode, own, said)).starts_with(said));
    let cpu = "0/1 nodes are available: 1 Insufficient cpu.";
    assert!(message(&waiting(Access::OneNode, json!({}), cpu)).starts_with(cpu));
}

#[test]
fn a_claim_of_one_pod_that_another_has_is_told() {
    let said = "0/1 nodes are available: 1 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod.";
    let message = waiting(Access::OnePod, json!({}), said).stage("s").message.clone().unwrap();
    assert!(message.starts_with("another pod has the claim `artifacts`") && message.contains(said), "{message}");
}
