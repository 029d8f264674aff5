//! What a lane has in hand, in order: messages that are asked for, and answers that are to be written once more.
//!
//! A lane keeps each message until its answer is taken. So it can let go of all answers while it waits for long, and ask for them again: kept,
//! they would hold the room of every other lane.

use std::collections::VecDeque;
use std::sync::Arc;

use krafka::ConsumerRecord;
use tokio::sync::watch;
use tokio::task::JoinError;

use super::ask::{self, Reply};
use super::lane::Shop;
use super::room::Turn;
use super::task::Task;

pub struct Hand {
    shop: Arc<Shop>,
    at_once: usize,
    all: VecDeque<Held>,
    /// How many answers were taken: so many are before the first of `all`.
    taken: watch::Sender<u64>,
}

enum Held {
    /// Nobody asks for it at the moment.
    Idle(ConsumerRecord),
    Asked(ConsumerRecord, Task<Reply>),
    Answered(Reply),
}

impl Held {
    fn let_go(self) -> Self {
        match self {
            Self::Idle(message) | Self::Asked(message, _) | Self::Answered(Reply { message, .. }) => {
                Self::Idle(message)
            }
        }
    }
}

impl Hand {
    pub fn new(shop: Arc<Shop>) -> Self {
        let at_once = usize::try_from(shop.work.asked.in_flight).unwrap_or(1);
        Self { shop, at_once, all: VecDeque::new(), taken: watch::Sender::new(0) }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.all.len() >= self.at_once
    }

    pub fn push(&mut self, message: ConsumerRecord) {
        self.all.push_back(Held::Idle(message));
    }

    /// Takes back what was taken last.
    pub fn put_back(&mut self, replies: Vec<Reply>) {
        for reply in replies.into_iter().rev() {
            self.all.push_front(Held::Answered(reply));
            self.taken.send_modify(|taken| *taken = taken.saturating_sub(1));
        }
    }

    /// The answer of the first. Dropped before it is there, nothing is lost; there has to be one.
    pub async fn next(&mut self) -> Result<Reply, JoinError> {
        self.begin();
        let reply = match self.all.front_mut() {
            Some(Held::Asked(_, task)) => Some(task.await?),
            _ => None,
        };
        self.taken.send_modify(|taken| *taken += 1);
        match (reply, self.all.pop_front()) {
            (Some(reply), _) | (None, Some(Held::Answered(reply))) => Ok(reply),
            (None, _) => std::future::pending().await,
        }
    }

    /// Asks for the first of them.
    fn begin(&mut self) {
        let before = *self.taken.borrow();
        for (number, held) in (before..).zip(self.all.iter_mut().take(self.at_once)) {
            if let Held::Idle(message) = held {
                let task = ask::begin(&self.shop, Turn::new(number, self.taken.subscribe()), message.clone());
                *held = Held::Asked(message.clone(), task);
            }
        }
    }

    /// Lets go of all answers, and of the room for them. They are asked for again with the next one that is wanted.
    pub fn let_go(&mut self) {
        self.all = std::mem::take(&mut self.all).into_iter().map(Held::let_go).collect();
    }
}
