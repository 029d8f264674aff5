//! One partition: its messages are asked for several at a time, and written in order. How far it came is known to all around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use futures::stream::{FuturesOrdered, StreamExt};
use krafka::producer::Producer;
use krafka::{ConsumerRecord, Kafka};
use tokio::sync::{OnceCell, Semaphore, mpsc, watch};

use super::Work;
use super::hand::Hand;
use super::room::Room;
use super::way::Way;
use super::write::{self, Done, Written};

/// Messages that are written and not acknowledged yet.
const UNACKNOWLEDGED: usize = 1000;
/// After brokers refused something, so many are written one by one: one that is refused takes others with it that are sent along.
const CAREFUL: u32 = 256;

/// What every lane of a stream needs.
pub struct Shop {
    pub work: Arc<Work>,
    pub way: Way,
    pub kafka: Kafka,
    pub producer: Producer,
    /// Sends each record alone. Most streams never need it.
    pub alone: OnceCell<Producer>,
    /// Partitions of the topic of answers, and of that of dead letters.
    pub outputs: i32,
    pub dead_letters: i32,
    /// Questions at a time, of all lanes.
    pub places: Semaphore,
    /// And what their answers may take.
    pub room: Arc<Room>,
}

/// How far a lane came.
#[derive(Debug, Default)]
pub struct Progress {
    /// All before this offset is acknowledged; -1: nothing is known yet.
    pub done: AtomicI64,
    /// Messages that wait or are at work.
    pub inside: AtomicUsize,
    /// Bytes of them.
    pub bytes: AtomicUsize,
}

impl Progress {
    fn note(&self, shop: &Shop, done: &Done) {
        self.done.fetch_max(done.offset + 1, Ordering::AcqRel);
        self.inside.fetch_sub(1, Ordering::AcqRel);
        self.bytes.fetch_sub(done.bytes, Ordering::AcqRel);
        shop.work.counts.done(done.rejected);
    }
}

/// Works until the sender is gone or `stop` says so, and what is in hand is acknowledged. An error: the brokers do not take what is written.
pub async fn run(
    shop: Arc<Shop>,
    progress: Arc<Progress>,
    mut messages: mpsc::UnboundedReceiver<ConsumerRecord>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), String> {
    let mut hand = Hand::new(shop.clone());
    let mut written = FuturesOrdered::new();
    let (mut more, mut careful) = (true, 0_u32);
    while more || !hand.is_empty() || !written.is_empty() {
        let most = if careful > 0 { 1 } else { UNACKNOWLEDGED };
        tokio::select! {
            message = next(&mut messages, &mut stop), if more && !hand.is_full() && written.len() < most => match message {
                Some(message) => hand.push(message),
                None => more = false,
            },
            reply = hand.next(), if !hand.is_empty() && written.len() < most => {
                let reply = reply.map_err(|error| format!("a question broke off: {error}; this is a bug"))?;
                if careful > 0 {
                    let done = write::alone(&shop, reply, &mut hand).await?;
                    careful = if done.refused { CAREFUL } else { careful - 1 };
                    progress.note(&shop, &done);
                } else {
                    written.push_back(write::queue(&shop, reply).await?);
                }
            }
            Some(next) = written.next() => match next? {
                Written::Taken(reply) => progress.note(&shop, &Done::of(&reply, false)),
                Written::Refused(reply) => {
                    let mut again = vec![reply];
                    // What came behind it is written once more, so that the last answer of each key is the right one.
                    while let Some(next) = written.next().await {
                        let (Written::Taken(reply) | Written::Refused(reply)) = next?;
                        again.push(reply);
                    }
                    careful = CAREFUL;
                    hand.put_back(again);
                }
            },
        }
    }
    Ok(())
}

/// `None`: there are no more.
async fn next(
    messages: &mut mpsc::UnboundedReceiver<ConsumerRecord>,
    stop: &mut watch::Receiver<bool>,
) -> Option<ConsumerRecord> {
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => None,
        message = messages.recv() => message,
    }
}
