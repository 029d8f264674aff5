//! What a schema cannot see of pod settings: names that must be names, paths that collide, accounts that are allowed.

use std::collections::BTreeMap;

use super::{OWN_VOLUME, resources};
use crate::api::PodSettings;
use crate::config::Config;
use crate::problem::Problem;

/// What is wrong with settings that stand at `path`.
#[must_use]
pub fn check(path: &str, settings: &PodSettings, config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(account) = &settings.service_account_name
        && !config.service_accounts.contains(account)
    {
        let allowed: Vec<&str> = config.service_accounts.iter().map(String::as_str).collect();
        problems.push(Problem::new(
            format!("{path}.serviceAccountName"),
            "ServiceAccountNotAllowed",
            format!(
                "service account \"{account}\" is not allowed; allowed are: {}. Name one of these, or have it added to the chart's value stages.serviceAccounts",
                allowed.join(", ")
            ),
        ));
    }
    for name in settings.env.keys().filter(|name| !is_env_name(name)) {
        problems.push(Problem::new(
            format!("{path}.env.{name}"),
            "InvalidName",
            "this is no name for an environment variable: write letters, digits, '_', '-' and '.', not beginning with a digit",
        ));
    }
    for (name, value) in &settings.env {
        let at = format!("{path}.env.{name}");
        if name.starts_with("MILLRACE_") {
            let message = "names that begin with MILLRACE_ belong to Millrace: write another name";
            problems.push(Problem::new(at.as_str(), "InvalidName", message));
        }
        let given = [value.value.is_some(), value.secret.is_some(), value.config_map.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            let message = "exactly one of value, secret and configMap is required: keep one";
            problems.push(Problem::new(at, "InvalidContainer", message));
        }
    }
    let mut mounted: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, volume) in &settings.volumes {
        let at = format!("{path}.volumes.{name}");
        if !is_label(name) || name.starts_with(OWN_VOLUME) {
            problems.push(Problem::new(
                at.as_str(),
                "InvalidName",
                format!("this is no name for a volume: write at most 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit, and not beginning with \"{OWN_VOLUME}\""),
            ));
        }
        let given =
            [volume.config_map.is_some(), volume.secret.is_some(), volume.claim.is_some(), volume.memory.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            let message = "exactly one of configMap, secret, claim and memory is required: keep one";
            problems.push(Problem::new(at.as_str(), "InvalidContainer", message));
        }
        if let Some(message) = no_mount_path(&volume.mount_path) {
            problems.push(Problem::new(format!("{at}.mountPath"), "InvalidPath", message));
        }
        let climbs = |text: &str| text.split('/').any(|part| part == "..");
        if volume.sub_path.as_deref().is_some_and(|sub| sub.starts_with('/') || climbs(sub)) {
            problems.push(Problem::new(
                format!("{at}.subPath"),
                "InvalidPath",
                "subPath must be a path below the volume's root, without \"..\" and without a leading \"/\"",
            ));
        }
        if let Some(other) = mounted.insert(volume.mount_path.trim_end_matches('/'), name) {
            problems.push(Problem::new(
                format!("{at}.mountPath"),
                "DuplicateMountPath",
                format!(
                    "\"{}\" is the mountPath of volume \"{other}\" too: give each volume its own",
                    volume.mount_path
                ),
            ));
        }
    }
    if settings.shared_memory.is_some()
        && let Some(name) = mounted.get("/dev/shm")
    {
        problems.push(Problem::new(
            format!("{path}.volumes.{name}.mountPath"),
            "DuplicateMountPath",
            "\"/dev/shm\" is what sharedMemory mounts: keep one of the two",
        ));
    }
    if let Some(found) = &settings.resources {
        problems.extend(resources::check(&format!("{path}.resources"), found));
    }
    for name in settings.resource_claims.keys().filter(|name| !is_label(name)) {
        problems.push(Problem::new(
            format!("{path}.resourceClaims.{name}"),
            "InvalidName",
            "this is no name for a claim: write at most 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit",
        ));
    }
    problems
}

fn no_mount_path(path: &str) -> Option<String> {
    let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".").peekable();
    if !path.starts_with('/') || path.contains(':') || parts.peek().is_none() {
        Some(format!("`{path}` is no place to mount: write an absolute path below /, without `:`"))
    } else if path.split('/').any(|part| part == "..") {
        Some(format!("`{path}` climbs: write a path without `..`"))
    } else if parts.next() == Some("millrace") {
        Some(format!("`{path}` is below /millrace, which belongs to Millrace: mount it elsewhere"))
    } else {
        None
    }
}

fn is_env_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || "_-.".contains(c);
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

fn is_label(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 63 && name.starts_with(edge) && name.ends_with(edge) && name.chars().all(|c| edge(c) || c == '-')
}
