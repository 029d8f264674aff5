//! One membership in the group, from the first word to the brokers to the last.

use std::sync::Arc;
use std::time::Duration;

use krafka::consumer::{AutoOffsetReset, Consumer, IsolationLevel};
use krafka::error::ErrorCode;
use krafka::{CloseOptions, Kafka, KrafkaError};
use millrace_routes::Obstacle;
use tokio::sync::{OnceCell, Semaphore, watch};
use tokio::time::Instant;

use super::counts::Place;
use super::group::{Group, Listener};
use super::lane::Shop;
use super::room::{self, Room};
use super::task::Task;
use super::tunnel::Tunnel;
use super::way::Way;
use super::{Work, broker, lag, write};
use crate::state::Phase;

/// A member that is not heard for so long has lost its partitions. Three words may be lost.
const SESSION: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(2);
/// So long the others wait at most for one that has to give partitions back.
const REBALANCE: Duration = Duration::from_mins(1);
/// A question to the brokers for messages takes so long while there are none, and less while lanes wait for room.
const POLL: Duration = Duration::from_millis(500);
const POLL_FULL: Duration = Duration::from_millis(20);
/// How often it is written down how far it came.
const COMMIT: Duration = Duration::from_secs(1);
/// Brokers that are away for longer are looked for anew, with what is mounted then.
const AWAY: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(500);
/// How often it is looked whether something else is mounted.
const MOUNTED: Duration = Duration::from_secs(5);
/// Of one fetch, of a partition in it, and of what is compressed there.
const FETCH_BYTES: i32 = 4 << 20;
const PARTITION_BYTES: i32 = 1 << 20;
const UNPACKED_BYTES: usize = 32 << 20;
const RECORDS: i32 = 256;
/// For the last words.
const CLOSE: Duration = Duration::from_secs(3);

pub struct Session {
    work: Arc<Work>,
    consumer: Arc<Consumer>,
    group: Arc<Group>,
    _lag: Task<()>,
    /// The way to all brokers.
    _tunnel: Tunnel,
}

impl Session {
    pub async fn open(work: Arc<Work>) -> Result<Self, String> {
        let asked = &work.asked;
        let failed = |error: KrafkaError| broker::said(asked, &error);
        let (kafka, tunnel) = broker::connect(&work).await?;
        // It has to be there, or the group would wait for it without a word.
        partitions(&kafka, &work, &asked.input).await?;
        let outputs = count(&partitions(&kafka, &work, &asked.output).await?);
        let dead_letters = match &asked.dead_letters {
            Some(topic) => count(&partitions(&kafka, &work, topic).await?),
            None => 0,
        };
        let way = Way::new(work.streams.state.clone(), work.streams.workers.clone(), &work.model, &asked.path);
        let places = Semaphore::new(usize::try_from(asked.in_flight).unwrap_or(1));
        let producer = write::producer(&kafka).await.map_err(failed)?;
        let (room, alone) = (Room::new(room::ALL), OnceCell::new());
        let shop = Shop {
            work: work.clone(),
            way,
            kafka: kafka.clone(),
            producer,
            alone,
            outputs,
            dead_letters,
            places,
            room,
        };
        let group = Group::new(Arc::new(shop));
        let consumer = kafka
            .consumer(&asked.group)
            .enable_auto_commit(false)
            // Of what is remembered and not there any more, too: nothing that is there is passed over.
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .isolation_level(IsolationLevel::ReadCommitted)
            .session_timeout(SESSION)
            .heartbeat_interval(HEARTBEAT)
            .max_poll_interval(REBALANCE)
            .fetch_max_bytes(FETCH_BYTES)
            .max_partition_fetch_bytes(PARTITION_BYTES)
            .max_decompressed_size(UNPACKED_BYTES)
            .max_poll_records(RECORDS)
            // Records of a partition that waits count too, and would keep all others from being fetched.
            .max_buffered_records(0)
            .metrics_push(false)
            .rebalance_listener(Listener(group.clone()))
            .build()
            .await
            .map_err(failed)?;
        let consumer = Arc::new(consumer);
        group.reads_by(&consumer);
        consumer.subscribe([&asked.input]).await.map_err(failed)?;
        let lag = Task::spawn(lag::follow(work.clone(), kafka, consumer.clone()));
        Ok(Self { work, consumer, group, _lag: lag, _tunnel: tunnel })
    }

    /// Until it is stopped, which is no error, or cannot go on.
    pub async fn run(self, stop: watch::Receiver<bool>) -> Result<(), String> {
        let ended = self.work_on(&stop).await;
        if ended.is_err() {
            // What was answered is not answered again because of what was not.
            let _kept = tokio::time::timeout(CLOSE, self.group.commit(&self.consumer)).await;
            self.group.abort();
        }
        // What is in hand is finished, and the others need not wait until this one is given up.
        let closed = self.consumer.close_with(CloseOptions::new().timeout(3 * CLOSE)).await;
        if let Err(error) = closed {
            tracing::info!(%error, model = self.work.model, "the group was not left in order");
        }
        ended
    }

    async fn work_on(&self, stop: &watch::Receiver<bool>) -> Result<(), String> {
        let (work, state) = (&self.work, &self.work.streams.state);
        let mounted = broker::mounted_state(&work.asked, &work.streams.reach);
        let now = Instant::now();
        let (mut heard, mut committed, mut kept, mut looked) = (now, now, now, now);
        while !*stop.borrow() && state.phase() == Phase::Serving {
            let wait = if self.group.is_full() { POLL_FULL } else { POLL };
            match self.consumer.poll(wait).await {
                Ok(messages) => {
                    heard = Instant::now();
                    work.counts.over(Place::Brokers);
                    if messages.is_empty() && self.group.is_full() {
                        // It comes back at once where it holds what full lanes are to get, and lanes need this thread.
                        tokio::time::sleep(POLL_FULL).await;
                    }
                    self.group.take(messages);
                    tokio::task::yield_now().await;
                }
                Err(error) if error.is_retriable() && heard.elapsed() < AWAY => {
                    work.counts.trouble(Place::Brokers, Obstacle::Broker, &broker::said(&work.asked, &error));
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => return Err(broker::said(&work.asked, &error)),
            }
            if let Some(why) = self.group.fault().await {
                return Err(why);
            }
            self.group.balance(&self.consumer).await;
            if committed.elapsed() >= COMMIT {
                committed = Instant::now();
                match self.group.commit(&self.consumer).await {
                    Ok(()) => {
                        kept = committed;
                        work.counts.over(Place::Commit);
                    }
                    // While partitions change hands it is as it should be; the next one says the same and more.
                    Err(_) if kept.elapsed() < AWAY => {}
                    Err(why) => work.counts.trouble(
                        Place::Commit,
                        Obstacle::Broker,
                        &format!("how far it came cannot be kept: {why}"),
                    ),
                }
            }
            if looked.elapsed() >= MOUNTED {
                looked = Instant::now();
                if broker::mounted_state(&work.asked, &work.streams.reach) != mounted {
                    tracing::info!(model = work.model, "what is mounted for the brokers has changed");
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

async fn partitions(kafka: &Kafka, work: &Work, topic: &str) -> Result<Vec<i32>, String> {
    let failed = |error: KrafkaError| match error {
        KrafkaError::UnknownTopic { .. }
        | KrafkaError::Broker {
            code: ErrorCode::UnknownTopicOrPartition | ErrorCode::TopicAuthorizationFailed, ..
        } => format!("the topic {topic} is not there, or is not for this user"),
        other => broker::said(&work.asked, &other),
    };
    let reader = kafka.consumer_without_group().metrics_push(false).build().await.map_err(failed)?;
    let found = lag::partitions(&reader, topic).await.map_err(failed)?;
    // Nothing is to be told to anybody.
    drop(tokio::time::timeout(CLOSE, reader.close()).await);
    if found.is_empty() {
        return Err(format!("the topic {topic} is not there, or is not for this user"));
    }
    Ok(found)
}

fn count(partitions: &[i32]) -> i32 {
    i32::try_from(partitions.len()).unwrap_or(i32::MAX)
}
