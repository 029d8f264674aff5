//! Gates, registering and deploying.

use millrace_core::api::StageState;
use serde_json::json;

use crate::cluster::{Cluster, Crash, Fate, deployment, unregistered};
use crate::{pipeline, stage, whole_loop};

/// The whole loop with a candidate of the given score.
fn scored(f1: f64, champion: Option<f64>) -> Cluster {
    let mut facts = json!({ "metrics": { "f1": f1 } });
    if let Some(champion) = champion {
        facts["champion"] = json!({ "f1": champion });
    }
    let mut cluster = Cluster::new(whole_loop()).fate("evaluate", 1, Fate::Succeeds(facts));
    cluster.deployment = Some(deployment());
    cluster
}

/// Another run in the same cluster, after the first.
fn next(mut first: Cluster, mut second: Cluster) -> Cluster {
    second.run.metadata.name = Some("r2".into());
    second.run.metadata.uid = Some("run-uid-2".into());
    second.versions = std::mem::take(&mut first.versions);
    second.deployment = first.deployment.take();
    second
}

#[test]
fn a_model_that_passes_its_gate_is_registered_with_its_lineage_and_served() {
    let mut cluster = scored(0.95, None);
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    assert_eq!(cluster.condition("Promoted").unwrap().0, "True");
    let version = &cluster.versions[0];
    assert_eq!(version.metadata.name.as_deref(), Some("penguins-v1"));
    assert_eq!(version.metadata.owner_references, None, "it outlives its run");
    assert_eq!(version.spec.metrics["f1"], 0.95);
    assert_eq!(version.spec.signature, Some(json!({ "task": "classification" })));
    let uri = "pvc://artifacts/runs/r-run-uid-/train/attempts/1/outputs/model";
    assert_eq!(version.spec.artifact.uri, uri);
    let lineage = version.spec.lineage.as_ref().unwrap();
    assert_eq!(lineage.images.keys().collect::<Vec<_>>(), ["ingest", "train"]);
    assert_eq!(lineage.datasets[0].name, "ingest.data");
    assert_eq!(lineage.frozen, cluster.status().frozen);
    assert_eq!(lineage.models, [], "the champion is judged beside, and the model is not made of it");
    assert_eq!(cluster.deployment.as_ref().unwrap().spec.model.version, Some(1));
    assert_eq!(cluster.stage("deploy").model_version.as_deref(), Some("penguins-v1"));
    assert_eq!(cluster.stage("register").model_version.as_deref(), Some("penguins-v1"));
}

#[test]
fn a_model_that_its_gate_rejects_is_not_registered_and_the_run_succeeds() {
    let mut cluster = scored(0.5, None);
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    let (status, reason, message) = cluster.condition("Promoted").unwrap();
    let figures = "`metrics.f1 >= 0.9` is false: metrics.f1 = 0.5, champion = null";
    assert_eq!((status, reason), ("False", "GateRejected"));
    assert_eq!(message, format!("the gate of stage `evaluate` said no: {figures}"));
    assert_eq!(cluster.stage("evaluate").message.as_deref(), Some(figures));
    let told = cluster.events.iter().filter(|event| event.message.contains(figures)).count();
    assert_eq!(told, 1, "{:?}", cluster.events);
    assert_eq!(cluster.status().progress.as_deref(), Some("3/5, 2 skipped"));
    let message = cluster.condition("Succeeded").unwrap().2;
    assert_eq!(message, "3 of 5 stages succeeded, 2 skipped: the gate of stage `evaluate` said no");
    for stage in ["register", "deploy"] {
        let status = cluster.stage(stage);
        assert_eq!((status.state, status.reason.as_deref()), (StageState::Skipped, Some("GateRejected")));
    }
    assert!(cluster.versions.is_empty());
}

#[test]
fn the_champion_that_is_served_is_an_input_and_decides_with_its_figures() {
    let mut first = scored(0.95, None);
    first.settle();
    assert_eq!(first.stage("evaluate").inputs["champion"].model_version, None);
    let mut worse = next(first, scored(0.921_348_1, Some(0.94)));
    worse.settle();
    let champion = &worse.stage("evaluate").inputs["champion"];
    assert_eq!(champion.model_version.as_deref(), Some("penguins-v1"));
    assert_eq!(worse.condition("Promoted").unwrap().0, "False");
    assert_eq!(
        worse.stage("evaluate").message.as_deref(),
        Some(
            "`champion == null || metrics.f1 >= champion.metrics.f1` is false: metrics.f1 = 0.9213, \
             champion.metrics.f1 = 0.94 (penguins-v1)"
        )
    );
    assert_eq!(worse.deployment.as_ref().unwrap().spec.model.version, Some(1));
    let mut better = next(worse, scored(0.97, Some(0.94)));
    better.settle();
    assert_eq!(better.deployment.as_ref().unwrap().status.as_ref().unwrap().served_version, Some(2));
}

#[test]
fn a_model_of_another_format_is_registered_as_such() {
    let made = |format: Option<&str>| {
        let mut spec = whole_loop();
        if let Some(format) = format {
            spec["stages"]["train"]["outputs"]["model"]["format"] = json!(format);
        }
        let facts = Fate::Succeeds(json!({ "metrics": { "f1": 0.95 } }));
        let mut cluster = Cluster::new(spec).fate("evaluate", 1, facts);
        cluster.deployment = Some(deployment());
        cluster.settle();
        assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
        let job = serde_json::to_string(&cluster.jobs["r-train-1"].1).unwrap();
        (cluster.versions[0].spec.format.clone(), cluster.versions[0].spec.signature.clone(), job)
    };
    let (format, signature, job) = made(Some("pytorch"));
    assert_eq!((format.as_str(), signature), ("pytorch", None));
    assert!(job.contains("pytorch"), "the agent is told: {job}");
    let (format, _, plain) = made(None);
    assert_eq!(format, "onnx");
    assert_eq!(made(Some("onnx")).2, plain, "it is the usual one");
}

/// Versions 1 to 6 of the model, then a run that registers another and keeps the two newest.
fn keeping(keep: serde_json::Value) -> Cluster {
    let mut first = scored(0.95, None);
    first.settle();
    let mut spec = whole_loop();
    spec["stages"]["register"]["register"]["keep"] = keep;
    let better = Fate::Succeeds(json!({ "metrics": { "f1": 0.97 }, "champion": { "f1": 0.95 } }));
    let mut second = next(first, Cluster::new(spec).fate("evaluate", 1, better));
    for number in 2..=6 {
        let mut version = second.versions[0].clone();
        version.metadata.name = Some(format!("penguins-v{number}"));
        version.metadata.uid = Some(format!("uid-{number}"));
        version.metadata.labels = None;
        version.spec.version = number;
        second.versions.push(version);
    }
    second
}

fn numbers(cluster: &Cluster) -> Vec<i64> {
    cluster.versions.iter().map(|version| version.spec.version).collect()
}

#[test]
fn older_versions_go_once_another_is_registered_but_for_those_that_somebody_needs() {
    let mut cluster = keeping(json!({ "last": 2 }));
    let status = cluster.deployment.as_mut().unwrap().status.as_mut().unwrap();
    status.history = serde_json::from_value(json!([{ "revision": "x", "version": 3, "outcome": "Promoted" }])).unwrap();
    cluster.held_versions = ["penguins-v4".to_owned()].into();
    // Another model of the same number is none of it.
    let mut other = cluster.versions[1].clone();
    other.metadata.name = Some("other-v2".into());
    other.spec.model = "other".into();
    cluster.versions.push(other);
    cluster.settle();
    assert_eq!(numbers(&cluster), [1, 3, 4, 6, 2, 7], "1 is served, to 3 one may go back, 4 is read");
    let register = cluster.stage("register");
    assert_eq!((register.state, register.model_version.as_deref()), (StageState::Succeeded, Some("penguins-v7")));
    let said = "register.keep.last is 2, so that older versions are deleted: penguins-v2, penguins-v5";
    assert_eq!((register.reason.as_deref(), register.message.as_deref()), (None, Some(said)));
    let told = cluster.events.iter().filter(|event| event.reason == "VersionsDeleted").count();
    assert_eq!((told, cluster.condition("Succeeded").unwrap().0), (1, "True"));
    let mut cluster = keeping(json!({ "last": 2, "deployed": false }));
    let status = cluster.deployment.as_mut().unwrap().status.as_mut().unwrap();
    status.history = serde_json::from_value(json!([{ "revision": "x", "version": 3, "outcome": "Promoted" }])).unwrap();
    cluster.settle();
    assert_eq!(numbers(&cluster), [1, 6, 7], "what is served stays whatever is written");
    let mut cluster = keeping(json!({ "last": 20 }));
    cluster.settle();
    assert_eq!((numbers(&cluster).len(), cluster.stage("register").message.as_ref()), (7, None));
}

#[test]
fn a_crash_among_deletions_leaves_none_out() {
    let mut whole = keeping(json!({ "last": 2 }));
    whole.settle();
    for write in 1..=whole.writes {
        for crash in [Crash::Before(write), Crash::After(write)] {
            let mut cluster = keeping(json!({ "last": 2 }));
            cluster.crash = Some(crash);
            cluster.settle();
            assert_eq!(numbers(&cluster), [1, 6, 7], "{crash:?}");
            assert_eq!(cluster.stage("register").message, whole.stage("register").message, "{crash:?}");
        }
    }
}

#[test]
fn a_model_that_its_stages_read_is_in_its_lineage() {
    let mut first = scored(0.95, None);
    first.settle();
    let mut spec = whole_loop();
    spec["stages"]["train"]["inputs"]["teacher"] = json!({ "deployed": "served" });
    spec["stages"]["ingest"]["inputs"] = json!({ "sieve": { "model": { "name": "penguins" } } });
    let better = Fate::Succeeds(json!({ "metrics": { "f1": 0.97 }, "champion": { "f1": 0.95 } }));
    let mut second = next(first, Cluster::new(spec).fate("evaluate", 1, better));
    second.settle();
    assert_eq!(second.condition("Succeeded").unwrap().0, "True", "{:#?}", second.status());
    let artifact = &second.versions[0].spec.artifact;
    let models = &second.versions[1].spec.lineage.as_ref().unwrap().models;
    assert_eq!(models.iter().map(|read| read.name.as_str()).collect::<Vec<_>>(), ["ingest.sieve", "train.teacher"]);
    for read in models {
        assert_eq!(read.model_version.as_deref(), Some("penguins-v1"));
        assert_eq!((&read.uri, read.digest.as_ref()), (&artifact.uri, Some(&artifact.digest)));
    }
}

#[test]
fn a_gate_without_the_metric_that_it_names_fails_its_stage() {
    let mut cluster = Cluster::new(whole_loop());
    cluster.deployment = Some(deployment());
    cluster.settle();
    let status = cluster.stage("evaluate");
    assert_eq!((status.state, status.reason.as_deref()), (StageState::Failed, Some("GateWithoutValue")));
    assert!(status.message.as_ref().unwrap().contains("f1"), "{:?}", status.message);
}

#[test]
fn a_version_whose_name_is_taken_gets_the_next_number() {
    let mut first = scored(0.95, None);
    first.settle();
    // Somebody's own, under the next name, but not of this model as far as its spec says.
    let mut strange = first.versions[0].clone();
    strange.metadata.name = Some("penguins-v2".into());
    strange.metadata.labels = None;
    strange.spec.model = "other".into();
    let mut second = next(first, scored(0.97, Some(0.9)));
    second.versions.push(strange);
    for _ in 0..30 {
        second.reconcile_with_refusals();
        crate::node::tick(&mut second);
    }
    assert_eq!(second.stage("register").model_version.as_deref(), Some("penguins-v3"));
}

#[test]
fn a_version_that_somebody_else_owns_fails_the_stage_and_names_the_owner() {
    let mut cluster = scored(0.95, None);
    cluster.version_owned = true;
    cluster.settle();
    let status = cluster.stage("deploy");
    assert_eq!((status.state, status.reason.as_deref()), (StageState::Failed, Some("FieldOwned")));
    assert!(status.message.as_ref().unwrap().contains("kubectl"), "{:?}", status.message);
}

#[test]
fn what_is_served_of_another_model_is_no_champion() {
    let mut first = scored(0.95, None);
    first.settle();
    let mut other = next(first, scored(0.92, None));
    // It serves version 1 of penguins still; its spec names another model, which has a version 1 too.
    let found = other.deployment.as_mut().unwrap();
    found.spec.model.name = Some("seals".into());
    found.spec.model.version = None;
    let mut seal = other.versions[0].clone();
    seal.metadata.name = Some("seals-v1".into());
    seal.spec.model = "seals".into();
    other.versions.push(seal);
    other.settle();
    assert_eq!(other.stage("evaluate").inputs["champion"].model_version, None);
}

#[test]
fn a_champion_whose_files_changed_fails_the_stage_and_says_what_helps() {
    let mut first = scored(0.95, None);
    first.settle();
    let mut second = next(first, Cluster::new(whole_loop()).fate("evaluate", 1, Fate::LosesInput("champion")));
    second.settle();
    let evaluate = second.stage("evaluate");
    assert_eq!((evaluate.state, evaluate.reason.as_deref()), (StageState::Failed, Some("InputLost")));
    let message = evaluate.message.as_ref().unwrap();
    for words in ["ModelVersion penguins-v1", "ModelDeployment served", "let served serve another version"] {
        assert!(message.contains(words), "{message}");
    }
    let good = Fate::Succeeds(json!({ "metrics": { "f1": 0.95 } }));
    let mut third = Cluster::new(whole_loop()).fate("evaluate", 1, Fate::LosesInput("model")).fate("evaluate", 2, good);
    third.deployment = Some(deployment());
    third.settle();
    assert_eq!(third.stage("evaluate").state, StageState::Succeeded, "what the run made itself it makes again");
    assert_eq!(third.stage("train").remade, 1);
}

#[test]
fn a_deployment_that_is_not_there_is_waited_for_until_it_is() {
    let mut cluster = scored(0.95, None);
    cluster.deployment = None;
    for _ in 0..30 {
        cluster.reconcile();
        crate::node::tick(&mut cluster);
    }
    let status = cluster.stage("deploy");
    assert_eq!((status.state, status.reason.as_deref()), (StageState::Pending, Some("ModelDeploymentNotFound")));
    cluster.deployment = Some(deployment());
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
}

#[test]
fn a_deployment_that_will_be_missed_is_told_of_before_anything_waits_for_it() {
    let mut cluster = Cluster::new(whole_loop()).fate("ingest", 1, Fate::Hangs);
    let wait = cluster.reconcile().unwrap();
    assert_eq!(cluster.condition("Accepted").unwrap().2, "", "it may have been applied together with the run");
    cluster.pass_time(wait);
    cluster.reconcile();
    let message = "there is no ModelDeployment served yet: stage `deploy` will wait for it (there is none)";
    assert_eq!(cluster.condition("Accepted").unwrap(), ("True", "Accepted", message));
    let told = |cluster: &Cluster| cluster.events.iter().filter(|event| event.message == message).count();
    assert_eq!(told(&cluster), 1);
    cluster.pass_time(std::time::Duration::from_mins(1));
    cluster.reconcile();
    assert_eq!(told(&cluster), 1, "said once");
    // Others that come are no news, and no write.
    let (writes, events) = (cluster.writes, cluster.events.len());
    cluster.others = vec!["other".into(), "serve".into()];
    cluster.reconcile();
    assert_eq!((cluster.writes, cluster.events.len()), (writes, events));
    cluster.deployment = Some(deployment());
    cluster.reconcile();
    assert_eq!(cluster.condition("Accepted").unwrap().2, "");
}

#[test]
fn a_deployment_whose_name_is_a_slip_is_told_with_what_is_meant_and_when_the_wait_ends() {
    let mut cluster = scored(0.95, None);
    cluster.deployment = None;
    cluster.others = vec!["serve".into()];
    for _ in 0..30 {
        cluster.reconcile();
        crate::node::tick(&mut cluster);
    }
    let message = cluster.stage("deploy").message.clone().unwrap();
    let said = "there is no ModelDeployment served: did you mean serve? Then correct the pipeline and start a new run (gives up at 01:";
    assert!(message.starts_with(said), "{message}");
    // Others that come are no news, and no write.
    let (writes, events) = (cluster.writes, cluster.events.len());
    cluster.others.push("other".into());
    cluster.reconcile();
    assert_eq!((cluster.writes, cluster.events.len()), (writes, events));
    cluster.others.clear();
    cluster.reconcile();
    assert!(
        cluster
            .stage("deploy")
            .message
            .as_ref()
            .unwrap()
            .starts_with("there is no ModelDeployment served: apply one (gives up")
    );
}

#[test]
fn many_that_are_missing_are_counted_and_told_anew_only_when_they_change() {
    let champion = |n: usize| json!({ "from": null, "deployed": format!("ghost-{n:02}") });
    let inputs =
        |from: usize| (from..from + 10).map(|n| (format!("c{n}"), champion(n))).collect::<serde_json::Map<_, _>>();
    let mut stages = json!({});
    for n in 0..3 {
        stages[format!("s{n}")] = stage(json!({ "inputs": inputs(10 * n) }));
    }
    let mut cluster = Cluster::new(pipeline(stages));
    let wait = cluster.reconcile().unwrap();
    cluster.pass_time(wait);
    cluster.reconcile();
    let told =
        |cluster: &Cluster| cluster.events.iter().filter(|event| event.reason == "ModelDeploymentNotFound").count();
    let message = cluster.condition("Accepted").unwrap().2.to_owned();
    assert!(
        message.contains("ghost-04") && !message.contains("ghost-05 ") && message.contains("and 25 more"),
        "{message}"
    );
    assert_eq!(told(&cluster), 1);
    cluster.others = (0..20).map(|n| format!("ghosts{n}")).collect();
    cluster.reconcile();
    assert_eq!(told(&cluster), 1, "what there is instead is no news");
    cluster.others = vec!["ghost-07".into()];
    cluster.reconcile();
    assert_eq!(told(&cluster), 2);
    assert!(cluster.condition("Accepted").unwrap().2.contains("and 24 more"));
}

#[test]
fn a_deployment_of_another_model_fails_the_stage() {
    let mut cluster = scored(0.95, None);
    cluster.deployment.as_mut().unwrap().spec.model.name = Some("seals".into());
    cluster.settle();
    assert_eq!(cluster.stage("deploy").reason.as_deref(), Some("WrongModel"));
}

#[test]
fn no_version_is_set_where_the_model_is_named_by_its_address() {
    let mut cluster = Cluster::new(pipeline(json!({
        "train": stage(json!({ "outputs": { "model": { "type": "model" } } })),
        "register": { "register": { "model": "penguins", "from": "train.model" } },
        "deploy": { "deploy": { "modelDeployment": "served", "version": "register" } },
    })));
    let mut served = deployment();
    served.spec.model = unregistered();
    cluster.deployment = Some(served);
    cluster.settle();
    let status = cluster.stage("deploy");
    assert_eq!((status.state, status.reason.as_deref()), (StageState::Failed, Some("WrongModel")));
    let message = status.message.clone().unwrap();
    assert!(
        message.contains("its spec.model.uri") && message.contains("set spec.model.name of served to penguins"),
        "{message}"
    );
    assert_eq!(cluster.deployment.unwrap().spec.model, unregistered());
}

#[test]
fn what_is_served_and_not_registered_is_no_input_and_no_missing_champion() {
    for optional in [false, true] {
        let input = json!({ "champion": { "deployed": "served", "optional": optional } });
        let mut cluster = Cluster::new(pipeline(json!({ "evaluate": stage(json!({ "inputs": input })) })));
        let mut served = deployment();
        served.spec.model = unregistered();
        cluster.deployment = Some(served);
        cluster.settle();
        let status = cluster.stage("evaluate");
        assert_eq!((status.state, status.reason.as_deref()), (StageState::Failed, Some("NotRegistered")));
        let message = status.message.clone().unwrap();
        assert!(message.contains("write uri: s3://lake/models/m instead of deployed"), "{message}");
    }
}

#[test]
fn a_pipeline_never_goes_back_to_an_older_version() {
    let mut cluster = scored(0.95, None);
    cluster.deployment.as_mut().unwrap().spec.model.version = Some(7);
    cluster.settle();
    assert_eq!(cluster.stage("deploy").reason.as_deref(), Some("Superseded"));
    assert_eq!(cluster.deployment.as_ref().unwrap().spec.model.version, Some(7));
}
