//! Pod settings in a pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Container;
use serde_json::{Value, json};

use super::{base, check, escape, settings_into};
use crate::api::PodSettings;
use crate::config::Config;

fn settings(json: Value) -> PodSettings {
    serde_json::from_value(json).unwrap()
}

fn pod_of(json: Value) -> Value {
    let (mut pod, mut main) = (base(), Container::default());
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    settings_into(&mut pod, &mut main, &settings(json), &labels);
    pod.containers = vec![main];
    serde_json::to_value(pod).unwrap()
}

#[test]
fn every_setting_is_found_in_the_pod() {
    let all = json!({
        "imagePullSecrets": ["pull"],
        "env": { "A": { "value": "$(B)" }, "S": { "secret": { "name": "s", "key": "k" } } },
        "volumes": {
            "c": { "claim": { "name": "data" }, "mountPath": "/data", "subPath": "x", "readOnly": true },
            "m": { "memory": { "size": "1Gi" }, "mountPath": "/scratch" }
        },
        "resources": { "requests": { "cpu": 1 }, "limits": { "nvidia.com/gpu": "2" } },
        "resourceClaims": { "gpu": { "resourceClaimTemplateName": "t" } },
        "sharedMemory": "2Gi",
        "nodeSelector": { "disk": "ssd" },
        "tolerations": [{ "key": "gpu", "operator": "Exists" }],
        "affinity": { "nodeAffinity": {} },
        "topologySpread": [{ "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule" }],
        "priorityClassName": "high",
        "runtimeClassName": "nvidia",
        "serviceAccountName": "default",
        "terminationGracePeriod": "90s",
        "runAsUser": 1000,
        "runAsGroup": 2000
    });
    let pod = pod_of(all);
    let main = "/containers/0";
    let expected = [
        ("/imagePullSecrets/0/name", json!("pull")),
        (&format!("{main}/env/0/value"), json!("$$(B)")),
        (&format!("{main}/env/1/valueFrom/secretKeyRef/key"), json!("k")),
        ("/volumes/0/persistentVolumeClaim/claimName", json!("data")),
        ("/volumes/1/emptyDir/sizeLimit", json!("1Gi")),
        ("/volumes/2/emptyDir", json!({ "medium": "Memory", "sizeLimit": "2Gi" })),
        (
            &format!("{main}/volumeMounts/0"),
            json!({ "name": "c", "mountPath": "/data", "subPath": "x", "readOnly": true }),
        ),
        (&format!("{main}/volumeMounts/2/mountPath"), json!("/dev/shm")),
        (&format!("{main}/resources/requests/cpu"), json!("1")),
        (&format!("{main}/resources/limits/nvidia.com~1gpu"), json!("2")),
        (&format!("{main}/resources/claims/0/name"), json!("gpu")),
        ("/resourceClaims/0/resourceClaimTemplateName", json!("t")),
        ("/nodeSelector/disk", json!("ssd")),
        ("/tolerations/0/key", json!("gpu")),
        ("/affinity/nodeAffinity", json!({})),
        ("/topologySpreadConstraints/0/labelSelector/matchLabels/a", json!("b")),
        ("/priorityClassName", json!("high")),
        ("/runtimeClassName", json!("nvidia")),
        ("/serviceAccountName", json!("default")),
        ("/terminationGracePeriodSeconds", json!(90)),
        ("/securityContext/runAsUser", json!(1000)),
        ("/securityContext/fsGroup", json!(2000)),
    ];
    for (path, value) in expected {
        assert_eq!(pod.pointer(path), Some(&value), "{path} in {pod}");
    }
}

#[test]
fn the_kubelet_gives_back_escaped_text_as_it_was() {
    for text in ["", "$", "$(A)", "$$", "$$(A)", "a$b", "$$$(", "costs 5$", "$((1+2))", "x$$y$(Z"] {
        assert_eq!(kubelet(&escape(text)), text, "{}", escape(text));
    }
    assert_eq!(escape("a $HOME b"), "a $HOME b");
}

/// Expansion as in Kubernetes' third_party/forked/golang/expansion, with no variable known.
fn kubelet(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(more) = after.strip_prefix('$') {
            out.push('$');
            rest = more;
        } else if let Some((name, more)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            out.extend(["<", name, ">"]);
            rest = more;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out + rest
}

#[test]
fn settings_that_collide_or_are_not_allowed_are_named_with_their_path() {
    let config = Config { service_accounts: ["default".to_owned()].into(), ..Config::default() };
    let memory = |path: &str| json!({ "memory": {}, "mountPath": path });
    let cases = [
        (json!({ "serviceAccountName": "admin" }), "at.serviceAccountName", "ServiceAccountNotAllowed"),
        (json!({ "env": { "1A": { "value": "" } } }), "at.env.1A", "InvalidName"),
        (json!({ "volumes": { "A_b": memory("/a") } }), "at.volumes.A_b", "InvalidName"),
        (json!({ "volumes": { "millrace-model": memory("/a") } }), "at.volumes.millrace-model", "InvalidName"),
        (
            json!({ "volumes": { "a": memory("/x"), "b": memory("/x/") } }),
            "at.volumes.b.mountPath",
            "DuplicateMountPath",
        ),
        (
            json!({ "volumes": { "a": { "memory": {}, "mountPath": "/a", "subPath": "x/../.." } } }),
            "at.volumes.a.subPath",
            "InvalidPath",
        ),
        (
            json!({ "sharedMemory": 1, "volumes": { "a": memory("/dev/shm") } }),
            "at.volumes.a.mountPath",
            "DuplicateMountPath",
        ),
        (
            json!({ "resources": { "requests": { "cpu": 2 }, "limits": { "cpu": "1500m" } } }),
            "at.resources.requests.cpu",
            "InvalidResources",
        ),
        (json!({ "resourceClaims": { "A": {} } }), "at.resourceClaims.A", "InvalidName"),
    ];
    for (json, path, reason) in cases {
        let problems = check("at", &settings(json.clone()), &config);
        let found: Vec<_> = problems.iter().map(|problem| (problem.path.as_str(), problem.reason)).collect();
        assert_eq!(found, [(path, reason)], "{json}");
    }
    assert_eq!(check("at", &settings(json!({ "serviceAccountName": "default" })), &config), []);
}
