//! Copies what the command prints to the agent's own standard output and into the archive, byte for byte, and keeps its last lines.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::archive::Scribe;
use crate::signals::{Event, Inbox};
use crate::tail::Tail;

const CHUNK: usize = 64 * 1024;

/// The copying thread, seen from outside.
#[derive(Clone)]
pub struct Pump {
    moved: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    tail: Arc<Mutex<Tail>>,
}

impl Pump {
    /// Starts to copy. Sends [`Event::OutputEnded`] once no process can write to the pipe any more.
    pub fn start(mut pipe: PipeReader, archive: Option<Arc<dyn Scribe>>, inbox: &Inbox) -> io::Result<Self> {
        // Not `io::stdout()`: that one looks for line ends and keeps what comes after the last.
        let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let pump = Self { moved: Arc::default(), ended: Arc::default(), tail: Arc::default() };
        let Self { moved, ended, tail } = pump.clone();
        let sender = inbox.sender.clone();
        thread::Builder::new().name("output".into()).spawn(move || {
            let mut chunk = vec![0; CHUNK];
            loop {
                let length = match pipe.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(_) => break,
                };
                tail.lock().unwrap_or_else(PoisonError::into_inner).push(&chunk[..length]);
                if let Some(archive) = &archive {
                    archive.push(&chunk[..length]);
                }
                write_all(&mut out, &chunk[..length]);
                moved.fetch_add(length as u64, Ordering::Relaxed);
            }
            ended.store(true, Ordering::SeqCst);
            let _ = sender.send(Event::OutputEnded);
        })?;
        Ok(pump)
    }

    /// Bytes that arrived at the other end: shows whether the copy still moves.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Nothing more comes.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    pub fn tail(&self) -> String {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).text()
    }
}

/// A reader that went away does not stop the command: what it prints is then lost, as without an agent.
fn write_all(out: &mut File, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Somebody else who holds this end made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(2)),
            Err(_) => return,
        }
    }
}
