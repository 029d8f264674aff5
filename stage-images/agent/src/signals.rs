//! What reaches the agent from outside, as one queue: signals, and the end of the command's output.
//!
//! Handlers are used and no mask: a mask would be inherited by the command, handlers are reset when it is executed.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;
use signal_hook::consts;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin, Sent};

/// What the supervisor waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Passed on to the command.
    Signal(Signal, Source),
    /// A process that belongs to us has ended.
    ChildEnded,
    /// The last writer of the output's pipe is gone.
    OutputEnded,
}

/// Who sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The kubelet: the pod goes away.
    Outside,
    /// The stage itself: some programs end their container with `kill 1`.
    Inside,
}

/// The queue. Signals are in it from before the command starts, so that none is lost in between.
pub struct Inbox {
    pub events: Receiver<Event>,
    pub sender: Sender<Event>,
    asked_to_stop: Arc<OnceLock<Instant>>,
}

impl Inbox {
    pub fn open() -> io::Result<Self> {
        let mut signals = SignalsInfo::<WithOrigin>::new([
            consts::SIGTERM,
            consts::SIGINT,
            consts::SIGHUP,
            consts::SIGQUIT,
            consts::SIGUSR1,
            consts::SIGUSR2,
            consts::SIGCHLD,
        ])?;
        let (sender, events) = channel();
        let asked_to_stop = Arc::new(OnceLock::new());
        let (queue, flag) = (sender.clone(), Arc::clone(&asked_to_stop));
        thread::Builder::new().name("signals".into()).spawn(move || {
            for info in signals.forever() {
                let Ok(signal) = Signal::try_from(info.signal) else { continue };
                if asks_to_stop(signal) {
                    let _ = flag.set(Instant::now());
                }
                let event =
                    if signal == Signal::SIGCHLD { Event::ChildEnded } else { Event::Signal(signal, source(&info)) };
                if queue.send(event).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { events, sender, asked_to_stop })
    }

    /// Whether the agent was asked to stop; long work before the command starts looks at it.
    pub fn asked_to_stop(&self) -> bool {
        self.asked_at().is_some()
    }

    /// When the agent was asked to stop.
    pub fn asked_at(&self) -> Option<Instant> {
        self.asked_to_stop.get().copied()
    }
}

/// Waits for a signal that asks to stop.
pub fn wait() -> io::Result<()> {
    let mut signals = SignalsInfo::<WithOrigin>::new([consts::SIGTERM, consts::SIGINT])?;
    signals.forever().next();
    Ok(())
}

/// Signals that mean the pod is going away. SIGINT is one: an image's own `STOPSIGNAL` replaces SIGTERM.
pub fn asks_to_stop(signal: Signal) -> bool {
    matches!(signal, Signal::SIGTERM | Signal::SIGINT)
}

/// In a container this is PID 1 of its own namespace, where processes from outside have no number: the kernel writes 0. What a
/// sender may write itself (`sigqueue`) counts for nothing. Elsewhere everybody has a number, and nothing is told by it.
fn source(info: &Origin) -> Source {
    let outside = match info.cause {
        Cause::Kernel => true,
        Cause::Sent(Sent::User) => info.process.is_some_and(|process| process.pid == 0),
        _ => false,
    };
    if outside || std::process::id() != 1 { Source::Outside } else { Source::Inside }
}
