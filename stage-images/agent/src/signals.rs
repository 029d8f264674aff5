//! What reaches the agent from outside, as one queue: signals, and the end of the command's output.
//!
//! Handlers are used and no mask: a mask would be inherited by the command, handlers are reset when it is executed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::sys::signal::Signal;
use signal_hook::consts;
use signal_hook::iterator::Signals;

/// What the supervisor waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Passed on to the command.
    Signal(Signal),
    /// A process that belongs to us has ended.
    ChildEnded,
    /// The last writer of the output's pipe is gone.
    OutputEnded,
}

/// The queue. Signals are in it from before the command starts, so that none is lost in between.
pub struct Inbox {
    pub events: Receiver<Event>,
    pub sender: Sender<Event>,
    asked_to_stop: Arc<AtomicBool>,
}

impl Inbox {
    pub fn open() -> io::Result<Self> {
        let mut signals = Signals::new([
            consts::SIGTERM,
            consts::SIGINT,
            consts::SIGHUP,
            consts::SIGQUIT,
            consts::SIGUSR1,
            consts::SIGUSR2,
            consts::SIGCHLD,
        ])?;
        let (sender, events) = channel();
        let asked_to_stop = Arc::new(AtomicBool::new(false));
        let (queue, flag) = (sender.clone(), Arc::clone(&asked_to_stop));
        thread::Builder::new().name("signals".into()).spawn(move || {
            for number in signals.forever() {
                let Ok(signal) = Signal::try_from(number) else { continue };
                if asks_to_stop(signal) {
                    flag.store(true, Ordering::SeqCst);
                }
                let event = if signal == Signal::SIGCHLD { Event::ChildEnded } else { Event::Signal(signal) };
                if queue.send(event).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { events, sender, asked_to_stop })
    }

    /// Set once the agent was asked to stop; long work before the command starts looks at it.
    pub fn stop_flag(&self) -> &AtomicBool {
        &self.asked_to_stop
    }
}

/// Signals that mean the pod is going away. SIGINT is one: an image's own `STOPSIGNAL` replaces SIGTERM.
pub fn asks_to_stop(signal: Signal) -> bool {
    matches!(signal, Signal::SIGTERM | Signal::SIGINT)
}
