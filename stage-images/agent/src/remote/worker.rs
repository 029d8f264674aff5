//! A thread beside the program, and its end. Also one that panics has ended: nobody waits for it for ever.

use std::sync::Arc;
use std::thread;

/// What the thread and whoever waits for it share.
pub trait Shared: Send + Sync + 'static {
    /// The thread has ended, with this trouble if it panicked.
    fn ended(&self, trouble: Option<String>);
}

/// Starts the thread. The error is for people.
pub fn spawn<S: Shared>(name: &str, shared: &Arc<S>, work: impl FnOnce(&S) + Send + 'static) -> Result<(), String> {
    let hold = Hold(Arc::clone(shared));
    let spawned = thread::Builder::new().name(name.into()).spawn(move || {
        let hold = hold;
        work(&hold.0);
    });
    spawned.map(|_| ()).map_err(|error| error.to_string())
}

struct Hold<S: Shared>(Arc<S>);

impl<S: Shared> Drop for Hold<S> {
    fn drop(&mut self) {
        self.0.ended(thread::panicking().then(|| "the agent failed at it".to_owned()));
    }
}
