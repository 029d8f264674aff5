//! A file that may be replaced at any time, as mounted ConfigMaps and Secrets are.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// Looking costs one system call. The kubelet's own swap of a symbolic link is seen as a new file.
const EVERY: Duration = Duration::from_millis(200);

/// What tells one state of the file from another.
type Mark = (u64, u64, i64, i64, u64);

pub struct WatchedFile {
    path: PathBuf,
    seen: Option<Mark>,
    complained: bool,
}

impl WatchedFile {
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: None, complained: false }
    }

    /// Its content, once it is another than at the last call.
    pub async fn changed(&mut self) -> Vec<u8> {
        loop {
            match self.look() {
                Ok(Some(bytes)) => return bytes,
                Err(error) if !self.complained => {
                    self.complained = true;
                    tracing::warn!(%error, path = %self.path.display(), "failed to read a watched file; it is tried again");
                }
                Ok(None) | Err(_) => {}
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    fn look(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let meta = std::fs::metadata(&self.path)?;
        let mark = (meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size());
        if self.seen == Some(mark) {
            return Ok(None);
        }
        let bytes = std::fs::read(&self.path)?;
        self.seen = Some(mark);
        self.complained = false;
        Ok(Some(bytes))
    }
}
