//! Where the contract's paths are on this machine. In a pod they are what they say; `MILLRACE_ROOT` puts another folder
//! in the place of `/millrace`, so that an attempt can run outside a container (tests, local runs).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Puts another folder in the place of `/millrace`.
pub const ROOT_ENV: &str = "MILLRACE_ROOT";
/// Where the report goes, if not to the kubelet's `/dev/termination-log`.
pub const REPORT_ENV: &str = "MILLRACE_TERMINATION_LOG";

const CONTRACT_ROOT: &str = "/millrace";
const TERMINATION_LOG: &str = "/dev/termination-log";

/// The roots of one attempt.
#[derive(Clone, Debug)]
pub struct Place {
    root: PathBuf,
    report: PathBuf,
}

impl Place {
    pub fn from_env() -> Self {
        let or = |name: &str, usual: &str| {
            std::env::var_os(name).filter(|value| !value.is_empty()).unwrap_or_else(|| OsString::from(usual)).into()
        };
        Self { root: or(ROOT_ENV, CONTRACT_ROOT), report: or(REPORT_ENV, TERMINATION_LOG) }
    }

    /// Whether the paths are the contract's own: true in a pod.
    pub fn in_container(&self) -> bool {
        self.root == Path::new(CONTRACT_ROOT)
    }

    /// A path of the contract, on this machine. Others stay as they are.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        match path.strip_prefix(CONTRACT_ROOT) {
            Ok(below) if below.as_os_str().is_empty() => self.root.clone(),
            Ok(below) => self.root.join(below),
            Err(_) => path.to_owned(),
        }
    }

    pub fn report(&self) -> &Path {
        &self.report
    }
}
