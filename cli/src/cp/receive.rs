//! The files of an artifact as `millrace-agent send` writes them, put into a place of their own. No path leads out of it, and there is nothing but
//! files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use millrace_contract::{ArtifactHead, FilePart};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use super::binary;
use crate::error::Error;

const CHUNK: usize = 256 * 1024;
/// A line with a path is shorter.
const LONGEST_LINE: u64 = 64 * 1024;
/// How often the progress is told, on a terminal.
const OFTEN: Duration = Duration::from_millis(500);

/// Reads the stream to its end into `to`. `size` is what is expected, for the progress.
pub async fn files(stream: impl AsyncRead + Unpin, to: &Path, size: u64) -> Result<(), Error> {
    let mut stream = BufReader::with_capacity(CHUNK, stream);
    let mut progress = Progress::new(size);
    let head: ArtifactHead = line(&mut stream).await?;
    if head.folder {
        fs::create_dir(to).map_err(|source| unwritten(to, source))?;
    }
    for _ in 0..head.files {
        let part: FilePart = line(&mut stream).await?;
        let path = match (head.folder, part.path.as_str()) {
            (false, "") => to.to_owned(),
            (true, path) if is_below(path) => to.join(path),
            (_, path) => {
                return Err(Error::said(format!("the path {path:?} is none of an artifact: nothing is copied")));
            }
        };
        if let Some(above) = path.parent().filter(|_| head.folder) {
            fs::create_dir_all(above).map_err(|source| unwritten(above, source))?;
        }
        let made = OpenOptions::new().write(true).create_new(true).open(&path);
        let mut file = made.map_err(|source| unwritten(&path, source))?;
        body(&mut stream, &mut file, &path, part.bytes, &mut progress).await?;
    }
    progress.end();
    Ok(())
}

async fn body(
    stream: &mut (impl AsyncRead + Unpin),
    file: &mut File,
    path: &Path,
    bytes: u64,
    progress: &mut Progress,
) -> Result<(), Error> {
    let mut chunk = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let length = stream.read(&mut chunk[..most]).await.map_err(|_| broke_off())?;
        if length == 0 {
            return Err(broke_off());
        }
        file.write_all(&chunk[..length]).map_err(|source| unwritten(path, source))?;
        left -= length as u64;
        progress.more(length as u64);
    }
    Ok(())
}

async fn line<T: DeserializeOwned>(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<T, Error> {
    let mut text = Vec::new();
    stream.take(LONGEST_LINE).read_until(b'\n', &mut text).await.map_err(|_| broke_off())?;
    if !text.ends_with(b"\n") {
        return Err(broke_off());
    }
    serde_json::from_slice(&text).map_err(|error| Error::said(format!("what came is no artifact: {error}")))
}

fn broke_off() -> Error {
    Error::said("the copy broke off: the pod or the connection to it has ended; nothing is copied")
}

fn unwritten(path: &Path, source: io::Error) -> Error {
    Error::Write { path: path.display().to_string(), source }
}

/// A path that stays below where it is put.
fn is_below(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0')
}

/// How much has come, on a terminal only.
struct Progress {
    on: bool,
    size: u64,
    come: u64,
    told: Instant,
}

impl Progress {
    fn new(size: u64) -> Self {
        Self { on: io::stderr().is_terminal(), size, come: 0, told: Instant::now() }
    }

    fn more(&mut self, bytes: u64) {
        self.come += bytes;
        if self.on && self.told.elapsed() > OFTEN {
            self.told = Instant::now();
            let share = self.come.saturating_mul(100).checked_div(self.size).unwrap_or(100);
            let _ = write!(io::stderr(), "\r{} of {}, {share} %\x1b[K", binary(self.come), binary(self.size));
        }
    }

    fn end(&self) {
        if self.on {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn received(text: &str, to: &Path) -> Result<(), String> {
        files(text.as_bytes(), to, 0).await.map_err(|error| crate::error::chain(&error))
    }

    #[tokio::test]
    async fn a_file_and_a_folder_are_put_in_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("one");
        received("{\"folder\":false,\"files\":1}\n{\"path\":\"\",\"bytes\":6}\na\n\0\u{7f}bc", &to).await.unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"a\n\0\x7fbc");
        let to = folder.path().join("many");
        let text = "{\"folder\":true,\"files\":2}\n{\"path\":\"a/b\",\"bytes\":1}\nx{\"path\":\"c\",\"bytes\":0}\n";
        received(text, &to).await.unwrap();
        assert_eq!((fs::read(to.join("a/b")).unwrap(), fs::read(to.join("c")).unwrap()), (b"x".to_vec(), vec![]));
        let to = folder.path().join("none");
        received("{\"folder\":true,\"files\":0}\n", &to).await.unwrap();
        assert!(to.is_dir());
    }

    #[tokio::test]
    async fn what_climbs_comes_twice_or_breaks_off_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (at, (path, says)) in [
            ("../x", "none of an artifact"),
            ("/etc/x", "none of an artifact"),
            ("a/../../x", "none of an artifact"),
            ("", "none of an artifact"),
            ("a//b", "none of an artifact"),
        ]
        .into_iter()
        .enumerate()
        {
            let to = folder.path().join(at.to_string());
            let text = format!("{{\"folder\":true,\"files\":1}}\n{{\"path\":\"{path}\",\"bytes\":1}}\nx");
            let said = received(&text, &to).await.unwrap_err();
            assert!(said.contains(says), "{path}: {said}");
        }
        let twice = "{\"folder\":true,\"files\":2}\n{\"path\":\"a\",\"bytes\":1}\nx{\"path\":\"a\",\"bytes\":1}\ny";
        assert!(received(twice, &folder.path().join("twice")).await.unwrap_err().contains("exists"));
        let half = "{\"folder\":false,\"files\":1}\n{\"path\":\"\",\"bytes\":5}\nxyz";
        assert!(received(half, &folder.path().join("half")).await.unwrap_err().contains("broke off"));
        assert!(received("", &folder.path().join("nothing")).await.unwrap_err().contains("broke off"));
        assert!(received("hello\n", &folder.path().join("words")).await.unwrap_err().contains("no artifact"));
        assert!(!folder.path().join("x").exists());
    }
}
