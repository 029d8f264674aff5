//! One partition: its messages are asked for several at a time, and written in order. How far it came is known to all around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::{FuturesOrdered, StreamExt};
use hyper::body::Bytes;
use krafka::error::ErrorCode;
use krafka::producer::{Producer, Record};
use krafka::{ConsumerRecord, KrafkaError};
use millrace_routes::Obstacle;
use tokio::sync::{Semaphore, mpsc, watch};

use super::answer::{self, Refusal, TRIES, Verdict, judge};
use super::counts::Place;
use super::way::{self, Way};
use super::{Work, broker, message};

/// A message that nobody takes away is tried again after so long: another version may take it.
const STUCK: Duration = Duration::from_secs(30);
/// Messages that are written and not acknowledged yet.
const UNACKNOWLEDGED: usize = 1000;

/// What every lane of a stream needs.
pub struct Shop {
    pub work: Arc<Work>,
    pub way: Way,
    pub producer: Producer,
    /// Partitions of the topic of answers, and of that of dead letters.
    pub outputs: i32,
    pub dead_letters: i32,
    /// Questions at a time, of all lanes.
    pub places: Semaphore,
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

/// What became of one message.
enum Outcome {
    Answered(Record),
    Dead(Record),
}

/// Works until the sender is gone or `stop` says so, and what is in hand is acknowledged. An error: the brokers do not take what is written.
pub async fn run(
    shop: Arc<Shop>,
    progress: Arc<Progress>,
    messages: mpsc::UnboundedReceiver<ConsumerRecord>,
    stop: watch::Receiver<bool>,
) -> Result<(), String> {
    let at_once = usize::try_from(shop.work.asked.in_flight).unwrap_or(1);
    let input = futures::stream::unfold((messages, stop), |(mut messages, mut stop)| async move {
        let message = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            message = messages.recv() => message,
        };
        message.map(|message| (message, (messages, stop)))
    });
    let answers = input.map(|message| answered(&shop, message)).buffered(at_once);
    let mut answers = std::pin::pin!(answers);
    let mut written = FuturesOrdered::new();
    let mut more = true;
    while more || !written.is_empty() {
        tokio::select! {
            next = answers.next(), if more && written.len() < UNACKNOWLEDGED => match next {
                None => more = false,
                Some((message, outcome)) => {
                    let queued = enqueue(&shop, &outcome).await?;
                    written.push_back(acknowledged(&shop, message, outcome, queued));
                }
            },
            Some(done) = written.next() => {
                let Done { offset, bytes, rejected } = done?;
                progress.done.fetch_max(offset + 1, Ordering::AcqRel);
                progress.inside.fetch_sub(1, Ordering::AcqRel);
                progress.bytes.fetch_sub(bytes, Ordering::AcqRel);
                shop.work.counts.done(rejected);
            }
        }
    }
    Ok(())
}

struct Done {
    offset: i64,
    bytes: usize,
    rejected: bool,
}

type Queued = Result<krafka::producer::DeliveryHandle, KrafkaError>;

/// In the order of the calls. One that is too large comes back as such.
async fn enqueue(shop: &Shop, outcome: &Outcome) -> Result<Queued, String> {
    let (Outcome::Answered(record) | Outcome::Dead(record)) = outcome;
    match shop.producer.enqueue(record.clone()).await {
        Err(error) if !is_too_large(&error) => Err(broker::said(&shop.work.asked, &error)),
        queued => Ok(queued),
    }
}

/// Waits until all in-sync replicas have it. An answer that is too large for its topic is none.
async fn acknowledged(
    shop: &Shop,
    message: ConsumerRecord,
    mut outcome: Outcome,
    queued: Queued,
) -> Result<Done, String> {
    let failed = |error: &KrafkaError| broker::said(&shop.work.asked, error);
    let place = place(&message);
    let mut written = match queued {
        Ok(handle) => handle.await,
        Err(error) => Err(error),
    };
    loop {
        let error = match written {
            Ok(_) => break,
            Err(error) if is_too_large(&error) => error,
            Err(error) => return Err(failed(&error)),
        };
        let what = if matches!(outcome, Outcome::Dead(_)) { "its dead letter" } else { "the answer" };
        let says = format!("{what} is too large for its topic: {error}");
        let refusal = Refusal { status: None, says, excerpt: Bytes::new() };
        if let (Outcome::Answered(_), Some(topic)) = (&outcome, &shop.work.asked.dead_letters) {
            outcome = Outcome::Dead(message::dead(&message, topic, shop.dead_letters, &refusal));
        } else {
            shop.work.counts.trouble(place, Obstacle::Message, &stuck(shop, &message, &refusal));
            tokio::time::sleep(STUCK).await;
            outcome = answered(shop, message.clone()).await.1;
        }
        let (Outcome::Answered(record) | Outcome::Dead(record)) = &outcome;
        written = shop.producer.send(record.clone()).await;
    }
    shop.work.counts.over(place);
    let (offset, bytes) = (message.offset, message::bytes(&message));
    Ok(Done { offset, bytes, rejected: matches!(outcome, Outcome::Dead(_)) })
}

fn is_too_large(error: &KrafkaError) -> bool {
    let KrafkaError::Broker { code, .. } = error else { return false };
    matches!(code, ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge)
}

fn place(message: &ConsumerRecord) -> Place {
    Place::Message { partition: message.partition, offset: message.offset }
}

/// Asks until there is something to be written.
async fn answered(shop: &Shop, message: ConsumerRecord) -> (ConsumerRecord, Outcome) {
    let asked = &shop.work.asked;
    let Some(value) = message.value.clone() else {
        let record = message::answered(&message, &asked.output, shop.outputs, None);
        return (message, Outcome::Answered(record));
    };
    let headers = way::headers(message.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())));
    let (mut tries, mut failures) = (0_u32, 0_u32);
    loop {
        let said = match shop.places.acquire().await {
            Ok(_place) => shop.way.post(headers.clone(), value.clone()).await,
            Err(closed) => Err(closed.to_string()),
        };
        tries = tries.saturating_add(1);
        let pause = match judge(said, &asked.path) {
            Verdict::Answer { body, content_type } => {
                shop.work.counts.over(place(&message));
                let record = message::answered(&message, &asked.output, shop.outputs, Some((body, content_type)));
                return (message, Outcome::Answered(record));
            }
            Verdict::Later(why) => {
                shop.work.counts.trouble(place(&message), Obstacle::Model, &why);
                answer::pause(tries)
            }
            Verdict::Failed(refusal) if failures + 1 < TRIES => {
                failures += 1;
                shop.work.counts.trouble(place(&message), Obstacle::Model, &refusal.says);
                answer::pause(failures)
            }
            Verdict::Refused(refusal) | Verdict::Failed(refusal) => match &asked.dead_letters {
                Some(topic) => {
                    let record = message::dead(&message, topic, shop.dead_letters, &refusal);
                    return (message, Outcome::Dead(record));
                }
                None => {
                    shop.work.counts.trouble(place(&message), Obstacle::Message, &stuck(shop, &message, &refusal));
                    STUCK
                }
            },
        };
        tokio::time::sleep(pause).await;
        shop.work.counts.retried.fetch_add(1, Ordering::Relaxed);
    }
}

/// What people read of a message in the way.
fn stuck(shop: &Shop, message: &ConsumerRecord, refusal: &Refusal) -> String {
    let ConsumerRecord { topic, partition, offset, .. } = message;
    let remedy = match shop.work.asked.dead_letters {
        None => "write deadLetterTopic, or serve a version that takes it",
        Some(_) => "let the topic of dead letters take larger messages",
    };
    format!(
        "partition {partition} of {topic} waits: of the message at offset {offset} {}; {remedy}. It is tried every {} s",
        refusal.says,
        STUCK.as_secs()
    )
}
