//! A model that is served by the address where it lies: no ModelVersion has it.

use millrace_contract::{Fetch, FetchSource};
use serde_json::{Value, json};

use super::cluster::{Cluster, pair};
use crate::api::{DeployedModel, ModelDeploymentStatus, RevisionStatus, RolloutOutcome};
use crate::deployment::{monitored, monitored_candidate, stream};
use crate::plan::Apply;

fn digest(of: &str) -> String {
    format!("sha256:{}", of.repeat(64))
}

/// As a person writes it: of the digest `aaa…` in the folder `a`, for one.
fn model(of: &str) -> DeployedModel {
    let access = json!({ "region": "eu", "secretRef": { "name": "keys" } });
    let uri = format!("s3://lake/models/{of}");
    serde_json::from_value(json!({ "uri": uri, "format": "onnx", "digest": digest(of), "access": access })).unwrap()
}

fn ask(cluster: &mut Cluster, of: &str) {
    cluster.owner.spec.model = model(of);
    cluster.edited();
    cluster.go_on(0);
}

/// The model `a` is served by a ModelDeployment `penguins`.
fn serving() -> Cluster {
    let mut cluster = Cluster::new();
    ask(&mut cluster, "a");
    cluster
}

fn status(cluster: &Cluster) -> ModelDeploymentStatus {
    cluster.owner.status.clone().unwrap()
}

fn of<'a>(status: &'a ModelDeploymentStatus, letter: &str) -> &'a RevisionStatus {
    let is = |revision: &&RevisionStatus| revision.artifact.as_ref().is_some_and(|it| it.digest == digest(letter));
    status.revisions.iter().find(is).unwrap()
}

/// Half of the requests until a person says more.
fn canary(cluster: &mut Cluster) {
    let rollout = json!({ "strategy": "Canary", "steps": [{ "weight": 50, "pause": true }] });
    cluster.owner.spec.rollout = Some(serde_json::from_value(rollout).unwrap());
}

#[test]
fn it_is_served_under_the_name_of_the_deployment_and_its_digest_is_its_version() {
    let mut cluster = Cluster::new();
    cluster.owner.spec.model = model("a");
    cluster.edited();
    let found = cluster.plan().apply.into_iter().find_map(|apply| match apply {
        Apply::Deployment(deployment) => Some(*deployment),
        _ => None,
    });
    let deployment = found.unwrap();
    let noted = deployment.metadata.annotations.unwrap();
    assert_eq!(noted.get("millrace.dev/version"), None);
    assert_eq!(noted["millrace.dev/model-uri"], "s3://lake/models/a");
    assert_eq!(deployment.metadata.labels.unwrap()["millrace.dev/model"], "penguins");
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    let arguments = pod.containers[0].args.clone().unwrap();
    for wanted in ["--model-name=penguins", "--model-version=aaaaaaaaaaaa", &format!("--model-digest={}", digest("a"))]
    {
        assert!(arguments.iter().any(|argument| argument == wanted), "{wanted} is not in {arguments:?}");
    }
    let agent = &pod.init_containers.unwrap()[0];
    let told = agent.env.as_ref().unwrap()[0].value.clone().unwrap();
    let fetch = serde_json::from_str::<Vec<Fetch>>(&told).unwrap().remove(0);
    assert_eq!((fetch.source.uri().as_str(), fetch.digest, fetch.size), ("s3://lake/models/a", digest("a"), None));
    assert_eq!(agent.env_from.as_ref().unwrap()[0].secret_ref.as_ref().unwrap().name, "keys");

    cluster.go_on(0);
    let status = status(&cluster);
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    assert_eq!(cluster.message(), "version aaaaaaaaaaaa is served by 1 of 1 pods");
    assert_eq!((status.served_version, status.served_digest.as_ref()), (None, Some(&digest("a"))));
    assert_eq!(status.served_model.as_deref(), Some("penguins"));
    assert_eq!(of(&status, "a").version, None);
    let told: Vec<&str> = cluster.events.iter().map(|event| event.message.as_str()).collect();
    assert!(told.iter().all(|told| told.contains("version aaaaaaaaaaaa")), "{told:?}");
}

#[test]
fn one_on_a_claim_is_mounted_from_there() {
    let mut cluster = Cluster::new();
    let uri = "pvc://models/penguins/1";
    cluster.owner.spec.model = DeployedModel { uri: Some(uri.to_owned()), access: None, ..model("a") };
    cluster.go_on(0);
    let status = status(&cluster);
    assert_eq!(status.revisions[0].artifact.as_ref().unwrap().uri, uri);
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
}

#[test]
fn one_on_a_web_server_is_fetched_as_the_file_that_the_server_looks_for() {
    let mut cluster = Cluster::new();
    let uri = "https://models.example/penguins/3/penguins.onnx";
    let access = serde_json::from_value(json!({ "secretRef": { "name": "keys" } })).unwrap();
    cluster.owner.spec.model = DeployedModel { uri: Some(uri.to_owned()), access: Some(access), ..model("a") };
    cluster.edited();
    let found = cluster.plan().apply.into_iter().find_map(|apply| match apply {
        Apply::Deployment(deployment) => Some(*deployment),
        _ => None,
    });
    let template = found.unwrap().spec.unwrap().template;
    assert!(template.metadata.unwrap().labels.unwrap().contains_key("millrace.dev/fetches-model"));
    let agent = &template.spec.unwrap().init_containers.unwrap()[0];
    let told = agent.env.as_ref().unwrap()[0].value.clone().unwrap();
    let fetch = serde_json::from_str::<Vec<Fetch>>(&told).unwrap().remove(0);
    let FetchSource::Web(file) = fetch.source else { panic!("{told}") };
    assert_eq!((file.uri.as_str(), file.file.as_str()), (uri, "model.onnx"));
    let from = &agent.env_from.as_ref().unwrap()[0];
    assert_eq!((from.secret_ref.as_ref().unwrap().name.as_str(), &from.prefix), ("keys", &file.credentials));
    cluster.go_on(0);
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    assert_eq!(status(&cluster).revisions[0].artifact.as_ref().unwrap().uri, uri);
}

#[test]
fn a_cache_has_the_same_bytes_once_for_each_name_that_a_server_looks_for() {
    let cached = |format: &str| {
        let mut cluster = Cluster::new();
        let cache = serde_json::from_value(json!({ "claim": "models" })).unwrap();
        let uri = Some("https://models.example/m".to_owned());
        cluster.owner.spec.model =
            DeployedModel { uri, access: None, cache: Some(cache), format: Some(format.to_owned()), ..model("a") };
        let other = json!({ "container": { "image": "registry/other:1" } });
        cluster.owner.spec.server = (format != "onnx").then(|| serde_json::from_value(other).unwrap());
        cluster.edited();
        cluster.go_on(0);
        status(&cluster).revisions[0].clone()
    };
    let own = cached("onnx");
    assert_eq!(own.cached.unwrap().digest, digest("a"));
    let (one, other) = (cached("gguf"), cached("ggml"));
    assert_eq!(one.artifact.unwrap().digest, digest("a"));
    let entries = [one.cached.unwrap().digest, other.cached.unwrap().digest, digest("a")];
    assert!(entries[0] != entries[1] && entries[0] != entries[2] && entries[1] != entries[2], "{entries:?}");
}

#[test]
fn another_digest_is_another_revision_that_comes_in_steps_and_both_keep_their_files() {
    let mut cluster = serving();
    canary(&mut cluster);
    ask(&mut cluster, "b");
    let now = status(&cluster);
    assert_eq!((of(&now, "a").weight, of(&now, "b").weight), (50, 50));
    assert!(cluster.message().contains("version bbbbbbbbbbbb has 50 % of the requests"), "{}", cluster.message());
    assert_eq!(now.rollout.as_ref().unwrap().artifact, of(&now, "b").artifact);
    assert_eq!(now.served_digest, Some(digest("a")));
    // What keeps artifacts of a store looks for addresses in the object.
    let whole = json!(cluster.owner).to_string();
    assert!(whole.contains("s3://lake/models/a") && whole.contains("s3://lake/models/b"));

    let revision = cluster.rollout().revision;
    let control = json!({ "revision": revision, "action": "Promote" });
    cluster.owner.spec.control = Some(serde_json::from_value(control).unwrap());
    cluster.edited();
    cluster.go_on(0);
    let now = status(&cluster);
    assert_eq!((now.served_digest.as_ref(), now.revisions.len()), (Some(&digest("b")), 1));
    let records = now.history.iter().map(|record| (record.outcome, record.artifact.clone().unwrap().digest));
    let promoted = [(RolloutOutcome::Promoted, digest("b")), (RolloutOutcome::Promoted, digest("a"))];
    assert_eq!(records.collect::<Vec<_>>(), promoted);
    assert!(now.history.iter().all(|record| record.version.is_none()));
}

#[test]
fn one_that_is_given_up_is_told_by_its_digest() {
    let mut cluster = serving();
    canary(&mut cluster);
    ask(&mut cluster, "b");
    let control = json!({ "revision": cluster.rollout().revision, "action": "Abort" });
    cluster.owner.spec.control = Some(serde_json::from_value(control).unwrap());
    cluster.edited();
    cluster.go_on(0);
    assert!(cluster.message().starts_with("version bbbbbbbbbbbb was aborted"), "{}", cluster.message());
    let record = status(&cluster).history.remove(0);
    assert_eq!((record.outcome, record.artifact.unwrap().digest), (RolloutOutcome::Aborted, digest("b")));
}

#[test]
fn a_registered_version_and_a_model_by_its_address_take_over_from_each_other() {
    let mut cluster = Cluster::serving_version_1();
    let registered = cluster.owner.spec.model.clone();
    ask(&mut cluster, "a");
    let now = status(&cluster);
    assert_eq!((now.served_version, now.served_digest), (None, Some(digest("a"))));
    // Without a version nothing of the registered model is promoted: what is served stays, whatever it is called.
    cluster.owner.spec.model = DeployedModel { version: None, ..registered };
    cluster.edited();
    cluster.go_on(0);
    assert_eq!(status(&cluster).served_digest, Some(digest("a")));
    cluster.set_version(2);
    cluster.go_on(0);
    let now = status(&cluster);
    assert_eq!((now.served_version, now.served_digest), (Some(2), None));
    let told: Vec<_> = now.history.iter().map(|record| (record.version, record.artifact.is_some())).collect();
    assert_eq!(told, [(Some(2), false), (None, true), (Some(1), false)]);
}

#[test]
fn a_cache_keeps_it_by_its_digest() {
    let mut cluster = Cluster::new();
    let cache = serde_json::from_value(json!({ "claim": "models", "maxSize": "1Ki" })).unwrap();
    cluster.owner.spec.model = DeployedModel { cache: Some(cache), ..model("a") };
    cluster.go_on(0);
    // How many bytes it has, the agent finds out.
    let now = status(&cluster);
    let revision = of(&now, "a");
    assert_eq!(revision.cached.as_ref().unwrap().digest, digest("a"));
    // Without it the same model is another revision, and no longer of the cache.
    ask(&mut cluster, "a");
    let now = status(&cluster);
    assert_eq!(of(&now, "a").cached, None);
}

#[test]
fn its_servers_are_asked_for_drift_as_they_call_themselves() {
    let mut cluster = serving();
    cluster.owner.spec.monitoring = Some(serde_json::from_value(json!({ "drift": {} })).unwrap());
    canary(&mut cluster);
    let analysis = json!({ "rows": { "metric": "Drift", "max": 0.3 } });
    cluster.owner.spec.rollout.as_mut().unwrap().analysis = serde_json::from_value(analysis).unwrap();
    ask(&mut cluster, "b");
    let served = monitored(&cluster.owner).unwrap();
    assert_eq!((served.model.as_str(), served.version.to_string().as_str()), ("penguins", "aaaaaaaaaaaa"));
    let comes = monitored_candidate(&cluster.owner).unwrap();
    assert_eq!((comes.model.as_str(), comes.version.to_string().as_str()), ("penguins", "bbbbbbbbbbbb"));
}

#[test]
fn events_have_the_digest_and_messages_go_to_the_deployments_own_path() {
    let mut cluster = serving();
    let log = json!({ "log": { "sampling": 1.0, "sink": { "address": "http://sink" } } });
    cluster.owner.spec.monitoring = Some(serde_json::from_value(log).unwrap());
    let kafka = json!({ "brokers": ["kafka:9092"], "inputTopic": "in", "outputTopic": "out" });
    cluster.owner.spec.stream = Some(serde_json::from_value(json!({ "kafka": kafka })).unwrap());
    cluster.edited();
    cluster.go_on(0);
    let log = cluster.in_force[0].models[0].log.clone().unwrap();
    assert_eq!((log.model.as_str(), log.versions.len()), ("penguins", 0));
    assert_eq!(log.digests.into_values().collect::<Vec<_>>(), [digest("a")]);
    assert_eq!(stream(&cluster.owner).unwrap().path, "/v2/models/penguins/infer");
}

#[test]
fn what_cannot_be_served_is_refused_with_what_to_write() {
    let refused = |change: Value, rollout: Option<Value>| {
        let mut cluster = Cluster::new();
        let mut model = json!(model("a"));
        model.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        cluster.owner.spec.model = serde_json::from_value(model).unwrap();
        cluster.owner.spec.rollout = rollout.map(|rollout| serde_json::from_value(rollout).unwrap());
        cluster.go_on(0);
        assert!(cluster.observed.deployments.is_empty());
        (cluster.condition("Accepted").1, cluster.message())
    };
    let live = json!({
        "strategy": "Canary", "steps": [{ "weight": 5, "hold": "1m" }], "analysis": { "right": { "live": "f1", "min": 0.9 } },
    });
    for (change, rollout, reason, words) in [
        (
            json!({ "format": "pickle" }),
            None,
            "UnsupportedFormat",
            "spec.model.format: the model server reads \"onnx\"",
        ),
        (
            json!({ "uri": "s3://lake/../m" }),
            None,
            "InvalidArtifact",
            "spec.model.uri: \"s3://lake/../m\" is no address",
        ),
        (json!({ "uri": "az://lake/m" }), None, "InvalidArtifact", "with the account in spec.model.access"),
        (
            json!({ "uri": "gs://lake/m" }),
            None,
            "InvalidArtifact",
            "spec.model.access.region: region is for an address",
        ),
        (json!({ "uri": "pvc://claim/m" }), None, "InvalidArtifact", "spec.model.access: a claim needs no access"),
        (json!({}), Some(live), "NoReports", "spec.rollout.analysis.right.live: reports are of registered versions"),
    ] {
        let (found, message) = refused(change, rollout);
        assert!(found == reason && message.contains(words), "{found}: {message}");
    }
    // Another server reads what it likes.
    let mut cluster = Cluster::new();
    cluster.owner.spec.model = DeployedModel { format: Some("pickle".to_owned()), ..model("a") };
    cluster.owner.spec.server = Some(serde_json::from_value(json!({ "container": { "image": "mine" } })).unwrap());
    cluster.go_on(0);
    assert_eq!(cluster.condition("Accepted").0, "True");
}
