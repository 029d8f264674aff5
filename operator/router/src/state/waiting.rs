//! Requests that wait for a pod, first come first served.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::Lease;

#[derive(Debug, Default)]
pub struct Waiting {
    next: u64,
    queue: VecDeque<(u64, oneshot::Sender<Lease>)>,
}

impl Waiting {
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// The ticket by which it can be taken out again.
    pub fn push(&mut self) -> (u64, oneshot::Receiver<Lease>) {
        let (sender, receiver) = oneshot::channel();
        self.next += 1;
        self.queue.push_back((self.next, sender));
        (self.next, receiver)
    }

    pub fn remove(&mut self, ticket: u64) {
        // Tickets grow along the queue.
        if let Ok(place) = self.queue.binary_search_by_key(&ticket, |(t, _)| *t) {
            self.queue.remove(place);
        }
    }

    /// Gives a lease to the first who still waits. Gives it back if nobody does.
    pub fn give(&mut self, mut lease: Lease) -> Option<Lease> {
        while let Some((_, sender)) = self.queue.pop_front() {
            match sender.send(lease) {
                Ok(()) => return None,
                Err(back) => lease = back,
            }
        }
        Some(lease)
    }

    /// Nobody shall wait here any more.
    pub fn clear(&mut self) {
        self.queue.clear();
    }
}
