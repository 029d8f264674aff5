//! What is said of messages becomes records. Brokers refuse a whole batch for one record in it, and do not say for which: who is refused is
//! sent once more, alone.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::body::Bytes;
use krafka::error::ErrorCode;
use krafka::producer::{Acks, Producer, ProducerBuilder};
use krafka::{Kafka, KrafkaError};
use millrace_routes::Obstacle;

use super::answer::{By, Refusal};
use super::ask::{self, Outcome, Reply, STUCK};
use super::hand::Hand;
use super::lane::Shop;
use super::room::Turn;
use super::{broker, message};

/// What waits to be written, and how long that may take.
const WRITE_BYTES: usize = 32 << 20;
const WRITE: Duration = Duration::from_secs(30);
const LINGER: Duration = Duration::from_millis(2);

/// What became of a message in the end.
pub struct Done {
    pub offset: i64,
    pub bytes: usize,
    pub rejected: bool,
    /// Brokers refused what was written first.
    pub refused: bool,
}

impl Done {
    pub fn of(reply: &Reply, refused: bool) -> Self {
        let (offset, bytes) = (reply.message.offset, message::bytes(&reply.message));
        Self { offset, bytes, rejected: matches!(reply.outcome, Outcome::Dead(_)), refused }
    }
}

/// What became of a record that was sent with others.
pub enum Written {
    /// All in-sync replicas have it.
    Taken(Reply),
    /// It is refused, or another one of its batch is.
    Refused(Reply),
}

pub async fn producer(kafka: &Kafka) -> krafka::Result<Producer> {
    settings(kafka).linger(LINGER).build().await
}

/// A batch is full with any one record.
async fn one_by_one(kafka: &Kafka) -> krafka::Result<Producer> {
    settings(kafka).linger(Duration::ZERO).batch_size(1).build().await
}

fn settings(kafka: &Kafka) -> ProducerBuilder {
    kafka
        .producer()
        .acks(Acks::All)
        .idempotent(true)
        .max_request_size(WRITE_BYTES)
        .buffer_memory(WRITE_BYTES)
        .delivery_timeout(WRITE)
        .metrics_push(false)
}

/// Sends it with others, in the order of the calls. The future waits until all in-sync replicas have it.
pub async fn queue(shop: &Shop, reply: Reply) -> Result<impl Future<Output = Result<Written, String>> + use<>, String> {
    let work = shop.work.clone();
    let queued = match shop.producer.enqueue(reply.outcome.record().clone()).await {
        Err(error) if fault(&error).is_none() => return Err(broker::said(&work.asked, &error)),
        queued => queued,
    };
    Ok(async move {
        let written = match queued {
            Ok(handle) => handle.await,
            Err(error) => Err(error),
        };
        match written {
            Ok(_) => {
                work.counts.over(ask::place(&reply.message));
                Ok(Written::Taken(reply))
            }
            Err(error) if fault(&error).is_some() => Ok(Written::Refused(reply)),
            Err(error) => Err(broker::said(&work.asked, &error)),
        }
    })
}

/// Sends it alone, and waits. What is refused then is refused itself: it becomes a dead letter, or stops its partition, and then nothing behind
/// it in the hand of its lane is asked for.
pub async fn alone(shop: &Shop, mut reply: Reply, hand: &mut Hand) -> Result<Done, String> {
    let failed = |error: &KrafkaError| broker::said(&shop.work.asked, error);
    let producer = shop.alone.get_or_try_init(|| one_by_one(&shop.kafka)).await.map_err(|error| failed(&error))?;
    let mut refused = false;
    loop {
        let Err(error) = producer.send(reply.outcome.record().clone()).await else { break };
        let Some(fault) = fault(&error) else { return Err(failed(&error)) };
        refused = true;
        if let (Outcome::Dead(letter), Fault::Time) = (&mut reply.outcome, fault)
            && letter.timestamp.take().is_some()
        {
            // It is better there with the time at which it came there than nowhere.
            continue;
        }
        shop.work.counts.refused(By::Brokers);
        let what = if matches!(reply.outcome, Outcome::Dead(_)) { "its dead letter" } else { "the answer" };
        let says = format!("{what} {}", fault.says());
        let refusal = Refusal { by: By::Brokers, status: None, says, excerpt: Bytes::new() };
        if let (Outcome::Answered(_), Some(topic)) = (&reply.outcome, &shop.work.asked.dead_letters) {
            reply.outcome = Outcome::Dead(message::dead(&reply.message, topic, shop.dead_letters, &refusal));
            reply.space = None;
            continue;
        }
        let (place, says) = (ask::place(&reply.message), ask::stuck(shop, &reply.message, &refusal, STUCK));
        shop.work.counts.trouble(place, Obstacle::Message, &says);
        // Meanwhile their room is for other partitions, and then for this message: who waits for it must not hold what it waits for.
        hand.let_go();
        let message = reply.message.clone();
        drop(reply);
        tokio::time::sleep(STUCK).await;
        shop.work.counts.retried.fetch_add(1, Ordering::Relaxed);
        reply = ask::answered(shop, Turn::first(), message).await;
    }
    shop.work.counts.over(ask::place(&reply.message));
    Ok(Done::of(&reply, refused))
}

/// What brokers do not take of a record, whoever sends it and whenever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Size,
    Time,
    Record,
}

impl Fault {
    fn says(self) -> &'static str {
        match self {
            Self::Size => "is too large for its topic",
            Self::Time => "has a time that its topic does not take",
            Self::Record => {
                "is not taken by its topic: a compacted one takes none without a key, others ask for a schema"
            }
        }
    }
}

/// `None`: it says nothing of the record.
fn fault(error: &KrafkaError) -> Option<Fault> {
    let KrafkaError::Broker { code, .. } = error else { return None };
    match code {
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => Some(Fault::Size),
        ErrorCode::InvalidTimestamp => Some(Fault::Time),
        ErrorCode::InvalidRecord => Some(Fault::Record),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_record_is_told_from_what_is_said_of_a_topic() {
        let of = |code| fault(&KrafkaError::broker(code, "no"));
        assert_eq!(of(ErrorCode::MessageTooLarge), Some(Fault::Size));
        assert_eq!(of(ErrorCode::InvalidTimestamp), Some(Fault::Time));
        assert_eq!(of(ErrorCode::InvalidRecord), Some(Fault::Record));
        for other in [
            ErrorCode::TopicAuthorizationFailed,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::NotEnoughReplicas,
            ErrorCode::InvalidProducerEpoch,
        ] {
            assert_eq!(of(other), None, "{other:?}");
        }
        assert_eq!(fault(&KrafkaError::timeout("sending")), None);
    }
}
