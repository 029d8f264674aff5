//! One message is asked for until there is something to be written of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use krafka::{ConsumerRecord, Record};
use millrace_routes::Obstacle;

use super::answer::{self, By, Refusal, TRIES, Verdict, judge};
use super::counts::Place;
use super::lane::Shop;
use super::room::{Space, Turn};
use super::task::Task;
use super::{message, way};

/// A message that nobody takes away is tried again after so long: another version may take it.
pub const STUCK: Duration = Duration::from_secs(30);
/// One over which servers end costs one each time.
const STUCK_ENDS: Duration = Duration::from_mins(10);
/// So often a server may end over a message that is asked for alone. Before, others were asked for at the same time: one of them may have
/// been the reason.
const ENDS: u32 = 3;

/// Before it is asked for alone, as long as chance has it: another router does the same for a message of its own, and does not know of this one.
const APART: Duration = Duration::from_secs(5);
/// How often it is looked whether a pod is ready.
const LOOK: Duration = Duration::from_millis(100);

/// What is to be written of a message.
pub enum Outcome {
    Answered(Record),
    Dead(Record),
}

impl Outcome {
    pub fn record(&self) -> &Record {
        let (Self::Answered(record) | Self::Dead(record)) = self;
        record
    }
}

/// A message, and what is to be written of it.
pub struct Reply {
    pub message: ConsumerRecord,
    pub outcome: Outcome,
    /// Of the answer, until it is acknowledged.
    pub space: Option<Space>,
}

/// Asks, whoever waits for it.
pub fn begin(shop: &Arc<Shop>, turn: Turn, message: ConsumerRecord) -> Task<Reply> {
    let shop = shop.clone();
    Task::spawn(async move { answered(&shop, turn, message).await })
}

/// Asks until there is something to be written.
pub async fn answered(shop: &Shop, mut turn: Turn, message: ConsumerRecord) -> Reply {
    let asked = &shop.work.asked;
    let Some(value) = message.value.clone() else {
        let record = message::answered(&message, &asked.output, shop.outputs, None);
        return Reply { message, outcome: Outcome::Answered(record), space: None };
    };
    let headers = way::headers(message.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())));
    let place = place(&message);
    let (mut tries, mut failures, mut ends, mut least) = (0_u32, 0_u32, 0_u32, 0);
    loop {
        // Over which of those that are asked for at a time a server ends, nobody can tell.
        let alone = ends > 0 && pods_are_there(shop).await;
        let mut space = shop.room.reserve(least, &mut turn).await;
        let said = match shop.places.acquire_many(if alone { asked.in_flight } else { 1 }).await {
            // All places are for a question that goes to a pod, and not for one that waits.
            Ok(_) if alone && !shop.way.is_ready() => continue,
            Ok(_places) => shop.way.post(headers.clone(), value.clone(), &mut space).await,
            Err(closed) => Err(way::Unsaid::Nobody(closed.to_string())),
        };
        tries = tries.saturating_add(1);
        let pause = match judge(said, &asked.path) {
            Verdict::Answer { body, content_type } => {
                shop.work.counts.over(place);
                space.fit(body.len());
                let record = message::answered(&message, &asked.output, shop.outputs, Some((body, content_type)));
                return Reply { message, outcome: Outcome::Answered(record), space: Some(space) };
            }
            Verdict::NoRoom(bytes) => {
                least = bytes;
                continue;
            }
            Verdict::Later(why) => {
                ends = 0;
                shop.work.counts.trouble(place, Obstacle::Model, &why);
                answer::pause(tries)
            }
            Verdict::Failed(refusal) if failures + 1 < TRIES => {
                failures += 1;
                shop.work.counts.trouble(place, Obstacle::Model, &refusal.says);
                answer::pause(failures)
            }
            Verdict::Ended(refusal) if ends < ENDS || !alone => {
                // Only what happens alone counts, after the first time.
                ends = if alone { ends + 1 } else { ends.max(1) };
                shop.work.counts.trouble(place, Obstacle::Model, &ended(&message, &refusal, ends));
                // The next one is to meet a server that has begun anew.
                answer::pause(ends + 3)
            }
            Verdict::Refused(refusal) | Verdict::Failed(refusal) | Verdict::Ended(refusal) => {
                shop.work.counts.refused(refusal.by);
                if let Some(topic) = &asked.dead_letters {
                    let record = message::dead(&message, topic, shop.dead_letters, &refusal);
                    return Reply { message, outcome: Outcome::Dead(record), space: None };
                }
                let again = if refusal.by == By::Server { STUCK_ENDS } else { STUCK };
                shop.work.counts.trouble(place, Obstacle::Message, &stuck(shop, &message, &refusal, again));
                again
            }
        };
        drop(space);
        tokio::time::sleep(pause).await;
        shop.work.counts.retried.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits while there are pods and none is ready. False: there are none, and it takes a question to start one.
async fn pods_are_there(shop: &Shop) -> bool {
    while !shop.way.is_ready() {
        if !shop.way.has_pods() {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    tokio::time::sleep(APART.mul_f64(fastrand::f64())).await;
    true
}

pub fn place(message: &ConsumerRecord) -> Place {
    Place::Message { partition: message.partition, offset: message.offset }
}

fn ended(message: &ConsumerRecord, refusal: &Refusal, ends: u32) -> String {
    let ConsumerRecord { topic, partition, offset, .. } = message;
    format!(
        "of the message at offset {offset} of partition {partition} of {topic} {}; it is asked for alone, {ends} of {ENDS}",
        refusal.says
    )
}

/// What people read of a message in the way.
pub fn stuck(shop: &Shop, message: &ConsumerRecord, refusal: &Refusal, again: Duration) -> String {
    let ConsumerRecord { topic, partition, offset, .. } = message;
    let remedy = match (&shop.work.asked.dead_letters, refusal.by) {
        (Some(_), _) => "let the topic of dead letters take it",
        (None, By::Brokers) => "write deadLetterTopic, or let the topic of answers take it",
        (None, By::Model | By::Server) => "write deadLetterTopic, or serve a version that takes it",
    };
    format!(
        "partition {partition} of {topic} waits: of the message at offset {offset} {}; {remedy}. It is tried every {} s",
        refusal.says,
        again.as_secs()
    )
}
