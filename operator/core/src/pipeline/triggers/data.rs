//! `triggers.onData`: new data at an address start a run, once.
//!
//! A Job looks there, and ends when what it finds is not what it was told. What it says is taken over when the run that follows from it was seen;
//! then another Job is told that. So the status alone says how far it has come: a Job that is lost is made again and finds the same.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use millrace_contract::{LONGEST_VERSION, LookReport, REPORT_LIMIT};

use super::{Kind, Look, Start, data_job, since};
use crate::api::{DataError, DataTrigger, DataTriggerStatus};
use crate::plan::Event;
use crate::problem::head;
use crate::run::{JobView, PodView, pod_waits};
use crate::{duration, names};

/// A pod that waits for longer than this has something to say.
const PATIENCE: Duration = Duration::from_secs(10);
/// A pod that runs for longer than this works.
const WORKS: Duration = Duration::from_secs(20);
/// A message of a status, and of an error in it.
const LONGEST: usize = 600;
/// Hex characters of a digest in a key.
const DIGEST: usize = 16;

/// Looks at one trigger: what its status says then.
pub(super) fn look(
    look: &mut Look<'_>,
    name: &str,
    trigger: &DataTrigger,
    old: Option<&DataTriggerStatus>,
) -> Option<DataTriggerStatus> {
    let rule = digest(&trigger.uri);
    let old = old.filter(|old| old.rule == rule);
    if trigger.suspend {
        // What is known stays known: what comes meanwhile is new afterwards.
        return old.cloned();
    }
    let begins = || DataTriggerStatus { rule, start_time: Some(Time(look.now)), ..DataTriggerStatus::default() };
    let mut new = old.cloned().unwrap_or_else(begins);
    if look.config.data_image.is_empty() {
        new.message = Some("the operator was started without --data-image, whose program looks for data".to_owned());
    } else {
        goes_on(look, name, trigger, &mut new);
    }
    let why = new.message.clone().or_else(|| new.error.as_ref().map(|e| format!("{}: {}", e.reason, e.message)));
    if let Some(why) = why {
        look.blocked("onData", name, &why);
    }
    Some(new)
}

/// Sees to it that a Job looks, and takes over what it says.
fn goes_on(look: &mut Look<'_>, name: &str, trigger: &DataTrigger, status: &mut DataTriggerStatus) {
    let mut job = data_job::build(look.pipeline, name, trigger, status, look.config, &look.observed.claims);
    if let Some(report) = report_of(look, &job.metadata.name.clone().unwrap_or_default()) {
        if !take(look, name, trigger, status, report) {
            // The Job stays, and with it what it said, until the run was seen.
            look.wanted.extend(job.metadata.name);
            return;
        }
        job = data_job::build(look.pipeline, name, trigger, status, look.config, &look.observed.claims);
    }
    let Some(wanted) = job.metadata.name.clone() else { return };
    look.wanted.insert(wanted.clone());
    match own(look, &wanted) {
        Some(found) => {
            let message = stands(look, found, status.message.as_deref());
            status.message = message;
        }
        None => {
            let refusal = look.observed.refusals.iter().find(|refusal| refusal.object == format!("Job {wanted}"));
            if let Some(refusal) = refusal {
                status.message = Some(head(&format!("{}: {}", refusal.reason, refusal.message), LONGEST));
            }
            look.looks.push(job);
        }
    }
}

/// The pipeline's own Job of this name.
fn own<'a>(look: &Look<'a>, name: &str) -> Option<&'a JobView> {
    let jobs = look.observed.looks.jobs.iter().map(AsRef::as_ref);
    jobs.into_iter().find(|job| job.name == name && job.owner == look.pipeline.metadata.uid)
}

fn pods_of<'a>(look: &Look<'a>, job: &JobView) -> impl Iterator<Item = &'a PodView> {
    let uid = job.uid.clone();
    look.observed.looks.pods.iter().map(AsRef::as_ref).filter(move |pod| pod.owner.as_ref() == Some(&uid))
}

/// What a pod of the Job said as it ended.
fn report_of(look: &Look<'_>, job: &str) -> Option<LookReport> {
    let job = own(look, job)?;
    pods_of(look, job).find_map(|pod| {
        let end = pod.main.as_ref()?.terminated.as_ref().filter(|end| end.exit_code == 0)?;
        serde_json::from_str(&end.message).ok().filter(|_| end.message.len() <= REPORT_LIMIT)
    })
}

/// Takes over what was said. False as long as the run that follows from it is to be made.
fn take(
    look: &mut Look<'_>,
    name: &str,
    trigger: &DataTrigger,
    status: &mut DataTriggerStatus,
    report: LookReport,
) -> bool {
    match report {
        LookReport::Failed(fault) => {
            status.error = Some(DataError { reason: head(&fault.reason, 60), message: head(&fault.message, LONGEST) });
        }
        LookReport::Found { version, found } => {
            let version = version.map(|version| head(&version, LONGEST_VERSION));
            let counts = status.observed_time.is_some() || trigger.initial;
            let news = version.as_ref().filter(|version| status.version.as_ref() != Some(version));
            if let Some(version) = news.filter(|_| counts) {
                let since = since(status.start_time.as_ref());
                let key = format!("{name}/{since}/{}/{}", status.runs + 1, digest(version));
                let start = Start { version: Some(version), ..Start::of(Kind::Data, name, key, &trigger.params) };
                let Some(run) = look.seen(&start) else {
                    look.start(start);
                    return false;
                };
                look.tell(&format!("onData {name}"), &run, &format!("for version {version} of the data: {found}"));
                status.runs += 1;
                status.last_time = Some(Time(look.now));
                status.last_run = Some(run);
            }
            if status.error.take().is_some() {
                let message = format!("onData {name}: looking goes well again: {found}");
                look.events.push(Event::normal("TriggerUnblocked", message));
            }
            // What is gone stays known: that it comes back as it was is no news.
            status.version = version.or(status.version.take());
            status.found = Some(head(&found, 200));
            status.observed_time = Some(Time(look.now));
        }
    }
    status.message = None;
    status.reports += 1;
    true
}

/// What keeps the Job's pod from looking, if anything does. `before` is what was said last.
fn stands(look: &mut Look<'_>, job: &JobView, before: Option<&str>) -> Option<String> {
    let said = |text: &str| Some(head(text, LONGEST));
    let Some(pod) = pods_of(look, job).max_by_key(|pod| pod.created) else {
        if job.complete {
            // Its pod went, and what it said.
            look.wanted.remove(&job.name);
        }
        let words = look.observed.looks.warnings.get(&job.name).or(job.failed.as_ref());
        return words.map_or_else(
            || before.map(str::to_owned),
            |words| said(&format!("the Job that looks: {}: {}", words.reason, nameless(&words.message))),
        );
    };
    let main = pod.main.as_ref();
    if let Some(end) = main.and_then(|main| main.terminated.as_ref()) {
        let last = end.message.lines().last().unwrap_or_default();
        return said(&format!("the pod that looks ended with {} ({}): {last}", end.exit_code, end.reason));
    }
    if let Some(since) = main.and_then(|main| main.running_since) {
        let left = WORKS.saturating_sub(duration::since(since, look.now));
        if before.is_some() && left > Duration::ZERO {
            look.again(left);
            return before.map(str::to_owned);
        }
        return None;
    }
    let Some(words) = pod_waits(pod) else { return before.map(str::to_owned) };
    let left = pod.created.map(|at| PATIENCE.saturating_sub(duration::since(at, look.now))).unwrap_or_default();
    if left > Duration::ZERO {
        look.again(left);
        return before.map(str::to_owned);
    }
    said(&format!("{}: {}", words.reason, words.message))
}

/// The Job controller's words without the pod's name, which is another with each try: a status that says the same is not written again.
fn nameless(text: &str) -> String {
    let named = text.split_once("pods \"").and_then(|(before, rest)| Some((before, rest.split_once('"')?.1)));
    named.map_or_else(|| text.to_owned(), |(before, after)| format!("{before}its pod{after}"))
}

fn digest(text: &str) -> String {
    let mut hex = names::sha256_hex(text.as_bytes());
    hex.truncate(DIGEST);
    hex
}
