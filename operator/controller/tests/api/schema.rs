//! What the apiserver accepts and refuses of each kind, with the words that a person gets to read.

use serde_json::{Value, json};

use super::support::{apply_dry, change, change_status, client, create, whoami, with_temp_ns};

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "millrace.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

/// A spec of each kind that is accepted.
fn valid(kind: &str) -> Value {
    let container = json!({ "image": "busybox", "command": ["true"] });
    match kind {
        "MLPipeline" => json!({
            "params": { "rate": { "type": "number", "default": 0.2, "minimum": 0, "maximum": 1 } },
            "store": { "pvc": { "claimName": "artifacts" } },
            "stages": {
                "train": { "container": container, "outputs": { "model": { "type": "model" } }, "timeout": "1h30m" },
                "register": { "register": { "model": "m", "from": "train.model", "keep": { "last": 3, "deployed": false } } },
                "deploy": { "deploy": { "modelDeployment": "m", "version": "register" } },
            },
        }),
        "MLPipelineRun" => {
            json!({ "pipelineRef": { "name": "p" }, "params": { "rate": 0.1, "names": ["a", 1, null] } })
        }
        "StageTemplate" => json!({ "params": { "x": { "type": "integer" } }, "container": container }),
        "ModelVersion" => json!({
            "model": "m", "version": 1, "format": "onnx",
            "artifact": { "uri": "pvc://artifacts/runs/r/train", "digest": format!("sha256:{}", "a".repeat(64)), "size": 10 },
            "metrics": { "f1": 0.9 },
            // As a person writes it.
            "lineage": {
                "run": "r", "stage": "train", "images": { "train": "sha256:b" },
                "datasets": [{ "uri": "s3://lake/a", "digest": "sha256:c" }, { "uri": "s3://lake/b", "digest": "sha256:d" }],
            },
        }),
        "ModelDeployment" => json!({
            "model": { "name": "m" },
            "server": { "batching": { "maxSize": 8 }, "resources": { "limits": { "cpu": 1, "memory": "512Mi" } } },
        }),
        "InferenceGraph" => json!({
            "root": "main",
            "timeout": "30s",
            "nodes": {
                "main": { "sequence": { "steps": [
                    { "name": "a", "model": "a" },
                    { "name": "b", "node": "pick", "when": "answer.x > 1", "input": "Both", "rename": { "p": "q" }, "dependency": "Soft" },
                ] } },
                "pick": { "switch": { "steps": [{ "name": "a", "when": "request.x > 1", "model": "a", "path": "/v1" }, { "name": "b", "node": "all" }] } },
                "all": { "ensemble": { "answer": "Tensors", "steps": [{ "name": "a", "model": "a", "timeout": "1s" }, { "name": "b", "node": "split" }] } },
                "split": { "splitter": { "steps": [{ "name": "a", "model": "a", "weight": 90 }, { "name": "b", "model": "b", "weight": 10 }] } },
            },
        }),
        other => panic!("no kind {other}"),
    }
}

/// A change to a model by its address, and of that.
fn at(change: &Value) -> Value {
    let digest = format!("sha256:{}", "a".repeat(64));
    let mut model = json!({ "name": null, "uri": "s3://lake/m", "format": "onnx", "digest": digest });
    model.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    model
}

/// Lays a change over a valid spec; null takes a field away.
fn merged(base: &mut Value, change: &Value) {
    match (base, change) {
        (Value::Object(base), Value::Object(change)) => {
            for (key, value) in change {
                if value.is_null() {
                    base.remove(key);
                } else {
                    merged(base.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (base, change) => *base = change.clone(),
    }
}

/// Tries a valid spec with each change, and expects these words in the refusal.
async fn refuses(kind: &str, cases: &[(Value, &str)]) {
    let client = client().await;
    let base = object(kind, "a", &valid(kind));
    create(&client, "default", &base, true).await.unwrap_or_else(|e| panic!("the valid {kind} is refused: {e}"));
    for (change, words) in cases {
        let mut changed = base.clone();
        merged(&mut changed["spec"], change);
        match create(&client, "default", &changed, true).await {
            Ok(_) => panic!("accepted: {change}"),
            Err(message) => assert!(message.contains(words), "{change}\nexpected: {words}\nfound: {message}"),
        }
    }
}

#[tokio::test]
async fn a_graph_that_cannot_be_meant_is_refused_with_what_to_write_instead() {
    let node = |kind: &str, steps: Value| json!({ "root": "main", "nodes": { "main": { "sequence": null, kind: { "steps": steps } } } });
    let step = |with: Value| node("ensemble", json!([with]));
    refuses(
        "InferenceGraph",
        &[
            (json!({ "nodes": null }), "spec.nodes: Required value"),
            (json!({ "root": null }), "root is needed where there are several nodes"),
            (json!({ "root": "other" }), "root is none of nodes"),
            (json!({ "timeout": "soon" }), "should match"),
            (json!({ "maxBodyBytes": 0 }), "should be greater than or equal to 1"),
            (
                json!({ "security": { "maxBodyBytes": 1 } }),
                "security.maxBodyBytes is of a model: write maxBodyBytes of the graph",
            ),
            (
                json!({ "nodes": { "main": { "switch": { "steps": [{ "name": "a", "model": "a" }] } } } }),
                "a node is exactly one of sequence, switch",
            ),
            (json!({ "nodes": { "main": { "sequence": null } } }), "a node is exactly one of sequence, switch"),
            (step(json!({ "name": "a" })), "a step asks exactly one of model and node"),
            (step(json!({ "name": "a", "model": "a", "node": "all" })), "a step asks exactly one of model and node"),
            (step(json!({ "name": "a", "node": "all", "path": "/x" })), "path is of a model"),
            (step(json!({ "name": "a", "model": "a", "path": "x" })), "should match"),
            (step(json!({ "name": "a", "model": "a", "weight": 1 })), "unknown field"),
            (node("ensemble", json!([])), "should have at least 1 items"),
            (
                node("ensemble", json!([{ "name": "a", "model": "a" }, { "name": "a", "model": "b" }])),
                "Duplicate value",
            ),
            (
                node("switch", json!([{ "name": "a", "model": "a" }, { "name": "b", "model": "b" }])),
                "what stands behind a step without when is never taken",
            ),
            (
                node("switch", json!([{ "name": "a", "model": "a" }, { "name": "b", "model": "b", "when": "true" }])),
                "what stands behind a step without when is never taken",
            ),
            (node("splitter", json!([{ "name": "a", "model": "a", "weight": 99 }])), "they must add up to 100"),
            (node("splitter", json!([{ "name": "a", "model": "a" }])), "weight: Required value"),
            (
                node("splitter", json!([{ "name": "a", "model": "a", "weight": 101 }])),
                "should be less than or equal to 100",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_stage_that_cannot_be_meant_is_refused_with_what_to_write_instead() {
    let stage = |change: Value| json!({ "stages": { "train": change } });
    refuses(
        "MLPipeline",
        &[
            (json!({ "stages": null }), "spec.stages: Required value"),
            (json!({ "stagez": {} }), "unknown field \"spec.stagez\""),
            (stage(json!({ "timeout": 5 })), "must be of type string"),
            (stage(json!({ "timeout": "soon" })), "should match"),
            (
                stage(json!({ "uses": "t" })),
                "a stage is exactly one of uses, container, pipeline, approve, register, deploy and report",
            ),
            (stage(json!({ "container": null, "outputs": null, "timeout": null })), "a stage is exactly one of"),
            (stage(json!({ "with": { "a": 1 } })), "with and overrides belong to a stage with uses"),
            (
                stage(json!({ "container": null, "timeout": null, "uses": "t" })),
                "outputs belong to a stage with container",
            ),
            (
                json!({ "stages": { "register": { "timeout": "1h" } } }),
                "gate, timeout and pendingTimeout belong to a stage with uses or container",
            ),
            (
                json!({ "stages": { "register": { "retry": { "limit": 1 } } } }),
                "inputs and retry belong to a stage with uses, container or pipeline",
            ),
            (
                json!({ "inputs": { "a": { "optional": true, "default": { "uri": "https://x/y" } } } }),
                "what has a default is always there",
            ),
            (json!({ "inputs": { "a": { "default": { "uri": "ftp://x/y" } } } }), "should match"),
            (
                json!({ "stages": { "register": { "forEach": { "items": [1] } } } }),
                "forEach belongs to a stage with uses, container or pipeline",
            ),
            (
                json!({ "stages": { "each": { "forEach": { "from": "a.b" }, "pipeline": { "name": "p" } } } }),
                "with pipeline, forEach has items or a range",
            ),
            (json!({ "stages": { "register": { "cache": {} } } }), "cache belongs to a stage with uses or container"),
            (
                json!({ "stages": { "register": { "register": { "keep": { "last": 0 } } } } }),
                "greater than or equal to 1",
            ),
            (json!({ "stages": { "register": { "register": { "keep": { "last": null } } } } }), "Required value"),
            (stage(json!({ "cache": { "mode": "On" } })), "Unsupported value"),
            (stage(json!({ "cache": { "maxAge": 60 } })), "must be of type string"),
            (stage(json!({ "retry": { "limit": 1000 } })), "less than or equal to 100"),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_input_that_cannot_be_meant_is_refused_with_what_to_write_instead() {
    let stage = |change: Value| json!({ "stages": { "train": change } });
    refuses(
        "MLPipeline",
        &[
            (
                stage(json!({ "inputs": { "a": { "deployed": "m", "model": { "name": "m" } } } })),
                "exactly one of from, uri, table, deployed, model and input is required",
            ),
            (stage(json!({ "inputs": { "a": { "model": {} } } })), "model.name: Required value"),
            (stage(json!({ "inputs": { "a": { "model": { "name": "m", "version": 0 } } } })), "greater than or equal to 1"),
            (stage(json!({ "inputs": { "a": {} } })), "exactly one of from, uri, table, deployed, model and input is required"),
            (
                stage(json!({ "inputs": { "a": { "from": "b.c", "uri": "https://x/y" } } })),
                "exactly one of from, uri, table, deployed, model and input is required",
            ),
            (stage(json!({ "inputs": { "a": { "uri": "ftp://x/y" } } })), "should match"),
            (
                stage(json!({ "inputs": { "a": { "from": "b.c", "maxAge": "1h" } } })),
                "digest, maxAge and access belong to an input with uri",
            ),
            (
                stage(json!({ "inputs": { "a": { "uri": "https://x/y", "optional": true } } })),
                "optional belongs to an input with from, deployed, model or input",
            ),
            (
                stage(json!({ "inputs": { "a": { "uri": "s3://x/y", "mode": "Uri", "maxAge": "1h" } } })),
                "with mode: Uri nothing is read",
            ),
            (
                stage(json!({ "inputs": { "a": { "uri": "s3://x/y", "maxAge": "1h", "digest": format!("sha256:{}", "0".repeat(64)) } } })),
                "what has a digest does not age",
            ),
            (stage(json!({ "inputs": { "a": { "uri": "s3://x/y", "digest": "md5:0" } } })), "should match"),
            (
                json!({ "stages": { "register": { "code": true } } }),
                "code belongs to a stage with uses or container",
            ),
            (
                stage(json!({ "inputs": { "a": { "deployed": "d", "default": { "from": "b.c" } } } })),
                "default belongs to an input with from",
            ),
            (
                stage(json!({ "inputs": { "a": { "from": "b.c", "table": { "uri": "s3://a/b" } } } })),
                "exactly one of from, uri, table, deployed, model and input is required",
            ),
            (
                stage(json!({ "inputs": { "a": { "window": "1d", "table": { "uri": "s3://a/b" } } } })),
                "window belongs to an input with table, whose timeColumn says when a row was",
            ),
            (
                stage(json!({ "inputs": { "a": { "optional": true, "table": { "uri": "s3://a/b" } } } })),
                "optional belongs to an input with from, deployed, model or input",
            ),
            (
                stage(json!({ "inputs": { "a": { "table": { "uri": "pvc://a/b", "access": { "region": "eu" } } } } })),
                "a claim needs no access: take it out",
            ),
            (stage(json!({ "inputs": { "a": { "table": { "uri": "https://a/b" } } } })), "should match"),
            (
                stage(json!({ "inputs": { "a": { "table": { "uri": "s3://a/b", "version": "last" } } } })),
                "should match",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_container_that_cannot_be_meant_is_refused_with_what_to_write_instead() {
    let container = |change: Value| json!({ "stages": { "train": { "container": change } } });
    refuses(
        "MLPipeline",
        &[
            (container(json!({ "command": null })), "command or script is required"),
            (container(json!({ "script": "#!/bin/sh" })), "command and script exclude each other"),
            (container(json!({ "command": null, "script": "echo" })), "script must begin with an interpreter line"),
            (container(json!({ "image": "i".repeat(1025) })), "may not be more than 1024"),
            (container(json!({ "privileged": true })), "unknown field"),
            (container(json!({ "securityContext": { "privileged": true } })), "unknown field"),
            (container(json!({ "hostNetwork": true })), "unknown field"),
            (
                container(json!({ "env": { "A": { "value": "b", "secret": { "name": "s", "key": "k" } } } })),
                "exactly one of value, secret and configMap",
            ),
            (
                container(json!({ "volumes": { "a": { "mountPath": "/data", "hostPath": { "path": "/" } } } })),
                "unknown field",
            ),
            (
                container(json!({ "volumes": { "a": { "mountPath": "/data" } } })),
                "exactly one of configMap, secret, claim and memory",
            ),
            (
                container(json!({ "volumes": { "a": { "mountPath": "/millrace/x", "memory": {} } } })),
                "mountPath must not be below /millrace",
            ),
            (container(json!({ "runAsUser": 0 })), "greater than or equal to 1"),
            (container(json!({ "resources": { "limits": { "cpu": "many" } } })), "should match"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_pipeline_that_cannot_be_meant_is_refused_with_what_to_write_instead() {
    refuses(
        "MLPipeline",
        &[
            (json!({ "store": { "s3": { "bucket": "lake" } } }), "exactly one of pvc, s3, gcs and azure is required"),
            (json!({ "store": { "pvc": null } }), "exactly one of pvc, s3, gcs and azure is required"),
            (json!({ "store": { "pvc": null, "s3": { "bucket": "Lake" } } }), "should match"),
            (json!({ "store": { "pvc": null, "s3": { "bucket": "lake", "prefix": "a/../b" } } }), "should match"),
            (
                json!({ "store": { "pvc": null, "s3": { "bucket": "lake", "endpoint": "s3.example.com" } } }),
                "should match",
            ),
            (json!({ "store": { "pvc": null, "azure": { "container": "lake" } } }), "account: Required value"),
            (
                json!({ "store": null, "history": { "archive": {} } }),
                "history.archive writes into the store: write store",
            ),
            (
                json!({ "history": { "artifacts": {} } }),
                "artifacts are taken out by the pod of the archive: write archive too",
            ),
            (json!({ "history": { "archive": { "every": "often" } } }), "should match"),
            (json!({ "history": { "archive": {}, "artifacts": { "dryRun": "yes" } } }), "must be of type boolean"),
            (json!({ "params": { "rate": { "minimum": 2 } } }), "minimum must not be greater than maximum"),
            (json!({ "params": { "rate": { "type": "string" } } }), "minimum and maximum need type number or integer"),
            (json!({ "params": { "rate": { "type": "float" } } }), "Unsupported value"),
            (data(&json!({ "uri": "ftp://lake/x" })), "should match"),
            (data(&json!({ "uri": "https://lake/a b" })), "should match"),
            (data(&json!({ "uri": "pvc://lake/x", "access": { "region": "eu" } })), "a claim needs no access"),
            (data(&json!({ "uri": "s3://lake/x", "access": { "secretRef": { "name": "../s" } } })), "should match"),
            (data(&json!({ "uri": "s3://lake/x", "poll": "soon" })), "should match"),
            (json!({ "triggers": { "onPipeline": { "up": { "pipeline": "" } } } }), "at least 1 chars long"),
            (
                json!({ "triggers": { "onPipeline": { "up": { "pipeline": "p", "outcome": "Failed" } } } }),
                "Unsupported value",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_run_needs_exactly_one_pipeline() {
    let inline = valid("MLPipeline");
    refuses(
        "MLPipelineRun",
        &[
            (json!({ "pipelineRef": null }), "exactly one of pipelineRef and pipeline is required"),
            (json!({ "pipeline": inline }), "exactly one of pipelineRef and pipeline is required"),
            (json!({ "pipelineRef": "p" }), "must be of type object"),
            (json!({ "inputs": { "a": {} } }), "exactly one of uri and artifact is required"),
            (json!({ "inputs": { "a": { "uri": "https://x/y", "type": "model" } } }), "type belongs to an artifact"),
            (
                json!({ "inputs": { "a": { "maxAge": "1h", "artifact": { "uri": "pvc://a/b", "digest": format!("sha256:{:064}", 0), "size": 1 } } } }),
                "digest, maxAge and access belong to uri",
            ),
            (json!({ "pipelineRef": { "name": "p", "namespace": "other" } }), "unknown field"),
            (json!({ "ttl": "1 week" }), "should match"),
            (approval(&json!({ "decision": "Approve" })), "by: Required value"),
            (approval(&json!({ "decision": "Yes", "by": "a" })), "Unsupported value"),
            (approval(&json!({ "decision": "Approve", "by": "" })), "at least 1 chars long"),
            (
                approval(&json!({ "decision": "Reject", "by": "a", "comment": "c".repeat(513) })),
                "may not be more than 512",
            ),
        ],
    )
    .await;
}

fn data(trigger: &Value) -> Value {
    json!({ "triggers": { "onData": { "lake": trigger } } })
}

fn approval(said: &Value) -> Value {
    json!({ "approvals": { "sign-off": said } })
}

#[tokio::test]
async fn a_decision_holds_for_one_time_that_a_stage_is_asked_and_stays_once_it_has_ended() {
    with_temp_ns(|client, namespace| async move {
        create(&client, &namespace, &object("MLPipelineRun", "a", &valid("MLPipelineRun")), false).await.unwrap();
        // Where the chart is installed, nobody decides for others.
        let by = whoami(&client).await;
        let say = async |said: Value| {
            change(&client, &namespace, "MLPipelineRun", "a", &json!({ "spec": approval(&said) })).await
        };
        let stand = async |stage: Value| {
            let status = json!({ "stages": { "sign-off": stage } });
            change_status(&client, &namespace, "MLPipelineRun", "a", &json!({ "status": status })).await.unwrap();
        };
        let said = say(json!({ "decision": "Approve", "by": by, "retries": 1 })).await.unwrap_err();
        assert!(said.contains("write retries as status.stages has it"), "{said}");
        say(json!({ "decision": "Approve", "by": by })).await.unwrap();
        stand(json!({ "state": "Pending", "retries": 1 })).await;
        let said = say(json!({ "decision": "Reject", "by": by })).await.unwrap_err();
        assert!(said.contains("write retries as status.stages has it"), "{said}");
        say(json!({ "decision": "Reject", "by": by, "retries": 1 })).await.unwrap();
        stand(json!({ "state": "Skipped" })).await;
        let said = say(json!({ "decision": "Approve" })).await.unwrap_err();
        assert!(said.contains("a stage that has ended is not decided any more"), "{said}");
        // Whoever has applied it may take it out again.
        change(&client, &namespace, "MLPipelineRun", "a", &json!({ "spec": { "approvals": null } })).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn how_a_model_waits_answers_and_starts_is_held_to_its_bounds() {
    refuses(
        "ModelDeployment",
        &[
            (json!({ "server": { "concurrency": 0 } }), "greater than or equal to 1"),
            (json!({ "server": { "concurrency": 1001 } }), "less than or equal to 1000"),
            (json!({ "server": { "timeout": "long" } }), "should match"),
            (json!({ "server": { "startupTimeout": 900 } }), "must be of type string"),
            (json!({ "server": { "batching": { "maxDelay": "2" } } }), "should match"),
            (json!({ "server": { "threads": 0 } }), "greater than or equal to 1"),
            (json!({ "server": { "batching": null, "threads": 2, "container": { "image": "i" } } }), "threads is for"),
            (
                json!({ "server": { "batching": null, "explainBudget": 9, "container": { "image": "i" } } }),
                "explainBudget is for",
            ),
            (
                json!({ "server": { "batching": null, "container": { "image": "i", "protocol": "HTTP2" } } }),
                "Unsupported value",
            ),
            (
                json!({ "server": { "concurrency": 4 }, "scale": { "max": 2, "target": 5 } }),
                "scale.target must not be more than server.concurrency",
            ),
            (
                json!({ "server": { "concurrency": 4 }, "scale": { "max": 2, "target": 4.5, "metric": "Concurrency" } }),
                "scale.target must not be more than server.concurrency",
            ),
            (
                json!({ "server": { "batching": null, "container": { "image": "i", "readyProbe": "GRPC", "readyPath": "/r" } } }),
                "readyPath is for readyProbe: HTTP",
            ),
            (json!({ "routing": { "queue": { "max": 0 } } }), "greater than or equal to 1"),
            (json!({ "routing": { "queue": { "timeout": "2 m" } } }), "should match"),
        ],
    )
    .await;
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a list of what is refused")]
async fn a_template_a_version_and_a_deployment_are_held_to_their_bounds() {
    refuses(
        "StageTemplate",
        &[
            (json!({ "container": null }), "Required value"),
            (json!({ "params": { "x": { "type": null } } }), "Required value"),
            (json!({ "description": "d".repeat(1025) }), "may not be more than 1024"),
            (json!({ "gate": { "pass": "true" } }), "unknown field"),
        ],
    )
    .await;
    refuses(
        "ModelVersion",
        &[
            (json!({ "artifact": { "uri": "file:///etc/passwd" } }), "should match"),
            (json!({ "artifact": { "digest": "md5:1" } }), "should match"),
            (
                json!({ "artifact": { "access": { "anonymous": true, "secretRef": { "name": "keys" } } } }),
                "take access.secretRef or access.anonymous out",
            ),
            (json!({ "version": 0 }), "greater than or equal to 1"),
            (json!({ "version": "1" }), "must be of type integer"),
            (json!({ "model": "Upper" }), "should match"),
            (json!({ "lineage": { "run": null } }), "Required value"),
            (json!({ "lineage": { "datasets": [{ "uri": "s3://lake/a", "digest": "c" }, { "uri": "s3://lake/a", "digest": "d" }] } }), "Duplicate value"),
        ],
    )
    .await;
    refuses(
        "ModelDeployment",
        &[
            (json!({ "model": null }), "Required value"),
            (json!({ "model": { "version": 0 } }), "greater than or equal to 1"),
            (json!({ "model": { "name": null } }), "exactly one of name and uri is required"),
            (json!({ "model": at(&json!({ "name": "m" })) }), "exactly one of name and uri is required"),
            (json!({ "model": at(&json!({ "version": 1 })) }), "version is of a registered model"),
            (json!({ "model": at(&json!({ "digest": null })) }), "uri, format and digest belong together"),
            (json!({ "model": at(&json!({ "format": null })) }), "uri, format and digest belong together"),
            (json!({ "model": { "digest": format!("sha256:{}", "a".repeat(64)) } }), "uri, format and digest belong together"),
            (json!({ "model": { "access": { "region": "eu" } } }), "access is of uri"),
            (
                json!({ "model": at(&json!({ "access": { "anonymous": true, "secretRef": { "name": "keys" } } })) }),
                "take access.secretRef or access.anonymous out",
            ),
            (json!({ "model": at(&json!({ "digest": "sha256:abc" })) }), "should match"),
            (json!({ "model": at(&json!({ "uri": "ftp://lake/m" })) }), "should match"),
            (json!({ "model": { "cache": {} } }), "Required value"),
            (json!({ "model": { "cache": { "claim": "Models" } } }), "should match"),
            (json!({ "model": { "cache": { "claim": "models", "maxSize": "much" } } }), "should match"),
            (json!({ "model": { "cache": { "claim": "models", "keepUnused": "long" } } }), "should match"),
            (json!({ "scale": { "replicas": -1 } }), "greater than or equal to 0"),
            (json!({ "scale": { "min": 3, "max": 2, "target": 1 } }), "min must not be above max"),
            (json!({ "scale": { "max": 2 } }), "max needs target"),
            (json!({ "scale": { "target": 2 } }), "target needs max"),
            (json!({ "scale": { "max": 2, "target": 0 } }), "target must be 0.01 or more"),
            (json!({ "scale": { "metric": "RequestRate" } }), "metric needs max and target"),
            (json!({ "scale": { "metric": "Memory", "max": 2, "target": 1 } }), "Unsupported value"),
            (json!({ "scale": { "metric": "CPU", "max": 1 } }), "metric: CPU needs target"),
            (json!({ "scale": { "metric": "CPU", "max": 2, "target": 0.5 } }), "metric: CPU needs target"),
            (json!({ "scale": { "max": 2, "target": 1, "percentile": "P99" } }), "percentile is for metric: Latency"),
            (json!({ "scale": { "metric": "Latency", "max": 2, "target": 1, "percentile": "P42" } }), "Unsupported value"),
            (json!({ "scale": { "metric": "Prometheus", "max": 2, "target": 1 } }), "belong together"),
            (json!({ "scale": { "metric": "External", "min": 0 } }), "not for metric: External"),
            (json!({ "scale": { "min": 1, "toZeroAfter": "5m" } }), "toZeroAfter needs min: 0"),
            (json!({ "scale": { "min": 0, "toZeroAfter": "soon" } }), "should match"),
            (json!({ "server": { "batching": { "maxSize": 0 } } }), "greater than or equal to 1"),
            (json!({ "server": { "image": "mine" } }), "unknown field"),
            (json!({ "server": { "batching": { "maxSize": 2 }, "container": { "image": "i" } } }), "batching is for"),
            (json!({ "server": { "batching": null, "container": { "image": "i", "port": 0 } } }), "greater than or equal to 1"),
            (json!({ "server": { "batching": null, "container": { "image": "i", "readyPath": "ready" } } }), "should match"),
            (json!({ "rollout": {} }), "Required value"),
            (json!({ "rollout": { "strategy": "canary" } }), "Unsupported value"),
            (json!({ "rollout": { "strategy": "Canary" } }), "Canary needs steps with a weight"),
            (json!({ "rollout": { "strategy": "Canary", "steps": [{ "hold": "1m" }] } }), "Canary needs steps with a weight"),
            (json!({ "rollout": { "strategy": "Canary", "steps": [{ "weight": 101 }] } }), "less than or equal to 100"),
            (json!({ "rollout": { "strategy": "Canary", "steps": [{ "weight": 5, "hold": "soon" }] } }), "should match"),
            (json!({ "rollout": { "strategy": "BlueGreen", "steps": [{ "weight": 50 }] } }), "with BlueGreen a step's weight is 0"),
            (json!({ "rollout": { "strategy": "Shadow", "steps": [{ "weight": 50 }] } }), "Shadow needs steps without weight"),
            (json!({ "rollout": { "strategy": "Shadow", "sample": 0, "steps": [{ "hold": "1m" }] } }), "sample must be 0.0001 or more"),
            (json!({ "rollout": { "strategy": "Recreate", "sample": 0.5 } }), "sample is the share of requests that both"),
            (json!({ "rollout": { "strategy": "Recreate", "keepWarm": "1m" } }), "Recreate has no steps"),
            (json!({ "rollout": { "strategy": "Recreate", "onFailure": "Pause" } }), "Recreate has no steps"),
            (rollout(&json!({ "metric": "ErrorRate" })), "a limit is missing"),
            (rollout(&json!({ "metric": "ErrorRate", "max": 0.1, "min": 0.2 })), "min must not be above max"),
            (rollout(&json!({ "metric": "ErrorRate", "maxRatioToStable": 0 })), "maxRatioToStable must be 0.01 or more"),
            (rollout(&json!({ "metric": "Errors", "max": 0.1 })), "Unsupported value"),
            (rollout(&json!({ "metric": "ErrorRate", "max": 0.1, "failureLimit": 2 })), "failureLimit counts answers of prometheus"),
            (
                json!({ "rollout": { "strategy": "Canary", "steps": [{ "weight": 5 }], "analysis": { "a": { "metric": "ErrorRate", "max": 1 } } } }),
                "analysis needs steps with hold",
            ),
            (control(&json!({ "revision": "m-1", "action": "Approve" })), "Approve needs step"),
            (control(&json!({ "action": "Abort" })), "Required value"),
            (json!({ "monitoring": {} }), "monitoring says nothing"),
            (drift(&json!({ "window": "soon" })), "should match"),
            (drift(&json!({ "method": "Wasserstein" })), "Unsupported value"),
            (drift(&json!({ "threshold": 0 })), "threshold must be 0.001 or more"),
            (drift(&json!({ "threshold": 1, "method": "KS" })), "write a threshold below 1"),
            (drift(&json!({ "minSamples": 9 })), "greater than or equal to 10"),
            (drift(&json!({ "features": ["a", "a"] })), "Duplicate value"),
            (drift(&json!({ "features": [""] })), "at least 1 chars long"),
            (
                json!({ "monitoring": { "drift": {} }, "server": { "batching": null, "container": { "image": "i" } } }),
                "monitoring.drift is for Millrace's own model server",
            ),
            (json!({ "routing": { "headers": { "x": { "header": "a b", "value": "v", "to": "Canary" } } } }), "should match"),
            (json!({ "routing": { "headers": { "x": { "header": "a", "value": "v", "to": "m-1" } } } }), "Unsupported value"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_model_may_be_named_by_its_address() {
    let access = json!({ "endpoint": "http://s3:9000", "region": "eu", "secretRef": { "name": "keys" } });
    let cases = [
        json!({}),
        json!({ "access": access, "cache": { "claim": "models" } }),
        json!({ "uri": "az://models/m", "access": { "account": "lake" } }),
        json!({ "uri": "gs://models/m", "access": { "anonymous": true } }),
        json!({ "uri": "pvc://models/a/b", "format": "pickle" }),
    ];
    for case in cases {
        let mut whole = object("ModelDeployment", "a", &valid("ModelDeployment"));
        merged(&mut whole["spec"], &json!({ "model": at(&case) }));
        create(&client().await, "default", &whole, true).await.unwrap_or_else(|e| panic!("{case} is refused: {e}"));
    }
}

#[tokio::test]
async fn answers_may_be_compared_in_every_strategy_with_steps() {
    let same = json!({ "same": { "metric": "Agreement", "min": 0.95 } });
    for (strategy, weight) in [("Canary", 5), ("BlueGreen", 0), ("Shadow", 0)] {
        let steps = json!([{ "weight": weight, "hold": "1m" }]);
        let rollout = json!({ "strategy": strategy, "sample": 0.2, "steps": steps, "analysis": same });
        let mut whole = object("ModelDeployment", "a", &valid("ModelDeployment"));
        merged(&mut whole["spec"], &json!({ "rollout": rollout }));
        create(&client().await, "default", &whole, true).await.unwrap_or_else(|e| panic!("{strategy} is refused: {e}"));
    }
}

#[tokio::test]
async fn an_analysis_is_held_to_its_bounds() {
    let mut elsewhere = rollout(&json!({ "metric": "Drift", "max": 0.1 }));
    elsewhere["server"] = json!({ "container": { "image": "i" } });
    refuses(
        "ModelDeployment",
        &[
            (rollout(&json!({ "live": "f1", "minRatioToStable": 0 })), "minRatioToStable must be 0.01 or more"),
            (
                rollout(&json!({ "live": "f1", "minRatioToStable": 1.1, "maxRatioToStable": 1 })),
                "minRatioToStable must not be above maxRatioToStable",
            ),
            (
                rollout(&json!({ "metric": "ErrorRate", "minRatioToStable": 0.9 })),
                "minRatioToStable is for figures of which more is better",
            ),
            (rollout(&json!({ "metric": "Drift", "min": 0.1 })), "Drift is the share that has drifted"),
            (rollout(&json!({ "metric": "Drift", "max": 1 })), "write max, 0 or more and below 1, and no other limit"),
            (rollout(&json!({ "metric": "Drift", "max": 0.1, "maxRatioToStable": 2 })), "and no other limit"),
            (rollout(&json!({ "metric": "Drift", "max": -0.1 })), "max and min of a metric must be 0 or more"),
            (elsewhere, "metric: Drift is of what Millrace's own model server counts"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_stream_is_held_to_its_bounds() {
    refuses(
        "ModelDeployment",
        &[
            (json!({ "stream": {} }), "Required value"),
            (json!({ "stream": { "kafka": { "brokers": ["kafka:9092"], "inputTopic": "in" } } }), "Required value"),
            (stream(&json!({ "brokers": [] })), "at least 1 items"),
            (stream(&json!({ "brokers": ["kafka"] })), "should match"),
            (stream(&json!({ "brokers": ["kafka:1", "kafka:1"] })), "Duplicate value"),
            (stream(&json!({ "inputTopic": "a b" })), "should match"),
            (stream(&json!({ "outputTopic": "in" })), "outputTopic must be another topic than inputTopic"),
            (stream(&json!({ "deadLetterTopic": "out" })), "deadLetterTopic must be another topic"),
            (stream(&json!({ "start": "Middle" })), "Unsupported value"),
            (stream(&json!({ "sasl": { "mechanism": "PLAIN", "secretName": "s" } })), "PLAIN needs tls"),
            (stream(&json!({ "sasl": { "mechanism": "GSSAPI", "secretName": "s" } })), "Unsupported value"),
            (stream(&json!({ "sasl": { "mechanism": "SCRAM-SHA-512" } })), "Required value"),
            (
                json!({ "scale": { "metric": "QueueLag", "max": 2, "target": 100 } }),
                "scale.metric: QueueLag follows the messages that wait",
            ),
        ],
    )
    .await;
    let mut spec =
        stream(&json!({ "deadLetterTopic": "dead", "tls": {}, "sasl": { "mechanism": "PLAIN", "secretName": "s" } }));
    spec["scale"] = json!({ "min": 0, "metric": "QueueLag", "max": 2, "target": 100 });
    let mut whole = object("ModelDeployment", "a", &valid("ModelDeployment"));
    merged(&mut whole["spec"], &spec);
    create(&client().await, "default", &whole, true)
        .await
        .unwrap_or_else(|e| panic!("the whole stream is refused: {e}"));
}

#[tokio::test]
async fn a_payload_log_is_held_to_its_bounds() {
    let entry = json!({ "name": "n", "key": "k" });
    refuses(
        "ModelDeployment",
        &[
            (payload_log(&json!({ "sink": { "address": "http://s" } })), "Required value"),
            (payload_log(&json!({ "sampling": 1 })), "exactly one of sink and table is required"),
            (
                payload_log(
                    &json!({ "sampling": 1, "sink": { "address": "http://s" }, "table": { "uri": "s3://b/t" } }),
                ),
                "exactly one of sink and table is required",
            ),
            (payload_log(&json!({ "sampling": 1, "table": { "uri": "https://b/t" } })), "should match"),
            (
                payload_log(&json!({ "sampling": 1, "table": { "uri": "pvc://c/t", "access": { "region": "eu" } } })),
                "a claim needs no access",
            ),
            (payload_log(&json!({ "sampling": 0, "sink": { "address": "http://s" } })), "sampling must be from 0.0001"),
            (payload_log(&json!({ "sampling": 2, "sink": { "address": "http://s" } })), "less than or equal to 1"),
            (
                payload_log(&json!({ "sampling": 1, "maxBodyBytes": 2_000_000, "sink": { "address": "http://s" } })),
                "less than or equal to 1048576",
            ),
            (payload_log(&json!({ "sampling": 1, "sink": { "address": "kafka://s" } })), "should match"),
            (payload_log(&json!({ "sampling": 1, "sink": { "address": "https://s" } })), "https needs caConfigMap"),
            (
                payload_log(&json!({ "sampling": 1, "sink": { "address": "http://s", "tokenSecret": entry } })),
                "tokenSecret needs",
            ),
            (
                payload_log(&json!({ "sampling": 1, "sink": { "address": "http://s", "caConfigMap": entry } })),
                "caConfigMap is for",
            ),
            (
                payload_log(&json!({ "sampling": 1, "sink": { "address": "http://s", "mode": "Binary" } })),
                "Unsupported value",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn where_the_keys_of_tokens_are_is_exactly_one_place() {
    let entry = json!({ "name": "n", "key": "k" });
    let jwks = |jwks: Value| {
        let jwt = json!({ "issuer": "https://issuer", "audiences": ["a"], "jwks": jwks });
        json!({ "security": { "auth": { "jwt": jwt } } })
    };
    let uri = "https://issuer.example/keys";
    let cases = [
        (jwks(json!({})), "exactly one of configMap, secret and uri is required"),
        (jwks(json!({ "configMap": entry, "secret": entry })), "exactly one of configMap, secret and uri is required"),
        (jwks(json!({ "uri": uri, "configMap": entry })), "exactly one of configMap, secret and uri is required"),
        (jwks(json!({ "uri": uri, "secret": entry })), "exactly one of configMap, secret and uri is required"),
        (jwks(json!({ "secret": entry, "caConfigMap": entry })), "caConfigMap is for uri"),
        (jwks(json!({ "uri": "http://issuer.example/keys" })), "uri must begin with https://"),
        (jwks(json!({ "uri": "issuer.example/keys" })), "should match"),
        (jwks(json!({ "uri": "https://user:word@issuer.example/keys" })), "should match"),
        (jwks(json!({ "uri": "https://issuer.example/keys#a" })), "should match"),
        (jwks(json!({ "uri": "https:///keys" })), "should match"),
        (jwks(json!({ "uri": format!("{uri}?{}", "a".repeat(500)) })), "may not be more than 512"),
        (jwks(json!({ "uri": uri, "caConfigMap": { "name": "n" } })), "key: Required value"),
    ];
    for kind in ["ModelDeployment", "InferenceGraph"] {
        refuses(kind, &cases).await;
    }
    for (i, place) in [
        json!({ "uri": uri }),
        json!({ "uri": "https://www.example.com:8443/service_accounts/v1/jwk/token@system.example.com?p=a_b", "caConfigMap": entry }),
    ]
    .iter()
    .enumerate()
    {
        let mut whole = object("ModelDeployment", &format!("a{i}"), &valid("ModelDeployment"));
        merged(&mut whole["spec"], &jwks(place.clone()));
        create(&client().await, "default", &whole, true).await.unwrap_or_else(|e| panic!("{place} is refused: {e}"));
    }
}

#[tokio::test]
async fn what_is_asked_of_prometheus_is_held_to_its_bounds() {
    refuses(
        "ModelDeployment",
        &[
            (prometheus(&json!({ "query": "up" })), "Required value"),
            (prometheus(&json!({ "address": "ftp://prometheus:9090", "query": "up" })), "should match"),
            (prometheus(&json!({ "address": "http://user:word@p", "query": "up" })), "neither user nor password"),
            (prometheus(&json!({ "address": "https://p", "query": "up" })), "https needs caConfigMap"),
            (
                prometheus(
                    &json!({ "address": "http://p", "query": "up", "caConfigMap": { "name": "c", "key": "k" } }),
                ),
                "caConfigMap is for",
            ),
            (
                prometheus(
                    &json!({ "address": "http://p", "query": "up", "tokenSecret": { "name": "t", "key": "k" } }),
                ),
                "tokenSecret needs",
            ),
            (rollout(&json!({ "max": 0.1 })), "exactly one of metric, prometheus and live"),
            (
                rollout(&json!({ "live": "accuracy", "metric": "ErrorRate", "min": 1 })),
                "exactly one of metric, prometheus and live",
            ),
            (rollout(&json!({ "live": "a b", "min": 1 })), "should match"),
            (
                rollout(
                    &json!({ "metric": "ErrorRate", "max": 1, "prometheus": { "address": "http://p", "query": "up" } }),
                ),
                "exactly one of metric, prometheus and live",
            ),
            (rollout(&json!({ "metric": "ErrorRate", "max": -1 })), "must be 0 or more"),
            (
                rollout(&json!({ "maxRatioToStable": 2, "prometheus": { "address": "http://p", "query": "up" } })),
                "maxRatioToStable and minRatioToStable need $[[ revision ]]",
            ),
            (
                rollout(&json!({ "minRatioToStable": 0.9, "prometheus": { "address": "http://p", "query": "up" } })),
                "maxRatioToStable and minRatioToStable need $[[ revision ]]",
            ),
        ],
    )
    .await;
}

/// A number of pods that follows this.
fn prometheus(asked: &Value) -> Value {
    json!({ "scale": { "metric": "Prometheus", "max": 2, "target": 1, "prometheus": asked } })
}

/// A canary with one analysis.
fn rollout(analysis: &Value) -> Value {
    json!({ "rollout": { "strategy": "Canary", "steps": [{ "weight": 5, "hold": "1m" }], "analysis": { "a": analysis } } })
}

fn payload_log(log: &Value) -> Value {
    json!({ "monitoring": { "log": log } })
}

/// With topics, and more of Kafka.
fn stream(kafka: &Value) -> Value {
    let mut whole = json!({ "brokers": ["kafka:9092"], "inputTopic": "in", "outputTopic": "out" });
    whole.as_object_mut().unwrap().extend(kafka.as_object().unwrap().clone());
    json!({ "stream": { "kafka": whole } })
}

fn drift(drift: &Value) -> Value {
    json!({ "monitoring": { "drift": drift } })
}

fn control(control: &Value) -> Value {
    json!({ "control": control })
}

#[tokio::test]
async fn an_unknown_field_is_refused_at_every_level_for_create_and_for_server_side_apply() {
    let levels: [(&str, &[&str]); 5] = [
        (
            "MLPipeline",
            &[
                "",
                "/spec",
                "/spec/store",
                "/spec/store/pvc",
                "/spec/params/rate",
                "/spec/stages/train",
                "/spec/stages/train/container",
                "/spec/stages/train/outputs/model",
                "/spec/stages/register/register",
                "/spec/stages/deploy/deploy",
            ],
        ),
        ("MLPipelineRun", &["", "/spec", "/spec/pipelineRef"]),
        ("StageTemplate", &["", "/spec", "/spec/params/x", "/spec/container"]),
        ("ModelVersion", &["", "/spec", "/spec/artifact"]),
        (
            "ModelDeployment",
            &["", "/spec", "/spec/model", "/spec/server", "/spec/server/batching", "/spec/server/resources"],
        ),
    ];
    let client = client().await;
    for (kind, levels) in levels {
        let base = object(kind, "a", &valid(kind));
        apply_dry(&client, "default", &base).await.unwrap_or_else(|e| panic!("the valid {kind} is refused: {e}"));
        for level in levels {
            let mut changed = base.clone();
            changed.pointer_mut(level).unwrap()["surprise"] = json!(true);
            let field = format!("{}.surprise", level.replace('/', "."));
            let said = create(&client, "default", &changed, true).await.expect_err(&field);
            let name = field.trim_start_matches('.');
            assert!(said.contains(&format!("unknown field \"{name}\"")), "{kind} {field}: {said}");
            let said = apply_dry(&client, "default", &changed).await.expect_err(&field);
            assert!(said.contains(&format!("{field}: field not declared in schema")), "{kind} {field}: {said}");
        }
    }
}

#[tokio::test]
async fn any_json_value_is_kept_as_a_parameter() {
    let client = client().await;
    let params = json!({ "a": 0.2, "b": [1, "x", null, { "c": true }], "d": { "e": { "f": [] } }, "g": "text" });
    let mut run = object("MLPipelineRun", "a", &valid("MLPipelineRun"));
    run["spec"]["params"] = params.clone();
    let kept = create(&client, "default", &run, true).await.unwrap();
    assert_eq!(kept["spec"]["params"], params);
}

#[tokio::test]
async fn the_spec_of_a_run_and_of_a_version_cannot_be_changed() {
    with_temp_ns(|client, namespace| async move {
        for (name, kind, patch, words) in [
            (
                "a",
                "MLPipelineRun",
                json!({ "spec": { "params": { "rate": 0.3 } } }),
                "the spec of a run cannot be changed, but for priority, suspend, cancel, retryFrom and approvals: create another run",
            ),
            (
                "b",
                "MLPipelineRun",
                json!({ "spec": { "inputs": { "rows": { "uri": "https://x/y" } } } }),
                "the spec of a run cannot be changed, but for priority, suspend, cancel, retryFrom and approvals: create another run",
            ),
            (
                "a",
                "ModelVersion",
                json!({ "spec": { "metrics": { "f1": 1.0 } } }),
                "a ModelVersion cannot be changed: register another version",
            ),
        ] {
            create(&client, &namespace, &object(kind, name, &valid(kind)), false).await.unwrap();
            let refusal = change(&client, &namespace, kind, name, &patch).await.unwrap_err();
            assert!(refusal.contains(words), "{refusal}");
            change(&client, &namespace, kind, name, &json!({ "metadata": { "labels": { "team": "a" } } }))
                .await
                .unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn the_cluster_has_the_crds_of_this_code() {
    let client = client().await;
    let crds: kube::Api<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> =
        kube::Api::all(client);
    for wanted in millrace_core::api::all_crds() {
        let name = wanted.metadata.name.clone().unwrap();
        let found = crds.get(&name).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(found.spec.versions, wanted.spec.versions, "{name} is not the one of this code: install it again");
    }
}

#[tokio::test]
async fn what_a_gateway_cannot_do_is_refused_with_what_to_write_instead() {
    let gateway = json!({ "parentRefs": [{ "name": "edge" }] });
    let direct = |change: Value| {
        let mut all = json!({ "routing": { "provider": "GatewayAPI", "gateway": gateway } });
        merged(&mut all, &change);
        all
    };
    let canary = |analysis: Value| json!({ "rollout": { "strategy": "Canary", "steps": [{ "weight": 5, "hold": "1m" }], "analysis": { "a": analysis } } });
    let prometheus = json!({ "address": "http://prometheus:9090", "query": "up" });
    let headers: serde_json::Map<String, Value> = (0..16)
        .map(|i| (format!("h{i}"), json!({ "header": "x-model", "value": i.to_string(), "to": "Canary" })))
        .collect();
    let path = |path: &str| json!({ "routing": { "gateway": { "parentRefs": [{ "name": "edge" }], "path": path } } });
    refuses(
        "ModelDeployment",
        &[
            (json!({ "routing": { "provider": "GatewayAPI" } }), "provider: GatewayAPI needs gateway"),
            (
                json!({ "routing": { "provider": "Mesh", "gateway": gateway } }),
                "spec.routing.provider: Unsupported value",
            ),
            (json!({ "routing": { "gateway": { "parentRefs": [] } } }), "spec.routing.gateway.parentRefs"),
            (json!({ "routing": { "gateway": {} } }), "parentRefs: Required value"),
            (
                json!({ "routing": { "gateway": { "parentRefs": [{ "name": "edge" }], "hostnames": ["http://a"] } } }),
                "hostnames[0]",
            ),
            (path("v2"), "spec.routing.gateway.path"),
            (path("/a/"), "spec.routing.gateway.path"),
            (path("//a"), "spec.routing.gateway.path"),
            (path("/a/../b"), "path must not have the segments . and .."),
            (path("/a/."), "path must not have the segments . and .."),
            (direct(json!({ "routing": { "sticky": { "header": "x-user" } } })), "a Gateway knows no sticky header"),
            (direct(json!({ "routing": { "headers": headers } })), "an HTTPRoute has room for 15 headers"),
            (direct(json!({ "security": { "maxBodyBytes": 1024 } })), "security holds at the routers"),
            (
                json!({ "routing": { "gateway": gateway }, "security": { "tls": { "secretName": "s" } } }),
                "the Gateway ends TLS and speaks HTTP to the routers",
            ),
            (
                direct(json!({ "monitoring": { "log": { "sampling": 1, "sink": { "address": "http://sink" } } } })),
                "monitoring.log is of the requests at the routers",
            ),
            (direct(json!({ "scale": { "min": 0, "max": 1 } })), "a Gateway starts no pod and does not wait for one"),
            (direct(json!({ "scale": { "min": 1, "max": 4, "target": 8 } })), "write metric: CPU or Prometheus"),
            (
                direct(json!({ "scale": { "max": 4, "target": 8, "metric": "Latency" } })),
                "the routers count nothing for scale.metric",
            ),
            (direct(json!({ "server": { "concurrency": 1 } })), "server.concurrency holds at the routers"),
            (
                direct(json!({ "server": { "batching": null, "timeout": "1m", "container": { "image": "i" } } })),
                "server.timeout of a container holds at the routers",
            ),
            (direct(json!({ "routing": { "queue": { "max": 1 } } })), "queue is at the routers"),
            (
                direct(json!({ "rollout": { "strategy": "Recreate" } })),
                "a Gateway does not wait until the new pods are there",
            ),
            (
                direct(json!({ "rollout": { "strategy": "Canary", "sample": 0.1, "steps": [{ "weight": 5 }] } })),
                "a Gateway would copy what the revision that comes answers as well",
            ),
            (
                direct(canary(json!({ "metric": "ErrorRate", "max": 0.1 }))),
                "the routers count nothing for an analysis with metric",
            ),
            (
                direct(canary(json!({ "prometheus": prometheus, "max": 1, "minSamples": 10 }))),
                "minSamples are requests at the routers",
            ),
        ],
    )
    .await;
    let client = client().await;
    let cpu = json!({ "min": 1, "max": 4, "target": 70, "metric": "CPU" });
    for change in [
        direct(json!({ "server": { "timeout": "1m" } })),
        json!({ "server": { "concurrency": 4 }, "scale": { "max": 2, "target": 4 } }),
        json!({ "server": { "concurrency": 4 }, "scale": { "max": 2, "target": 100, "metric": "RequestRate" } }),
        json!({ "routing": { "queue": { "max": 5, "timeout": "10m" } } }),
        direct(json!({ "scale": cpu })),
        direct(json!({ "scale": { "min": 2, "max": 2 } })),
        direct(json!({ "scale": { "metric": "External" } })),
        direct(canary(json!({ "prometheus": prometheus, "max": 1 }))),
        direct(canary(json!({ "metric": "Drift", "max": 0.3, "minSamples": 100 }))),
        canary(json!({ "live": "accuracy", "min": 0.5, "minRatioToStable": 0.98 })),
        direct(canary(json!({ "live": "accuracy", "min": 0.8, "minSamples": 10 }))),
        path("/v2/models/m"),
        path("/"),
        json!({ "routing": { "gateway": gateway, "sticky": { "header": "x-user" } }, "scale": { "min": 0, "max": 1 } }),
    ] {
        let mut wanted = object("ModelDeployment", "a", &valid("ModelDeployment"));
        merged(&mut wanted["spec"], &change);
        create(&client, "default", &wanted, true).await.unwrap_or_else(|e| panic!("{change} is refused: {e}"));
    }
}
