//! The lanes of the partitions that this router reads, as the group gives them and takes them away.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use krafka::ConsumerRecord;
use krafka::admin::TopicPartition;
use krafka::consumer::{Consumer, ConsumerRebalanceListener, OffsetAndMetadata};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::lane::{self, Progress, Shop};
use super::{broker, message};
use crate::state::lock;

/// What is in hand has so long when a partition goes to another router.
const FINISH: Duration = Duration::from_secs(5);
/// Messages that may wait in a lane, beside those at work.
const WAITING: usize = 2;
/// Bytes of messages that may wait in one lane, and in all.
const LANE_BYTES: usize = 2 << 20;
const ALL_BYTES: usize = 16 << 20;

/// One partition.
struct Lane {
    sender: mpsc::UnboundedSender<ConsumerRecord>,
    stop: watch::Sender<bool>,
    progress: Arc<Progress>,
    task: JoinHandle<Result<(), String>>,
    /// What is committed.
    committed: i64,
    /// It gets no more for now.
    full: bool,
}

pub struct Group {
    shop: Arc<Shop>,
    lanes: Mutex<BTreeMap<i32, Lane>>,
    consumer: OnceLock<Weak<Consumer>>,
    /// Why it cannot go on.
    failed: Mutex<Option<String>>,
}

impl Group {
    pub fn new(shop: Arc<Shop>) -> Arc<Self> {
        Arc::new(Self { shop, lanes: Mutex::default(), consumer: OnceLock::new(), failed: Mutex::default() })
    }

    /// Who reads for it, before the first message.
    pub fn reads_by(&self, consumer: &Arc<Consumer>) {
        drop(self.consumer.set(Arc::downgrade(consumer)));
    }

    fn consumer(&self) -> Option<Arc<Consumer>> {
        self.consumer.get()?.upgrade()
    }

    fn topic(&self) -> &str {
        &self.shop.work.asked.input
    }

    fn open(&self, partition: i32) {
        let (sender, messages) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let progress = Arc::new(Progress::default());
        progress.done.store(-1, Ordering::Release);
        let task = tokio::spawn(lane::run(self.shop.clone(), progress.clone(), messages, stopped));
        let lane = Lane { sender, stop, progress, task, committed: -1, full: false };
        if let Some(before) = lock(&self.lanes).insert(partition, lane) {
            before.task.abort();
        }
        self.count();
    }

    fn count(&self) {
        self.shop.work.counts.reads(lock(&self.lanes).len());
    }

    /// Hands each message to its lane. One of a partition that has gone is another router's.
    pub fn take(&self, messages: Vec<ConsumerRecord>) {
        let lanes = lock(&self.lanes);
        for message in messages {
            let Some(lane) = lanes.get(&message.partition) else { continue };
            let bytes = message::bytes(&message);
            lane.progress.inside.fetch_add(1, Ordering::AcqRel);
            lane.progress.bytes.fetch_add(bytes, Ordering::AcqRel);
            // A lane that is over has said why.
            drop(lane.sender.send(message));
        }
    }

    /// Lets no lane have more than it can do soon.
    pub async fn balance(&self, consumer: &Consumer) {
        let most = WAITING * usize::try_from(self.shop.work.asked.in_flight).unwrap_or(1);
        let (mut full, mut free) = (Vec::new(), Vec::new());
        let bytes = |lane: &Lane| lane.progress.bytes.load(Ordering::Acquire);
        {
            let mut lanes = lock(&self.lanes);
            let all: usize = lanes.values().map(bytes).sum();
            for (partition, lane) in lanes.iter_mut() {
                let inside = lane.progress.inside.load(Ordering::Acquire);
                let is_full = inside >= most || bytes(lane) >= LANE_BYTES || inside > 0 && all >= ALL_BYTES;
                if is_full != lane.full {
                    lane.full = is_full;
                    if is_full { &mut full } else { &mut free }.push(*partition);
                }
            }
        }
        if !full.is_empty() {
            consumer.pause(self.topic(), &full).await;
        }
        if !free.is_empty() {
            consumer.resume(self.topic(), &free).await;
        }
    }

    /// Some lane waits for nothing but room.
    pub fn is_full(&self) -> bool {
        lock(&self.lanes).values().any(|lane| lane.full)
    }

    /// Why it cannot go on, if it cannot.
    pub async fn fault(&self) -> Option<String> {
        if let Some(why) = lock(&self.failed).take() {
            return Some(why);
        }
        let over = {
            let mut lanes = lock(&self.lanes);
            let over = lanes.iter().find(|(_, lane)| lane.task.is_finished()).map(|(partition, _)| *partition);
            over.and_then(|partition| lanes.remove(&partition))
        };
        match over?.task.await {
            Ok(Ok(())) => Some("a lane ended by itself; this is a bug".to_owned()),
            Ok(Err(why)) => Some(why),
            Err(error) => Some(format!("a lane broke off: {error}; this is a bug")),
        }
    }

    /// Commits what is acknowledged. The coordinator takes nothing from one whose partitions went to another.
    pub async fn commit(&self, consumer: &Consumer) -> Result<(), String> {
        let mut news = Vec::new();
        let partitions: Vec<i32> = lock(&self.lanes).keys().copied().collect();
        for partition in partitions {
            let position = consumer.position(self.topic(), partition).await;
            let lanes = lock(&self.lanes);
            let Some(lane) = lanes.get(&partition) else { continue };
            let done = lane.progress.done.load(Ordering::Acquire);
            // With nothing in hand it is where the next message will be, past what is no message.
            let idle = lane.progress.inside.load(Ordering::Acquire) == 0;
            let done = position.filter(|_| idle).map_or(done, |position| position.max(done));
            if done > lane.committed {
                news.push((partition, done));
            }
        }
        self.write(consumer, &news).await.map_err(|error| broker::said(&self.shop.work.asked, &error))?;
        let mut lanes = lock(&self.lanes);
        for (partition, offset) in news {
            if let Some(lane) = lanes.get_mut(&partition) {
                lane.committed = lane.committed.max(offset);
            }
        }
        Ok(())
    }

    async fn write(&self, consumer: &Consumer, offsets: &[(i32, i64)]) -> krafka::Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let offsets = offsets.iter().map(|(partition, offset)| {
            (TopicPartition::new(self.topic(), *partition), OffsetAndMetadata::new(*offset))
        });
        consumer.commit_offsets(offsets).await
    }

    /// What is in hand is finished, and committed.
    async fn give_back(&self, partitions: &[i32]) {
        let lanes: Vec<(i32, Lane)> = {
            let mut all = lock(&self.lanes);
            partitions.iter().filter_map(|partition| Some((*partition, all.remove(partition)?))).collect()
        };
        for (_, lane) in &lanes {
            lane.stop.send_replace(true);
        }
        let until = Instant::now() + FINISH;
        let mut news = Vec::new();
        for (partition, mut lane) in lanes {
            if tokio::time::timeout_at(until, &mut lane.task).await.is_err() {
                lane.task.abort();
            }
            let done = lane.progress.done.load(Ordering::Acquire);
            if done > lane.committed {
                news.push((partition, done));
            }
            self.shop.work.counts.left(partition);
        }
        let Some(consumer) = self.consumer() else { return };
        if let Err(error) = self.write(&consumer, &news).await {
            // What is not committed comes again, here or there.
            tracing::info!(%error, model = self.shop.work.model, "what was answered last is not committed");
        }
        self.count();
    }

    /// Everything at once, without a word to the brokers.
    pub fn abort(&self) {
        for (partition, lane) in std::mem::take(&mut *lock(&self.lanes)) {
            lane.task.abort();
            self.shop.work.counts.left(partition);
        }
        self.count();
    }

    /// A group that remembers nothing, and is to begin with the next message, remembers from now on where that is: else what comes before
    /// its first answer would be passed over when it begins again.
    async fn begin(&self, partitions: &[i32]) -> Result<(), String> {
        let asked = &self.shop.work.asked;
        let Some(consumer) = self.consumer().filter(|_| asked.latest) else { return Ok(()) };
        let failed = |error: krafka::KrafkaError| broker::said(asked, &error);
        let all: Vec<(&str, i32)> = partitions.iter().map(|partition| (asked.input.as_str(), *partition)).collect();
        let known = consumer.committed(&all).await.map_err(failed)?;
        let mut news = Vec::new();
        for partition in partitions.iter().filter(|partition| !known.contains_key(&(asked.input.clone(), **partition)))
        {
            let (_, end) = consumer.fetch_watermarks(&asked.input, *partition).await.map_err(failed)?;
            consumer.seek(&asked.input, *partition, end).await.map_err(failed)?;
            news.push((*partition, end));
        }
        self.write(&consumer, &news).await.map_err(failed)
    }
}

fn numbers(partitions: &[TopicPartition]) -> Vec<i32> {
    partitions.iter().map(|partition| partition.partition).collect()
}

/// What the consumer tells, on its own way.
pub struct Listener(pub Arc<Group>);

impl ConsumerRebalanceListener for Listener {
    async fn on_partitions_assigned(&self, partitions: &[TopicPartition]) {
        let partitions = numbers(partitions);
        if let Err(why) = self.0.begin(&partitions).await {
            *lock(&self.0.failed) = Some(why);
            return;
        }
        for partition in partitions {
            self.0.open(partition);
        }
    }

    async fn on_partitions_revoked(&self, partitions: &[TopicPartition]) {
        self.0.give_back(&numbers(partitions)).await;
    }

    /// They are another's already.
    async fn on_partitions_lost(&self, partitions: &[TopicPartition]) {
        let lanes: Vec<Lane> = {
            let mut all = lock(&self.0.lanes);
            numbers(partitions).iter().filter_map(|partition| all.remove(partition)).collect()
        };
        for lane in lanes {
            lane.task.abort();
        }
        for partition in numbers(partitions) {
            self.0.shop.work.counts.left(partition);
        }
        self.0.count();
    }
}
