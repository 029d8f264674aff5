//! A program and its pod settings. Some rules are the schema's too: a spec can also come from where no schema looked, as a
//! pipeline that is checked outside a cluster.

use super::{Problems, time};
use crate::api::{Container, PodSettings};
use crate::config::Config;
use crate::pod;

/// The program and the settings of a container.
pub(super) fn check(container: &Container, path: &str, config: &Config, problems: &mut Problems) {
    if container.image.trim().is_empty() {
        problems.add(
            format!("{path}.image"),
            "InvalidContainer",
            "image is empty: write the image that holds the program",
        );
    }
    match (&container.command, &container.script) {
        (None, None) => problems.add(
            path,
            "InvalidContainer",
            "command or script is required: Millrace cannot see the image's entrypoint. Write the command that the image runs",
        ),
        (Some(_), Some(_)) => {
            problems.add(path, "InvalidContainer", "command and script exclude each other: keep one");
        }
        (Some(command), None) if command.first().is_none_or(String::is_empty) => {
            problems.add(format!("{path}.command"), "InvalidContainer", "command is empty: write the program to run");
        }
        (None, Some(script)) if !script.starts_with("#!") => problems.add(
            format!("{path}.script"),
            "InvalidContainer",
            "script must begin with an interpreter line such as #!/bin/sh or #!/usr/bin/env python3",
        ),
        _ => {}
    }
    settings(&container.settings, path, config, problems);
}

/// Pod settings.
pub(super) fn settings(settings: &PodSettings, path: &str, config: &Config, problems: &mut Problems) {
    problems.0.extend(pod::check(path, settings, config));
    time::duration(settings.termination_grace_period.as_deref(), &format!("{path}.terminationGracePeriod"), problems);
    for (name, value) in &settings.env {
        let at = format!("{path}.env.{name}");
        if name.starts_with("MILLRACE_") {
            problems.add(&at, "InvalidName", "names that begin with MILLRACE_ belong to Millrace: write another name");
        }
        let given = [value.value.is_some(), value.secret.is_some(), value.config_map.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            problems.add(&at, "InvalidContainer", "exactly one of value, secret and configMap is required: keep one");
        }
    }
    for (name, volume) in &settings.volumes {
        let at = format!("{path}.volumes.{name}");
        let given =
            [volume.config_map.is_some(), volume.secret.is_some(), volume.claim.is_some(), volume.memory.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            problems.add(
                &at,
                "InvalidContainer",
                "exactly one of configMap, secret, claim and memory is required: keep one",
            );
        }
        mount_path(&volume.mount_path, &format!("{at}.mountPath"), problems);
    }
}

fn mount_path(path: &str, at: &str, problems: &mut Problems) {
    let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".").peekable();
    if !path.starts_with('/') || path.contains(':') || parts.peek().is_none() {
        let message = format!("`{path}` is no place to mount: write an absolute path below /, without `:`");
        problems.add(at, "InvalidPath", message);
    } else if path.split('/').any(|part| part == "..") {
        problems.add(at, "InvalidPath", format!("`{path}` climbs: write a path without `..`"));
    } else if parts.next() == Some("millrace") {
        let message = format!("`{path}` is below /millrace, which belongs to Millrace: mount it elsewhere");
        problems.add(at, "InvalidPath", message);
    }
}

/// A service account outside of a container.
pub(super) fn account(name: Option<&str>, path: &str, config: &Config, problems: &mut Problems) {
    let settings = PodSettings { service_account_name: name.map(str::to_owned), ..PodSettings::default() };
    problems.0.extend(pod::check(path, &settings, config));
}
