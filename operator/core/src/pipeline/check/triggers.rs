//! Triggers: times that come, names that there are, expressions that say yes or no, values that fit.

use std::collections::BTreeMap;

use super::expression::References;
use super::{Problems, bind_params, name};
use crate::access;
use crate::api::{MLPipelineSpec, Value};
use crate::expr::{self, Type};
use crate::pipeline::triggers::{Fault, names_of_model, of_schedule};
use crate::reach;

/// The triggers of a pipeline.
pub(super) fn check(spec: &MLPipelineSpec, problems: &mut Problems) {
    let Some(triggers) = &spec.triggers else { return };
    if triggers.on_change {
        for (name, param) in &spec.params {
            if !param.optional && param.default.is_none() {
                let message = format!(
                    "a run that a change starts has no value for the parameter `{name}`: give it a default, write optional: true, or leave onChange out"
                );
                problems.add("spec.triggers.onChange", "MissingParameter", message);
            }
        }
    }
    name::labels(&triggers.schedules, "spec.triggers.schedules", "a schedule", problems);
    name::labels(&triggers.on_model, "spec.triggers.onModel", "a trigger", problems);
    name::labels(&triggers.backfills, "spec.triggers.backfills", "a backfill", problems);
    for (name, schedule) in &triggers.schedules {
        let at = format!("spec.triggers.schedules.{name}");
        match of_schedule(schedule) {
            Ok(times) if times.never_come() => {
                let message = format!("`{}` never comes: there is no such day", schedule.cron);
                problems.add(format!("{at}.cron"), "InvalidSchedule", message);
            }
            Ok(_) => {}
            Err(Fault::Cron(message)) => problems.add(format!("{at}.cron"), "InvalidSchedule", message),
            Err(Fault::Zone(message)) => problems.add(format!("{at}.timeZone"), "InvalidSchedule", message),
        }
        params(spec, &schedule.params, &at, problems);
    }
    for (name, backfill) in &triggers.backfills {
        let at = format!("spec.triggers.backfills.{name}");
        let Some(schedule) = triggers.schedules.get(&backfill.schedule) else {
            let hint = expr::did_you_mean(&backfill.schedule, triggers.schedules.keys().map(String::as_str));
            let message = format!("there is no schedule `{}`: {hint}", backfill.schedule);
            problems.add(format!("{at}.schedule"), "UnknownSchedule", message);
            continue;
        };
        let mut given = schedule.params.clone();
        given.extend(backfill.params.clone());
        params(spec, &given, &at, problems);
    }
    for (name, trigger) in &triggers.on_model {
        let at = format!("spec.triggers.onModel.{name}");
        name::label(&trigger.model_deployment, &format!("{at}.modelDeployment"), "a ModelDeployment", problems);
        let when = format!("{at}.when");
        if expr::has_template(&trigger.when) {
            let message = "when is an expression by itself: leave the `$[[` and `]]` out";
            problems.add(when, "InvalidExpression", message);
        } else {
            let checked = expr::check(&trigger.when, &names_of_model(), &Type::Boolean);
            References::default().take(checked, &when, problems);
        }
        params(spec, &trigger.params, &at, problems);
    }
    name::labels(&triggers.on_pipeline, "spec.triggers.onPipeline", "a trigger", problems);
    for (name, trigger) in &triggers.on_pipeline {
        params(spec, &trigger.params, &format!("spec.triggers.onPipeline.{name}"), problems);
    }
    name::labels(&triggers.on_data, "spec.triggers.onData", "a trigger", problems);
    for (name, trigger) in &triggers.on_data {
        let at = format!("spec.triggers.onData.{name}");
        if let Some(message) = no_address(&trigger.uri) {
            problems.add(format!("{at}.uri"), "InvalidAddress", message);
        }
        let access = trigger.access.clone().unwrap_or_default();
        problems.0.extend(access::of_data(&trigger.uri, &access, &format!("{at}.access")));
        params(spec, &trigger.params, &at, problems);
    }
}

/// What is wrong with the address of data.
fn no_address(uri: &str) -> Option<String> {
    let (scheme, rest) = uri.split_once("://").unwrap_or_default();
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    match scheme {
        _ if expr::has_template(uri) => Some("nothing is filled in here: write the address as it is".to_owned()),
        "http" | "https" if host.is_empty() => Some(format!("`{uri}` has no host: write https://host/file")),
        "http" | "https" if host.contains('@') => Some(
            "it holds a user or a password, which everybody sees who may read the pipeline: write access.secretRef with HTTP_AUTHORIZATION"
                .to_owned(),
        ),
        "http" | "https" if access::is_metadata(host) => {
            Some(format!("{host} is for the machine alone, not for data: write the address of a server"))
        }
        "s3" | "gs" | "az" if host.is_empty() || !rest.contains('/') => {
            let bucket = if scheme == "az" { "az://container" } else { &format!("{scheme}://bucket") };
            Some(format!("`{uri}` names no object: write {bucket}/key, or {bucket}/prefix/ for all objects below it"))
        }
        "pvc" if reach::claim_of(uri).is_none() => {
            let why = if path.is_empty() { "names no file or folder" } else { "names no path below the claim's root" };
            Some(format!("`{uri}` {why}: write pvc://claim/path, without `.`, `..` and empty parts"))
        }
        "s3" | "gs" | "az" if path.split('/').any(|part| part == "..") => {
            Some(format!("`{uri}` has \"..\" in it: write the key as it is in the bucket"))
        }
        "http" | "https" | "s3" | "gs" | "az" | "pvc" => None,
        _ => Some(format!(
            "`{uri}` is no address that can be looked at: write https://, http://, s3://, gs://, az:// or pvc://"
        )),
    }
}

/// A run that gets these values can begin.
fn params(spec: &MLPipelineSpec, given: &BTreeMap<String, Value>, at: &str, problems: &mut Problems) {
    if let Err(found) = bind_params(&spec.params, given, &format!("{at}.params")) {
        problems.0.extend(found);
    }
}
