//! A pod laid over a PodTemplate of the catalog: the platform's admins add what the settings do not list (RDMA,
//! sidecars, annotations), and whatever both say, Millrace's word counts.

use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use serde_json::{Map, Value};

use super::settings::extend;

/// What the template cannot say of the container `main`, also where Millrace leaves it open: which program runs, and
/// where its report is read. The pull policy is there in any case: the apiserver derives it from the template's image.
const NOT_ITS: [&str; 7] =
    ["image", "command", "args", "imagePullPolicy", "terminationMessagePath", "restartPolicy", "restartPolicyRules"];

/// Lays `ours` over the template. Objects are merged; containers, volumes, environment variables and the like by name;
/// tolerations and spread constraints add up; other lists are ours. The template's container `main` is the stage or
/// the server, whose program stays Millrace's.
///
/// If the outcome is no pod, which takes a template that is none, it is `ours` alone.
#[must_use]
pub fn over_template(template: &PodTemplateSpec, ours: PodTemplateSpec) -> PodTemplateSpec {
    let (Ok(mut below), Ok(above)) = (serde_json::to_value(template), serde_json::to_value(&ours)) else {
        return ours;
    };
    for main in below.pointer_mut("/spec/containers").and_then(Value::as_array_mut).into_iter().flatten() {
        if main["name"] == super::MAIN
            && let Some(fields) = main.as_object_mut()
        {
            fields.retain(|field, _| !NOT_ITS.contains(&field.as_str()));
        }
    }
    merge(&mut below, above);
    // The main container comes first, where `kubectl logs` looks.
    let mut merged: PodTemplateSpec = serde_json::from_value(below).unwrap_or(ours);
    if let Some(spec) = &mut merged.spec {
        spec.containers.sort_by_key(|container| container.name != super::MAIN);
    }
    merged
}

/// Makes the pod's other containers sidecars, which start before `main` and end with it: a helper that runs on would
/// keep a stage's pod, and what it holds, for ever.
pub fn end_with_main(pod: &mut PodSpec) {
    let (main, others) = std::mem::take(&mut pod.containers).into_iter().partition(|c| c.name == super::MAIN);
    pod.containers = main;
    let sidecars = others.into_iter().map(|c| Container { restart_policy: Some("Always".to_owned()), ..c });
    extend(&mut pod.init_containers, sidecars);
}

fn merge(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => merge_objects(below, above),
        (below, above) => *below = above,
    }
}

fn merge_objects(below: &mut Map<String, Value>, above: Map<String, Value>) {
    for (field, value) in above {
        let Some(old) = below.get_mut(&field) else {
            below.insert(field, value);
            continue;
        };
        match (old, value) {
            (Value::Array(old), Value::Array(new)) => merge_lists(&field, old, new),
            (old, value) => merge(old, value),
        }
    }
}

fn merge_lists(field: &str, old: &mut Vec<Value>, new: Vec<Value>) {
    let (key, deep) = match field {
        "containers" | "initContainers" => ("name", true),
        "volumes" | "env" | "imagePullSecrets" | "resourceClaims" | "claims" => ("name", false),
        "volumeMounts" => ("mountPath", false),
        "ports" => ("containerPort", false),
        "tolerations" | "topologySpreadConstraints" | "envFrom" => {
            let added: Vec<Value> = new.into_iter().filter(|value| !old.contains(value)).collect();
            old.extend(added);
            return;
        }
        _ => {
            *old = new;
            return;
        }
    };
    for value in new {
        match old.iter_mut().find(|there| there.get(key) == value.get(key)) {
            Some(there) if deep => merge(there, value),
            // A volume or variable has one source: two of them side by side would be refused.
            Some(there) => *there = value,
            None => old.push(value),
        }
    }
}
