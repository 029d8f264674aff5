//! `look`: waits until what lies at an address is not what is known of it, and says so as it ends.
//!
//! The operator starts it for a pipeline's `triggers.onData`, in the pipeline's namespace, and starts it again with what it said. So nobody
//! writes anything while nothing changes, and whatever ends this program on the way costs one more look.

mod files;
mod http;
mod objects;
mod wait;

use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use millrace_contract::{LONGEST_VERSION, LOOK_DIR, LookReport, LookTask};
use sha2::{Digest, Sha256};

use crate::say;
use wait::{Next, Wait};

/// Where the report goes, if not to the kubelet's `/dev/termination-log`; and another folder in the place of `/millrace`. As the agent has them.
const REPORT_ENV: &str = "MILLRACE_TERMINATION_LOG";
const ROOT_ENV: &str = "MILLRACE_ROOT";
/// A message of a fault; the report has 4,096 bytes.
const LONGEST_MESSAGE: usize = 600;

#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error("failed to write the report to {}", path.display())]
    Report {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// What one look finds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// None if nothing is there.
    version: Option<String>,
    /// For people.
    found: String,
}

impl Seen {
    fn nothing() -> Self {
        Self { version: None, found: "nothing is there yet".to_owned() }
    }

    fn new(version: String, found: String) -> Self {
        let long = version.len() > LONGEST_VERSION || version.chars().any(char::is_control);
        let version = if long { format!("sha256:{:x}", Sha256::digest(version)) } else { version };
        Self { version: Some(version), found }
    }
}

/// Why a look finds out nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    /// One word. What has the same is told once.
    reason: &'static str,
    message: String,
    /// It may do better a moment later.
    passing: bool,
}

impl Fault {
    fn lasting(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), passing: false }
    }

    fn passing(reason: &'static str, message: impl Into<String>) -> Self {
        Self { passing: true, ..Self::lasting(reason, message) }
    }
}

/// Looks until there is something to tell.
pub async fn run(task: &LookTask) -> Result<(), LookError> {
    let mut wait = Wait::new(task);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    tokio::time::sleep(wait.first(since_1970.as_secs())).await;
    let begun = Instant::now();
    let report = loop {
        let looked = look(task).await;
        if let Err(fault) = &looked {
            say::line(format!("{}: {}", fault.reason, fault.message));
        }
        match wait.next(looked, begun.elapsed()) {
            Next::Tell(report) => break report,
            Next::After(pause) => tokio::time::sleep(pause).await,
        }
    };
    let text = serde_json::to_string(&report).unwrap_or_default();
    say::line(&text);
    let path = variable(REPORT_ENV).unwrap_or_else(|| "/dev/termination-log".into());
    std::fs::write(&path, text).map_err(|source| LookError::Report { path, source })
}

async fn look(task: &LookTask) -> Result<Seen, Fault> {
    let uri = task.uri.as_str();
    match uri.split_once("://") {
        Some(("http" | "https", _)) => http::look(uri).await,
        Some(("s3" | "gs" | "az", _)) => objects::look(uri, &task.access).await,
        Some(("pvc", path)) => {
            let (_, path) = path.split_once('/').unwrap_or((path, ""));
            let root = variable(ROOT_ENV).map_or_else(|| LOOK_DIR.into(), |root| root.join("look"));
            files::look(&root.join(path))
        }
        _ => Err(Fault::lasting(
            "BadAddress",
            "write an address that begins with https://, http://, s3://, gs://, az:// or pvc://",
        )),
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// `3 files, 12.0 MB`.
fn amount(count: u64, one: &str, bytes: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {one}{plural}, {}", size(bytes))
}

fn size(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "it is rounded to one digit")]
    let mut rest = bytes as f64;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if rest < 1000.0 {
            return if unit == "bytes" { format!("{bytes} bytes") } else { format!("{rest:.1} {unit}") };
        }
        rest /= 1000.0;
    }
    format!("{rest:.1} TB")
}

fn brief(text: &str) -> String {
    say::excerpt(text, LONGEST_MESSAGE)
}

impl From<Seen> for LookReport {
    fn from(Seen { version, found }: Seen) -> Self {
        Self::Found { version, found }
    }
}

impl From<Fault> for millrace_contract::LookFault {
    fn from(fault: Fault) -> Self {
        Self { reason: fault.reason.to_owned(), message: brief(&fault.message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_rounded_for_people() {
        assert_eq!(amount(1, "file", 999), "1 file, 999 bytes");
        assert_eq!(amount(3, "object", 12_345_678), "3 objects, 12.3 MB");
        assert_eq!(size(5_000_000_000_000), "5.0 TB");
    }

    #[test]
    fn a_version_that_no_status_takes_is_replaced_by_its_digest() {
        assert_eq!(Seen::new("v1".into(), String::new()).version.as_deref(), Some("v1"));
        for odd in ["x".repeat(201), "a\nb".to_owned()] {
            assert!(Seen::new(odd, String::new()).version.unwrap().starts_with("sha256:"));
        }
    }

    #[test]
    fn a_report_fits_a_termination_message_whatever_it_says() {
        let fault = Fault::lasting("Refused", "\u{1F980}\"\n".repeat(5000));
        let report = LookReport::Failed(fault.into());
        assert!(serde_json::to_string(&report).unwrap().len() <= millrace_contract::REPORT_LIMIT);
    }
}
