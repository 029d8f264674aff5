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
}

/// A service account outside of a container.
pub(super) fn account(name: Option<&str>, path: &str, config: &Config, problems: &mut Problems) {
    let settings = PodSettings { service_account_name: name.map(str::to_owned), ..PodSettings::default() };
    problems.0.extend(pod::check(path, &settings, config));
}
