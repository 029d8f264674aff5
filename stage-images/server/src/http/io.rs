//! A socket that a slow caller cannot hold for ever.
//!
//! hyper's own header timeout closes without a word and also counts the time between two requests. Here a head that has
//! begun has a short time, an idle connection a long one, and a caller that does not read its answer a time too.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// For a request to begin.
    Idle,
    /// For the rest of a head.
    Head,
    /// For the server, or for a body, whose reader has a timeout of its own.
    Busy,
}

/// The phase, shared by the socket and the service above it.
#[derive(Debug)]
pub struct PhaseCell {
    phase: AtomicU8,
    moved: AtomicBool,
}

impl PhaseCell {
    pub fn new() -> Self {
        Self { phase: AtomicU8::new(Phase::Idle as u8), moved: AtomicBool::new(false) }
    }

    pub fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub fn get(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Idle,
            1 => Phase::Head,
            _ => Phase::Busy,
        }
    }

    /// Forgets that bytes went out.
    pub fn rest(&self) {
        self.moved.store(false, Ordering::Relaxed);
    }

    /// Whether bytes went out since the last `rest`.
    pub fn moved(&self) -> bool {
        self.moved.load(Ordering::Relaxed)
    }
}

/// How long each phase may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub idle: Duration,
    pub head: Duration,
    /// Without a byte that the caller takes from its answer.
    pub write: Duration,
}

/// The socket.
#[derive(Debug)]
pub struct TimedStream {
    stream: TcpStream,
    phase: Arc<PhaseCell>,
    limits: Limits,
    reading: Timer,
    writing: Timer,
}

/// A deadline that is cheap to move: the timer itself is only touched when it fires or must fire sooner.
#[derive(Debug, Default)]
struct Timer {
    /// Which wait the deadline belongs to.
    phase: Option<Phase>,
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Ready once `limit` has passed since the first call for this wait.
    fn poll(&mut self, phase: Phase, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
        if self.phase != Some(phase) {
            self.clear();
            self.phase = Some(phase);
        }
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + limit);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// The wait is over.
    fn clear(&mut self) {
        self.deadline = None;
        self.phase = None;
    }
}

impl TimedStream {
    pub fn new(stream: TcpStream, phase: Arc<PhaseCell>, limits: Limits) -> Self {
        Self { stream, phase, limits, reading: Timer::default(), writing: Timer::default() }
    }

    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn wait_to_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let waited = self.writing.poll(Phase::Busy, self.limits.write, cx);
        waited.map(|()| io::Error::new(io::ErrorKind::TimedOut, "the caller does not read its answer"))
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(result) => {
                if buf.filled().len() > before && this.phase.get() == Phase::Idle {
                    this.phase.set(Phase::Head);
                    this.reading.clear();
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                let phase = this.phase.get();
                let limit = match phase {
                    Phase::Idle => this.limits.idle,
                    Phase::Head => this.limits.head,
                    Phase::Busy => {
                        this.reading.clear();
                        return Poll::Pending;
                    }
                };
                this.reading.poll(phase, limit, cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_write(cx, bytes) {
            Poll::Ready(result) => {
                this.writing.clear();
                this.phase.moved.store(true, Ordering::Relaxed);
                Poll::Ready(result)
            }
            Poll::Pending => this.wait_to_write(cx).map(Err),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_write_vectored(cx, bytes) {
            Poll::Ready(result) => {
                this.writing.clear();
                this.phase.moved.store(true, Ordering::Relaxed);
                Poll::Ready(result)
            }
            Poll::Pending => this.wait_to_write(cx).map(Err),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
