//! Copies the agent into a folder that the user's container mounts: images need not carry it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

const NAME: &str = "millrace-agent";

#[derive(Debug, Error)]
pub enum DeliverError {
    #[error("failed to open the agent's own program: {0}")]
    OwnProgram(#[source] io::Error),
    #[error("failed to write {path}: {source}; mount a writable emptyDir there")]
    Write { path: PathBuf, source: io::Error },
}

/// Writes `folder/millrace-agent`, mode 0755. The name appears only once the file is whole, so a restarted init
/// container finds either none or a good one.
pub fn copy_self(folder: &Path) -> Result<(), DeliverError> {
    let mut own = File::open("/proc/self/exe").map_err(DeliverError::OwnProgram)?;
    let last = folder.join(NAME);
    let temporary = folder.join(format!(".{NAME}.{}", std::process::id()));
    let written = (|| {
        let mut copy = OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(&temporary)?;
        io::copy(&mut own, &mut copy)?;
        // The mode above is subject to the umask.
        copy.set_permissions(fs::Permissions::from_mode(0o755))?;
        drop(copy);
        fs::rename(&temporary, &last)
    })();
    written.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        DeliverError::Write { path: last, source }
    })
}
