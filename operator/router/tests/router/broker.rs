//! A real broker of Kafka, and what a test does at it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use krafka::admin::{ConfigOp, ConfigResource, CreateTopicsOptions, IncrementalAlterConfigsOptions, NewTopic};
use krafka::consumer::ConsumerRecord;
use krafka::{Kafka, Record};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::site::{free_port, until};

/// One takes 300 MB: a test has it for itself.
static ONE: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);
/// So long it may take to begin on a machine that has much to do.
const BEGINS: Duration = Duration::from_mins(2);

pub struct Broker {
    host: &'static str,
    pub port: u16,
    folder: TempDir,
    with: Vec<String>,
    child: Child,
    _one: MutexGuard<'static, ()>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn begin(folder: &TempDir, host: &str, port: u16, with: &[String]) -> Child {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dev/kafka/broker");
    let log = std::fs::File::create(folder.path().join("output")).unwrap();
    let mut command = Command::new(script);
    command.arg(folder.path()).args([host, &port.to_string()]).args(with);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

impl Broker {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1", &[]).await
    }

    /// With more arguments of the script.
    pub async fn start_at(host: &'static str, with: &[String]) -> Self {
        let one = ONE.lock().await;
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        // An argument may name its own port.
        let with: Vec<String> = with.iter().map(|argument| argument.replace("${port}", &port.to_string())).collect();
        let child = begin(&folder, host, port, &with);
        let broker = Self { host, port, folder, with, child, _one: one };
        broker.answers().await;
        broker
    }

    /// Without a word to anybody.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// At the same address, with what it had.
    pub async fn again(&mut self) {
        self.child = begin(&self.folder, self.host, self.port, &self.with);
        self.answers().await;
    }

    async fn answers(&self) {
        let began = Instant::now();
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        while TcpStream::connect(address).is_err() {
            let said = || std::fs::read_to_string(self.folder.path().join("output")).unwrap_or_default();
            assert!(began.elapsed() < BEGINS, "the broker does not begin: {}", said());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub async fn client(&self) -> Kafka {
        Kafka::builder(self.address()).connect().await.unwrap()
    }

    pub async fn topics(&self, topics: &[(&str, i32)]) {
        for (name, partitions) in topics {
            self.topic(name, *partitions, &[]).await;
        }
    }

    /// One with settings of its own.
    pub async fn topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, 1).unwrap();
        topic.configs = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let admin = self.client().await.admin();
        let made = admin.create_topics([topic], CreateTopicsOptions::default()).await.unwrap();
        for (name, result) in made {
            result.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    /// Another setting of a topic that is there.
    pub async fn alter(&self, topic: &str, name: &str, value: &str) {
        let change = (ConfigResource::topic(topic), vec![ConfigOp::set(name, value)]);
        let admin = self.client().await.admin();
        let altered =
            admin.incremental_alter_configs([change], IncrementalAlterConfigsOptions::default()).await.unwrap();
        for result in altered.into_values() {
            result.unwrap();
        }
    }

    /// All that is in a topic.
    pub async fn all(&self, topic: &str) -> Vec<ConsumerRecord> {
        let reader = self.client().await.consumer_without_group().build().await.unwrap();
        let found = reader.fetch_metadata(Some(topic)).await.unwrap().topics;
        let partitions: Vec<i32> = found.iter().flat_map(|topic| topic.partitions.keys().copied()).collect();
        let mut ends = BTreeMap::new();
        for partition in &partitions {
            ends.insert(*partition, reader.fetch_watermarks(topic, *partition).await.unwrap().1);
        }
        reader.assign(topic, partitions.clone()).await.unwrap();
        for partition in &partitions {
            reader.seek_to_beginning(topic, *partition).await.unwrap();
        }
        let mut all = Vec::new();
        loop {
            let mut at_end = true;
            for (partition, end) in &ends {
                at_end &= reader.position(topic, *partition).await.unwrap_or_default() >= *end;
            }
            if at_end {
                reader.close().await.unwrap();
                return all;
            }
            all.extend(reader.poll(Duration::from_millis(200)).await.unwrap());
        }
    }

    /// Waits until a topic has so many messages of different sources.
    pub async fn answers_of(&self, topic: &str, sources: usize) -> Vec<ConsumerRecord> {
        until("all answers are there", || async {
            let all = self.all(topic).await;
            all.iter().map(source).collect::<std::collections::BTreeSet<_>>().len() >= sources
        })
        .await;
        self.all(topic).await
    }

    pub async fn put(&self, records: Vec<Record>) {
        let producer = self.client().await.producer().build().await.unwrap();
        let mut acks = Vec::new();
        for record in records {
            acks.push(producer.enqueue(record).await.unwrap());
        }
        for ack in acks {
            drop(ack.await.unwrap());
        }
    }
}

/// Where an answer says that it is from.
pub fn source(record: &ConsumerRecord) -> String {
    record.header_str("millrace-source").unwrap_or_default().to_owned()
}
