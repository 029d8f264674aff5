//! How many messages wait, of all partitions: every router looks, whoever reads them, because pods follow it while there is none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use krafka::admin::{AdminClient, ListConsumerGroupOffsetsOptions, ListOffsetsOptions, OffsetSpec, TopicPartition};
use krafka::consumer::Consumer;
use krafka::{Kafka, KrafkaError};

use super::{Work, broker};

/// Between two looks: a topic with many partitions costs more.
const EVERY: Duration = Duration::from_secs(2);
const EVERY_OF_MANY: Duration = Duration::from_secs(10);
const MANY: usize = 64;
/// And how often it is looked how many partitions there are.
const LIST_EVERY: Duration = Duration::from_mins(1);
const WITHIN: Duration = Duration::from_secs(5);

/// Looks until it is dropped.
pub async fn follow(work: Arc<Work>, kafka: Kafka, consumer: Arc<Consumer>) {
    let admin = kafka.admin();
    let (mut known, mut listed) = (Vec::new(), None::<Instant>);
    loop {
        let asked = Instant::now();
        let looked = tokio::time::timeout(2 * WITHIN, async {
            // A topic may get more of them.
            if listed.is_none_or(|at| at.elapsed() >= LIST_EVERY) {
                known = partitions(&consumer, &work.asked.input).await.map_err(|e| broker::said(&work.asked, &e))?;
                listed = Some(asked);
            }
            look(&admin, &work, &known).await
        });
        let none = |_| Err(format!("{}: no answer in {} s", work.asked.brokers.join(","), 2 * WITHIN.as_secs()));
        work.counts.looked(asked, looked.await.unwrap_or_else(none));
        tokio::time::sleep(if known.len() > MANY { EVERY_OF_MANY } else { EVERY }).await;
    }
}

/// Those of a topic, as the brokers know them now.
pub async fn partitions(reader: &Consumer, topic: &str) -> krafka::Result<Vec<i32>> {
    let found = reader.fetch_metadata(Some(topic)).await?.topics.into_iter().find(|found| found.name == topic);
    let mut partitions: Vec<i32> = found.into_iter().flat_map(|topic| topic.partitions.into_keys()).collect();
    partitions.sort_unstable();
    Ok(partitions)
}

async fn look(admin: &AdminClient, work: &Work, partitions: &[i32]) -> Result<u64, String> {
    let asked = &work.asked;
    let failed = |error: KrafkaError| broker::said(asked, &error);
    let all: Vec<TopicPartition> =
        partitions.iter().map(|partition| TopicPartition::new(asked.input.clone(), *partition)).collect();
    let options = ListConsumerGroupOffsetsOptions::default().partitions(all.clone()).timeout(WITHIN);
    let committed = admin.list_consumer_group_offsets(&asked.group, options).await.map_err(failed)?;
    let mut from: HashMap<TopicPartition, i64> = HashMap::new();
    for (partition, said) in committed {
        if let Some(offset) = said.map_err(failed)?.offset {
            from.insert(partition, offset);
        }
    }
    let ends = offsets(admin, &all, OffsetSpec::Latest).await.map_err(failed)?;
    let fresh: Vec<TopicPartition> = all.iter().filter(|partition| !from.contains_key(*partition)).cloned().collect();
    // Where nothing is remembered yet, it begins here.
    let start = if asked.latest { OffsetSpec::Latest } else { OffsetSpec::Earliest };
    if !fresh.is_empty() {
        from.extend(offsets(admin, &fresh, start).await.map_err(failed)?);
    }
    let waiting = ends.iter().map(|(partition, end)| {
        let from = from.get(partition).copied().unwrap_or(*end);
        u64::try_from(end.saturating_sub(from)).unwrap_or_default()
    });
    Ok(waiting.fold(0, u64::saturating_add))
}

async fn offsets(
    admin: &AdminClient,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> krafka::Result<HashMap<TopicPartition, i64>> {
    let specs = partitions.iter().map(|partition| (partition.clone(), spec));
    let options = ListOffsetsOptions::default().read_committed(true).timeout(WITHIN);
    let found = admin.list_offsets(specs, options).await?;
    found.into_iter().map(|(partition, said)| Ok((partition, said?.offset))).collect()
}
