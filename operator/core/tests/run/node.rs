//! The nodes of the small cluster: every pod goes one step a tick, and ends as its fate says.

use millrace_contract::{ITEM_GIVEN_UP, Task};
use millrace_core::item::Order;
use millrace_core::run::{ContainerView, JobItems, JobView, PodView, Terminated};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Fate, words};

/// One step of everything that is not the operator. Whether anything moved.
pub fn tick(cluster: &mut Cluster) -> bool {
    let mut moved = cluster.serve();
    let jobs: Vec<_> = cluster.jobs.values().cloned().collect();
    for (view, job) in jobs {
        let spec = job.spec.unwrap();
        let most_failed = spec.max_failed_indexes;
        let template = spec.template.spec.unwrap();
        let task = template.containers[0].env.iter().flatten().find(|var| var.name == "MILLRACE_TASK");
        let task: Task = serde_json::from_str(task.unwrap().value.as_ref().unwrap()).unwrap();
        if view.items.is_some() {
            moved |= items(cluster, &view, spec.completions.unwrap(), most_failed == Some(0), &task);
            continue;
        }
        let at = cluster.pods.iter().position(|pod| pod.owner.as_ref() == Some(&view.uid));
        let over = view.failed.is_some() || view.complete;
        match at {
            None if over => {}
            None => {
                let pod = PodView {
                    name: format!("{}-x", view.name),
                    uid: cluster.uid("pod"),
                    owner: Some(view.uid.clone()),
                    stage: view.stage.clone(),
                    attempt: view.attempt,
                    phase: "Pending".into(),
                    main: Some(ContainerView::default()),
                    ..PodView::default()
                };
                cluster.pods.push(pod);
                moved = true;
            }
            Some(at) => moved |= step(cluster, &view.name, at, &task),
        }
    }
    moved
}

/// All items of an Indexed Job one step further, at the same time. What becomes of one is the fate of `<stage>/<index>`.
fn items(cluster: &mut Cluster, view: &JobView, completions: i32, fail_fast: bool, task: &Task) -> bool {
    if view.failed.is_some() || view.complete {
        return false;
    }
    let mut counts = JobItems::default();
    let mut pods = Vec::new();
    let old: Vec<PodView> = cluster.pods.iter().filter(|pod| pod.owner.as_ref() == Some(&view.uid)).cloned().collect();
    for index in 0..u32::try_from(completions).unwrap() {
        let fate = cluster.fates.get(&(format!("{}/{index}", task.stage), task.attempt)).cloned();
        let fate = fate.unwrap_or(Fate::Succeeds(json!({})));
        let mut pod = old.iter().find(|pod| pod.index == Some(index)).cloned().unwrap_or_else(|| PodView {
            name: format!("{}-{index}", view.name),
            uid: cluster.uid("pod"),
            owner: Some(view.uid.clone()),
            stage: view.stage.clone(),
            attempt: view.attempt,
            index: Some(index),
            phase: "Pending".into(),
            ..PodView::default()
        });
        let now = cluster.now;
        match (&mut pod.main, &fate) {
            (none @ None, _) => *none = Some(ContainerView::default()),
            (Some(main), Fate::NoImage) => main.waiting = Some(words("ErrImagePull", "no such image")),
            (Some(main), _) if main.terminated.is_none() && main.running_since.is_none() => {
                main.running_since = Some(now);
                main.image_id = "registry/image@sha256:abc".into();
                pod.phase = "Running".into();
            }
            (Some(main), Fate::Succeeds(_)) => {
                main.terminated = Some(Terminated { reason: "Completed".into(), ..Terminated::default() });
            }
            (Some(_), Fate::Hangs) => {}
            (Some(main), fate) => {
                let report = report(cluster, task, fate);
                let (exit_code, message) = (item_ends(task, &report), report.to_string());
                main.terminated =
                    Some(Terminated { exit_code, reason: "Error".into(), message, ..Terminated::default() });
            }
        }
        let main = pod.main.clone().unwrap_or_default();
        match main.terminated {
            Some(end) if end.exit_code == 0 => counts.succeeded += 1,
            Some(_) => {
                counts.failed += 1;
                counts.first_failed.push(index);
            }
            None => counts.ready += u32::from(main.running_since.is_some()),
        }
        pods.push(pod);
    }
    let moved = old != pods;
    cluster.pods.retain(|pod| pod.owner.as_ref() != Some(&view.uid));
    cluster.pods.extend(pods);
    let job = &mut cluster.jobs.get_mut(&view.name).unwrap().0;
    let all = counts.succeeded + counts.failed == u32::try_from(completions).unwrap();
    if counts.failed > 0 && (fail_fast || all) {
        let reason = if fail_fast { "MaxFailedIndexesExceeded" } else { "FailedIndexes" };
        job.failed = Some(words(reason, "Job has failed indexes"));
    } else {
        job.complete = all;
    }
    job.items = Some(counts);
    // Who stops a Job stops its pods.
    if job.failed.is_some() {
        cluster.pods.retain(|pod| {
            pod.owner.as_ref() != Some(&view.uid) || pod.main.as_ref().is_some_and(|main| main.terminated.is_some())
        });
    }
    moved
}

/// As the agent of an item that failed ends.
fn item_ends(task: &Task, report: &Value) -> i32 {
    let order = task.items.as_ref().and_then(|items| items.order.clone()).unwrap_or_default();
    let order: Order = serde_json::from_value(order).unwrap_or_default();
    let code = report["exitCode"].as_i64().and_then(|code| i32::try_from(code).ok());
    let no = order.retry.and_then(|retry| retry.refused(code, report["reason"].as_str().unwrap(), task.attempt));
    if no.is_some() { ITEM_GIVEN_UP.into() } else { 1 }
}

fn step(cluster: &mut Cluster, job: &str, at: usize, task: &Task) -> bool {
    let fate = cluster.fates.get(&(task.stage.clone(), task.attempt)).cloned();
    let fate = fate.unwrap_or(Fate::Succeeds(json!({})));
    let now = cluster.now;
    let pod = &mut cluster.pods[at];
    let main = pod.main.get_or_insert_default();
    if main.terminated.is_some() || pod.phase == "Failed" {
        // A second later the Job knows too.
        let view = &mut cluster.jobs.get_mut(job).unwrap().0;
        let before = view.clone();
        if main.terminated.as_ref().is_some_and(|end| end.exit_code == 0) {
            view.complete = true;
        } else {
            view.failed = Some(words("BackoffLimitExceeded", "Job has reached the specified backoff limit"));
        }
        return *view != before;
    }
    if fate == Fate::NoImage {
        let waiting = Some(words("ErrImagePull", "no such image: nowhere/nothing:1"));
        let changed = main.waiting != waiting;
        main.waiting = waiting;
        return changed;
    }
    if main.running_since.is_none() {
        main.running_since = Some(now);
        main.image_id = "registry/image@sha256:abc".into();
        pod.phase = "Running".into();
        return true;
    }
    if fate == Fate::Hangs {
        return false;
    }
    end(cluster, job, at, task, &fate);
    true
}

fn end(cluster: &mut Cluster, job: &str, at: usize, task: &Task, fate: &Fate) {
    let report = report(cluster, task, fate);
    let pod = &mut cluster.pods[at];
    let (exit, reason, message) = match fate {
        Fate::Succeeds(_) => (0, "Completed", report.to_string()),
        Fate::Exits(code) => (*code, "Error", report.to_string()),
        Fate::LosesInput(_) => (66, "Error", report.to_string()),
        Fate::OutOfMemory => (137, "Error", report.to_string()),
        Fate::OutOfMemoryWithAgent => (137, "OOMKilled", String::new()),
        Fate::ExitsWithoutReport => (0, "Completed", String::new()),
        Fate::Evicted => {
            pod.phase = "Failed".into();
            pod.words = Some(words("Evicted", "the node was low on resource: memory"));
            pod.main = None;
            return;
        }
        Fate::LostWithNode | Fate::PodDeleted => {
            cluster.pods.remove(at);
            let view = &mut cluster.jobs.get_mut(job).unwrap().0;
            view.failed = Some(words("BackoffLimitExceeded", "Job has reached the specified backoff limit"));
            return;
        }
        Fate::JobDeleted => {
            cluster.pods.remove(at);
            cluster.jobs.remove(job);
            return;
        }
        Fate::NoImage | Fate::Hangs => unreachable!("they do not end"),
    };
    let end = Terminated { exit_code: exit, reason: reason.into(), message, ..Terminated::default() };
    pod.phase = if exit == 0 { "Succeeded" } else { "Failed" }.into();
    let main = pod.main.get_or_insert_default();
    main.running_since = None;
    main.terminated = Some(end);
}

/// What the agent would report, and the manifest that it would leave.
fn report(cluster: &mut Cluster, task: &Task, fate: &Fate) -> Value {
    let mut report = json!({
        "millrace": "v1", "runUid": task.run_uid, "stage": task.stage, "attempt": task.attempt,
        "usage": { "cpuSeconds": 1.0, "peakMemoryBytes": 2, "wallSeconds": 3.0 },
    });
    let complete = match fate {
        Fate::Succeeds(facts) => Some(facts.clone()),
        Fate::LostWithNode => Some(json!({})),
        _ => None,
    };
    let Some(facts) = complete else {
        report["outcome"] = json!("Failed");
        let (reason, code) = match fate {
            Fate::OutOfMemory => ("OOMKilled", 137),
            Fate::Exits(code) => ("Error", *code),
            Fate::LosesInput(_) => ("InputLost", 66),
            _ => ("Error", 1),
        };
        report["reason"] = json!(reason);
        report["exitCode"] = json!(code);
        report["message"] = json!(format!("the command exited with {code}"));
        report["tail"] = json!("Traceback: no luck");
        if let Fate::LosesInput(name) = fate {
            // As the agent calls the file that a `forEach` runs over.
            let list = if *name == "items" { "the list of items: " } else { "" };
            report["message"] = json!(format!("{list}input {name:?} is damaged: its digest is another one"));
        }
        return report;
    };
    let folder = folder(cluster, task);
    if let Some(winner) = cluster.manifests.get(&folder) {
        let mut recovered = winner.clone();
        recovered["winner"] = winner["attempt"].clone();
        recovered["attempt"] = json!(task.attempt);
        recovered["reason"] = json!("Recovered");
        return recovered;
    }
    report["outcome"] = json!("Succeeded");
    report["reason"] = json!("Completed");
    report["exitCode"] = json!(0);
    for (key, value) in facts.as_object().unwrap() {
        report[key] = value.clone();
    }
    let outputs = task.outputs.iter().map(|(name, output)| {
        let digest = format!("sha256:{}-{name}", task.stage);
        let mut record = json!({ "type": output.kind, "digest": digest, "size": 7, "files": 1 });
        if output.kind == millrace_contract::ArtifactKind::Model {
            record["format"] = json!(output.format.as_deref().unwrap_or("onnx"));
            if output.format.is_none() {
                record["signature"] = json!({ "task": "classification" });
            }
        }
        if output.items {
            record["items"] = json!(task.items.as_ref().map_or(3, |items| items.total));
        }
        (name.clone(), record)
    });
    if report.get("outputs").is_none() {
        report["outputs"] = outputs.collect::<serde_json::Map<_, _>>().into();
    }
    cluster.manifests.insert(folder, report.clone());
    report
}

/// The folder of the store that an attempt sees as its own.
fn folder(cluster: &Cluster, task: &Task) -> String {
    let (_, job) =
        &cluster.jobs.values().find(|(job, _)| (&job.stage, job.attempt) == (&task.stage, task.attempt)).unwrap();
    let mounts = &job.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0].volume_mounts;
    let store = mounts.iter().flatten().find(|mount| mount.name == "millrace-store").unwrap();
    store.sub_path.clone().unwrap_or_else(|| task.stage.clone())
}
