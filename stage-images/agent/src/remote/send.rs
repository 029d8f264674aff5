//! An artifact out of a store of objects, straight to who copies it: what is on its way is a few pieces in memory.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use millrace_contract::{ArtifactHead, FilePart, ReadTask};
use millrace_files::digest::Stop;

use super::{Budget, Remote, RemoteError, pieces};
use crate::send::line;

/// A store that does not answer is told soon: somebody waits for it.
const PATIENCE: Duration = Duration::from_mins(1);

/// Writes the files one after the other, as `millrace-agent send` does. A file that is written anew meanwhile ends it.
pub fn send(task: &ReadTask, budget: Budget, stop: Stop<'_>, out: &mut dyn Write) -> Result<(), RemoteError> {
    let remote = Remote::open(&task.source, PATIENCE)?;
    let files = match remote.wait(stop, remote.find()) {
        // An empty folder leaves nothing in a store of objects.
        Err(RemoteError::NotFound { .. }) if task.size == Some(0) => Vec::new(),
        found => found?,
    };
    let folder = !matches!(files.as_slice(), [only] if only.path.is_empty());
    line(out, &ArtifactHead { folder, files: files.len() as u64 }).map_err(unheard)?;
    let largest = files.iter().map(|file| pieces::size(file.size)).max().unwrap_or(1);
    // Of each file its line, and then its pieces.
    let all = files.iter().flat_map(|file| {
        std::iter::once((file, None)).chain(pieces::of(file.size).map(move |range| (file, Some(range))))
    });
    let moves = stream::iter(all).map(async |(file, range)| match range {
        None => Ok((Some(FilePart { path: file.path.clone(), bytes: file.size }), None)),
        Some(range) => remote.piece(file, range).await.map(|bytes| (None, Some(bytes))),
    });
    let mut moves = std::pin::pin!(moves.buffered(budget.at_once(largest)));
    remote.wait(stop, async {
        while let Some((part, bytes)) = moves.try_next().await? {
            if let Some(part) = part {
                line(out, &part).map_err(unheard)?;
            }
            if let Some(bytes) = bytes {
                out.write_all(bytes.as_ref()).map_err(unheard)?;
            }
        }
        out.flush().map_err(unheard)
    })
}

fn unheard(source: io::Error) -> RemoteError {
    RemoteError::Disk { path: PathBuf::from("standard output"), source }
}
