//! What an attempt's Job looks like: what Pod Security asks for, what the agent is told, what the kubelet may expand.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::super::Observed;
use super::*;
use crate::api::{MLPipelineRun, OnFailure, OutputStatus, RunCode, StageState};
use crate::config::Config;
use crate::pipeline::{Frozen, FrozenKind, FrozenStage};

fn stage(container: &Value) -> FrozenContainer {
    let mut stage = json!({
        "container": { "image": "trainer:1", "command": ["train"] },
        "inputs": { "rows": { "from": "ingest.data" } },
        "outputs": { "model": { "type": "model" } },
        "retry": { "limit": 0 },
        "timeoutSeconds": 60,
        "pendingTimeoutSeconds": 600,
    });
    for (key, value) in container.as_object().unwrap() {
        stage["container"][key] = value.clone();
    }
    serde_json::from_value(stage).unwrap()
}

/// The Job of the second attempt of stage `train`, with a claim unless `store` is false.
fn built(stage: &FrozenContainer, store: bool, templates: &Observed) -> Result<Job, Hindrance> {
    let claim = json!({ "pvc": { "claimName": "artifacts" } });
    built_in(stage, store.then_some(claim), "pvc://artifacts/runs/r/ingest/a", templates)
}

/// The same in any store, with an input that lies at `uri`.
fn built_in(stage: &FrozenContainer, store: Option<Value>, uri: &str, templates: &Observed) -> Result<Job, Hindrance> {
    built_with(None, stage, store, uri, templates)
}

/// The same of a run that has code.
fn built_with(
    code: Option<RunCode>,
    stage: &FrozenContainer,
    store: Option<Value>,
    uri: &str,
    templates: &Observed,
) -> Result<Job, Hindrance> {
    let mut run = MLPipelineRun::default();
    run.metadata.name = Some("penguins-1".into());
    run.metadata.uid = Some("0123456789abcdef".into());
    run.metadata.namespace = Some("team".into());
    run.spec.code = code;
    let mut frozen = Frozen {
        stages: [(
            "train".to_owned(),
            FrozenStage {
                needs: vec!["ingest".into()],
                bonds: BTreeMap::new(),
                when: None,
                on_failure: OnFailure::Stop,
                finally: false,
                locks: BTreeMap::new(),
                kind: FrozenKind::Container(Box::new(stage.clone())),
            },
        )]
        .into(),
        ..Frozen::default()
    };
    frozen.store = store.map(|store| serde_json::from_value(store).unwrap());
    let params = BTreeMap::from([("word".to_owned(), json!("$(HOME) $[[ run.uid ]]"))]);
    let config = Config {
        agent_image: "agent:1".into(),
        stage_images: ["data:1".to_owned()].into(),
        image_pull_policy: Some("Always".into()),
        job_ttl_seconds: 99,
        ..Config::default()
    };
    let output = OutputStatus { uri: uri.into(), size: 5, ..OutputStatus::default() };
    let outputs = [("data".to_owned(), output)].into();
    let ingest = StageStatus { state: StageState::Succeeded, outputs, ..StageStatus::default() };
    let stages = Stages::from([("ingest".to_owned(), ingest)]);
    let status = StageStatus { attempts: 2, ..StageStatus::default() };
    let pass = Pass {
        run: &run,
        observed: templates,
        config: &config,
        now: Timestamp::UNIX_EPOCH,
        frozen: &frozen,
        frozen_name: "penguins-0",
        params: &params,
        end: None,
        held: false,
        waits: None,
    };
    build(&pass, "train", stage, &status, &stages)
}

fn pod(job: &Job) -> PodSpec {
    job.spec.clone().unwrap().template.spec.unwrap()
}

fn task(main: &PodContainer) -> String {
    main.env.iter().flatten().find(|var| var.name == TASK_ENV).unwrap().value.clone().unwrap()
}

#[test]
fn a_job_is_one_attempt_of_one_run() {
    let job = built(&stage(&json!({})), true, &Observed::default()).unwrap();
    assert_eq!(job.metadata.name.as_deref(), Some("penguins-1-train-2"));
    let owner = &job.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
        ("MLPipelineRun", "0123456789abcdef", Some(true))
    );
    let spec = job.spec.as_ref().unwrap();
    assert_eq!((spec.backoff_limit, spec.ttl_seconds_after_finished), (Some(0), Some(99)));
    assert_eq!(spec.pod_replacement_policy.as_deref(), Some("Failed"));
    assert!(spec.active_deadline_seconds.unwrap() > 600 + 60 + 30);
    let labels = spec.template.metadata.as_ref().unwrap().labels.as_ref().unwrap();
    assert_eq!(labels[names::ATTEMPT_LABEL], "2");
    assert_eq!(labels[names::RUN_UID_LABEL], "0123456789abcdef");
    // An autoscaler of the cluster that takes nodes away waits for its end.
    let annotations = spec.template.metadata.as_ref().unwrap().annotations.as_ref().unwrap();
    assert_eq!(annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"], "false");
    assert_eq!(pod(&job).restart_policy.as_deref(), Some("Never"));
}

#[test]
fn every_container_is_what_pod_security_restricted_asks_for() {
    let pod = pod(&built(&stage(&json!({})), true, &Observed::default()).unwrap());
    let security = pod.security_context.as_ref().unwrap();
    assert_eq!((security.run_as_non_root, security.fs_group), (Some(true), Some(65532)));
    assert_eq!(pod.automount_service_account_token, Some(false));
    for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
        let security = container.security_context.as_ref().unwrap();
        assert_eq!(security.allow_privilege_escalation, Some(false));
        assert_eq!(security.capabilities.as_ref().unwrap().drop, Some(vec!["ALL".to_owned()]));
    }
}

#[test]
fn the_store_is_mounted_by_sub_path_and_inputs_read_only() {
    let pod = pod(&built(&stage(&json!({})), true, &Observed::default()).unwrap());
    let mounts = pod.containers[0].volume_mounts.as_ref().unwrap();
    let at = |path: &str| mounts.iter().find(|mount| mount.mount_path == path).unwrap();
    let own = at("/millrace/stage");
    assert_eq!((own.sub_path.as_deref(), own.read_only), (Some("runs/penguins-1-01234567/train"), None));
    let rows = at("/millrace/inputs/rows");
    assert_eq!((rows.sub_path.as_deref(), rows.read_only), (Some("runs/r/ingest/a"), Some(true)));
    assert_eq!(own.name, rows.name, "the same claim is one volume");
    let claims: Vec<_> = pod.volumes.iter().flatten().filter(|v| v.persistent_volume_claim.is_some()).collect();
    assert_eq!(claims.len(), 1);
}

#[test]
fn an_input_of_another_claim_has_a_volume_of_its_own() {
    let pod = pod(&built(&stage(&json!({})), false, &Observed::default()).unwrap());
    let volumes = pod.volumes.as_ref().unwrap();
    assert!(volumes.iter().any(|v| v.empty_dir.is_some() && v.name == "millrace-store"));
    assert!(volumes.iter().any(|v| v.persistent_volume_claim.as_ref().is_some_and(|c| c.claim_name == "artifacts")));
}

#[test]
fn in_a_store_of_objects_the_agent_brings_inputs_and_has_the_credentials_in_its_environment() {
    let store = json!({ "s3": { "bucket": "lake", "prefix": "a", "secretRef": { "name": "keys" } } });
    let job =
        built_in(&stage(&json!({})), Some(store), "s3://lake/a/runs/r/ingest/outputs/data/ab", &Observed::default());
    let pod = pod(&job.unwrap());
    let main = &pod.containers[0];
    assert!(pod.volumes.iter().flatten().all(|volume| volume.persistent_volume_claim.is_none()));
    for path in ["/millrace/stage", "/millrace/inputs"] {
        let mount = main.volume_mounts.iter().flatten().find(|mount| mount.mount_path == path).unwrap();
        let volume = pod.volumes.iter().flatten().find(|volume| volume.name == mount.name).unwrap();
        assert!(volume.empty_dir.is_some() && mount.sub_path.is_none(), "{path}");
    }
    let task: Task = serde_json::from_str(&task(main)).unwrap();
    let folder = task.folder.unwrap();
    assert_eq!((folder.uri().as_str(), task.durable), ("s3://lake/a/runs/penguins-1-01234567/train", false));
    let source = task.inputs["rows"].source.clone().unwrap();
    assert_eq!(source.uri(), "s3://lake/a/runs/r/ingest/outputs/data/ab");
    // Both are reached with the same Secret, which stands in the pod by its name alone.
    let [from] = main.env_from.as_ref().unwrap().as_slice() else { panic!("{:?}", main.env_from) };
    assert_eq!(from.secret_ref.as_ref().unwrap().name, "keys");
    assert_eq!(from.prefix, source.store.credentials);
    assert_eq!(from.prefix, folder.store.credentials);
    assert!(pod.init_containers.iter().flatten().all(|init| init.env_from.is_none()));
}

fn code() -> RunCode {
    RunCode { digest: format!("sha256:{}", "4b".repeat(32)), size: 10, ..RunCode::default() }
}

#[test]
fn code_is_mounted_from_a_claim_read_only_beside_the_folder_that_it_is_unpacked_to() {
    let (stage, hex) = (stage(&json!({})), "4b".repeat(32));
    let claim = Some(json!({ "pvc": { "claimName": "artifacts" } }));
    let job = built_with(Some(code()), &stage, claim.clone(), "pvc://artifacts/a", &Observed::default()).unwrap();
    let pod = pod(&job);
    let mounts = pod.containers[0].volume_mounts.as_ref().unwrap();
    let at = |path: &str| mounts.iter().find(|mount| mount.mount_path == path).unwrap();
    let archive = at("/millrace/code/archive");
    assert_eq!((archive.sub_path.as_deref(), archive.read_only), (Some(format!("code/{hex}").as_str()), Some(true)));
    assert_eq!(archive.name, at("/millrace/stage").name, "the same claim is one volume");
    let work = pod.volumes.iter().flatten().find(|volume| volume.name == at("/millrace/code/work").name).unwrap();
    assert!(work.empty_dir.is_some());
    let told: Task = serde_json::from_str(&task(&pod.containers[0])).unwrap();
    assert_eq!(told.code.map(|code| (code.digest, code.source)), Some((code().digest, None)));
    // Whoever does not want it, and a StageTemplate unless somebody says so.
    for (more, takes) in [
        (json!({ "code": false }), false),
        (json!({ "template": "t" }), false),
        (json!({ "template": "t", "code": true }), true),
    ] {
        let mut other = serde_json::to_value(&stage).unwrap();
        other.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let other: FrozenContainer = serde_json::from_value(other).unwrap();
        let job = built_with(Some(code()), &other, claim.clone(), "pvc://artifacts/a", &Observed::default()).unwrap();
        assert_eq!(serde_json::to_string(&job).unwrap().contains("/millrace/code/"), takes, "{more}");
    }
}

#[test]
fn code_in_a_bucket_is_the_agents_to_bring() {
    let store = json!({ "s3": { "bucket": "lake", "prefix": "a", "secretRef": { "name": "keys" } } });
    let job =
        built_with(Some(code()), &stage(&json!({})), Some(store), "s3://lake/a/x/y", &Observed::default()).unwrap();
    let pod = pod(&job);
    let told: Task = serde_json::from_str(&task(&pod.containers[0])).unwrap();
    let source = told.code.unwrap().source.unwrap();
    assert_eq!(source.uri(), format!("s3://lake/a/code/{}/files.tar", "4b".repeat(32)));
    let from = pod.containers[0].env_from.as_ref().unwrap();
    assert!(from.iter().any(|from| from.prefix == source.store.credentials), "{from:?}");
}

#[test]
fn an_address_is_handed_over_and_not_mounted() {
    let mut stage = stage(&json!({ "args": ["$[[ inputs.lake ]]", "$[[ inputs.rows ]]"] }));
    let input = |value: Value| serde_json::from_value(value).unwrap();
    stage.inputs.insert("lake".into(), input(json!({ "uri": "s3://lake/$[[ run.name ]]/", "mode": "Uri" })));
    stage.inputs.insert("rows".into(), input(json!({ "from": "ingest.data", "mode": "Uri" })));
    let store = json!({ "s3": { "bucket": "lake" } });
    let job = built_in(&stage, Some(store), "s3://lake/runs/r/x", &Observed::default()).unwrap();
    let pod = pod(&job);
    let main = &pod.containers[0];
    assert_eq!(main.args.as_ref().unwrap()[3..], ["s3://lake/penguins-1/", "s3://lake/runs/r/x"]);
    let told: Task = serde_json::from_str(&task(main)).unwrap();
    assert!(told.inputs.is_empty());
    assert_eq!(told.handed.values().collect::<Vec<_>>(), ["s3://lake/penguins-1/", "s3://lake/runs/r/x"]);
    let found =
        built_in(&stage, Some(json!({ "pvc": { "claimName": "c" } })), "pvc://c/runs/r/x", &Observed::default());
    let Err(Hindrance::Fail(words)) = found else { panic!("{found:?}") };
    assert!(words.message.contains("has no address that a program could use"), "{}", words.message);
}

#[test]
fn an_image_that_carries_the_agent_needs_no_init_container() {
    let with = pod(&built(&stage(&json!({})), true, &Observed::default()).unwrap());
    assert_eq!(with.init_containers.as_ref().unwrap()[0].image.as_deref(), Some("agent:1"));
    assert_eq!(with.containers[0].command, Some(vec!["/millrace/bin/millrace-agent".to_owned()]));
    let own = stage(&json!({ "agent": { "path": "/agent" } }));
    let without = pod(&built(&own, true, &Observed::default()).unwrap());
    assert_eq!(without.init_containers, None);
    assert_eq!(without.containers[0].command, Some(vec!["/agent".to_owned()]));
}

#[test]
fn what_was_rendered_never_expands_again() {
    let stage = stage(&json!({
        "args": ["$[[ params.word ]]", "$[[ inputs.rows ]]", "$[[ outputs.model ]]"],
        "env": { "WORD": { "value": "$[[ params.word ]]" } },
    }));
    let pod = pod(&built(&stage, true, &Observed::default()).unwrap());
    let main = &pod.containers[0];
    let args: Vec<&str> = main.args.iter().flatten().map(String::as_str).collect();
    let output = "/millrace/stage/attempts/2/outputs/model";
    assert_eq!(args, ["run", "--", "train", "$$(HOME) $[[ run.uid ]]", "/millrace/inputs/rows", output]);
    let word = main.env.iter().flatten().find(|var| var.name == "WORD").unwrap();
    assert_eq!(word.value.as_deref(), Some("$$(HOME) $[[ run.uid ]]"));
}

#[test]
fn the_agent_gets_its_task_with_a_script_that_the_kubelet_leaves_alone() {
    let mut with_script = stage(&json!({ "script": "#!/bin/sh\necho $(date)\n", "terminationGracePeriod": "90s" }));
    with_script.container.command = None;
    let pod = pod(&built(&with_script, true, &Observed::default()).unwrap());
    let text = task(&pod.containers[0]);
    assert!(text.contains("echo $$(date)"), "{text}");
    let task: Task = serde_json::from_str(&text.replace("$$(", "$(")).unwrap();
    assert_eq!(task.script.as_deref(), Some("#!/bin/sh\necho $(date)\n"));
    assert_eq!((task.attempt, task.timeout_seconds, task.grace_seconds, task.durable), (2, Some(60), 90, true));
    assert_eq!(task.inputs["rows"].path, "/millrace/inputs/rows");
    // The agent outlives its program, so that it can report.
    assert!(pod.termination_grace_period_seconds.unwrap() > 90);
}

#[test]
fn a_pod_template_that_is_not_there_is_waited_for_and_named() {
    let wanted = || stage(&json!({ "podTemplate": "rdma" }));
    let Err(Hindrance::Wait(words)) = built(&wanted(), true, &Observed::default()) else { panic!("built") };
    assert_eq!(words.reason, "PodTemplateNotFound");
    // A container's image is required in a PodTemplate, and the apiserver derives a pull policy from it.
    let main = json!({ "name": "main", "image": "x", "imagePullPolicy": "Always", "args": ["y"], "terminationMessagePath": "/z" });
    let side = json!({ "name": "side", "image": "side:1" });
    let template = serde_json::from_value(json!({
        "metadata": { "name": "rdma" },
        "template": { "metadata": { "annotations": { "net": "ib" } }, "spec": { "containers": [side, main] } },
    }));
    let observed =
        Observed { pod_templates: [("rdma".to_owned(), Arc::new(template.unwrap()))].into(), ..Observed::default() };
    let job = built(&wanted(), true, &observed).unwrap();
    assert_eq!(
        job.spec.as_ref().unwrap().template.metadata.as_ref().unwrap().annotations.as_ref().unwrap()["net"],
        "ib"
    );
    let pod = pod(&job);
    let [main] = pod.containers.as_slice() else { panic!("{:?}", pod.containers) };
    assert_eq!((main.image.as_deref(), main.image_pull_policy.as_ref()), (Some("trainer:1"), None));
    assert_eq!((main.args.as_ref().unwrap()[0].as_str(), main.termination_message_path.as_ref()), ("run", None));
    // It ends with the stage.
    let side = pod.init_containers.iter().flatten().find(|container| container.name == "side").unwrap();
    assert_eq!(side.restart_policy.as_deref(), Some("Always"));
}

#[test]
fn the_pull_policy_of_the_installation_is_for_millraces_images_only() {
    for (image, policy) in [("trainer:1", None), ("data:1", Some("Always"))] {
        let job = built(&stage(&json!({ "image": image })), true, &Observed::default()).unwrap();
        let pod = job.spec.unwrap().template.spec.unwrap();
        assert_eq!(pod.containers[0].image_pull_policy.as_deref(), policy, "{image}");
        assert_eq!(pod.init_containers.unwrap()[0].image_pull_policy.as_deref(), Some("Always"));
    }
}

#[test]
fn what_linux_does_not_take_fails_before_a_pod_is_made_and_names_the_field() {
    let longest = 131_071;
    let text = |length: usize| "x".repeat(length);
    let at = "spec.stages.train.container.";
    for (container, field) in [
        (json!({ "command": ["c", text(longest + 1)] }), "command[1]"),
        (json!({ "args": [text(longest + 1)] }), "args[0]"),
        (json!({ "env": { "AB": { "value": text(longest - 2) } } }), "env.AB.value"),
        (json!({ "command": null, "script": text(longest + 1) }), "script"),
        // As JSON each quote has two bytes, and the task has more than the script.
        (json!({ "command": null, "script": "\"".repeat(longest / 2) }), "script"),
    ] {
        let built = built(&stage(&container), true, &Observed::default());
        let Err(Hindrance::Fail(words)) = built else { panic!("{field} was made") };
        assert_eq!(words.reason, "StageTooLarge");
        assert!(words.message.starts_with(&format!("{at}{field}: ")), "{}", words.message);
        assert!(words.message.ends_with("hand it over as a file"), "{}", words.message);
    }
    for container in [
        json!({ "command": ["c", text(longest)] }),
        json!({ "args": [text(longest), text(longest)] }),
        json!({ "env": { "AB": { "value": text(longest - 3) } } }),
        json!({ "command": null, "script": text(longest - 1000) }),
    ] {
        assert!(built(&stage(&container), true, &Observed::default()).is_ok());
    }
}

#[test]
fn what_a_template_makes_too_long_is_told_with_the_template() {
    let mut stage = stage(&json!({ "args": ["$[[ params.word ]]"] }));
    stage.template = Some("fit".into());
    stage.template_params = serde_json::from_value(json!({ "word": { "type": "string" } })).unwrap();
    stage.with = [("word".to_owned(), json!("x".repeat(131_072)))].into();
    let Err(Hindrance::Fail(words)) = built(&stage, true, &Observed::default()) else { panic!("it was made") };
    assert!(
        words.message.starts_with("stage `train`: the StageTemplate fit's spec.container.args[0]: "),
        "{}",
        words.message
    );
}
