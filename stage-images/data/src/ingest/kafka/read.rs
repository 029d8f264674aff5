//! What the brokers have of a topic, and the messages of a stretch of a partition.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use krafka::KrafkaError;
use krafka::consumer::{Consumer, ConsumerRecord};
use krafka::error::ErrorCode;

use super::KafkaError;
use super::offsets::{Kept, Lost, Stretch};

/// What the protocol calls the oldest message that is there, and the end.
const FIRST: i64 = -2;
const END: i64 = -1;
/// Brokers may elect a leader, or be started anew: for so long nothing has to come.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_secs(1);

/// What there is of each partition. `since` is in ms since 1970.
pub async fn kept(consumer: &Consumer, topic: &str, since: Option<i64>) -> Result<BTreeMap<i32, Kept>, KafkaError> {
    let end = offsets(consumer, topic, END).await?;
    let first = offsets(consumer, topic, FIRST).await?;
    let since = match since {
        Some(time) => offsets(consumer, topic, time).await?,
        None => first.clone(),
    };
    let kept = |(&partition, &end): (&i32, &i64)| {
        let first = first.get(&partition).copied().unwrap_or(end).min(end);
        // No message is that new: nothing of what is there is wanted.
        let since = since.get(&partition).copied().filter(|since| *since >= 0).unwrap_or(end);
        (partition, Kept { first, end, since: since.clamp(first, end) })
    };
    Ok(end.iter().map(kept).collect())
}

/// The offset of every partition at a time.
async fn offsets(consumer: &Consumer, topic: &str, time: i64) -> Result<HashMap<i32, i64>, KafkaError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let found: Result<HashMap<i32, i64>, KrafkaError> =
            match consumer.offsets_for_times_for_topic(topic, time).await {
                Ok(found) => {
                    found.into_iter().map(|(partition, offset)| offset.map(|offset| (partition, offset))).collect()
                }
                Err(error) => Err(error),
            };
        match found {
            Err(error) if is_retriable(&error) && Instant::now() < until => tokio::time::sleep(POLL).await,
            found => return found.map_err(|source| explain(topic, source)),
        }
    }
}

/// A topic that is not there is not waited for, though it might be made.
fn is_retriable(error: &KrafkaError) -> bool {
    error.is_retriable() && !is_unknown(error)
}

fn is_unknown(error: &KrafkaError) -> bool {
    let unknown = ErrorCode::UnknownTopicOrPartition;
    matches!(error, KrafkaError::UnknownTopic { .. })
        || matches!(error, KrafkaError::Broker { code, .. } if *code == unknown)
}

fn explain(topic: &str, source: KrafkaError) -> KafkaError {
    let topic = topic.to_owned();
    match source {
        ref error if is_unknown(error) => KafkaError::NoTopic { topic },
        KrafkaError::Broker { code: ErrorCode::TopicAuthorizationFailed, .. } => KafkaError::Refused { topic },
        source => KafkaError::Read { topic, source },
    }
}

/// Gives every message of the stretch to `take`, in order.
pub async fn stretch(
    consumer: &Consumer,
    topic: &str,
    stretch: Stretch,
    mut take: impl FnMut(&ConsumerRecord) -> Result<(), KafkaError>,
) -> Result<(), KafkaError> {
    let Stretch { partition, from, to } = stretch;
    if from >= to {
        return Ok(());
    }
    let failed = |source| explain(topic, source);
    consumer.assign(topic, vec![partition]).await.map_err(failed)?;
    consumer.seek(topic, partition, from).await.map_err(failed)?;
    let (mut reached, mut until) = (from, Instant::now() + PATIENCE);
    let mut last = None;
    while reached < to {
        match consumer.poll(POLL).await {
            Ok(records) => {
                for record in records.iter().filter(|record| (from..to).contains(&record.offset)) {
                    take(record)?;
                }
                // Not only past what was given: transactions leave marks, and compaction leaves gaps.
                let position = consumer.position(topic, partition).await.unwrap_or(reached);
                if position > reached {
                    (reached, until, last) = (position, Instant::now() + PATIENCE, None);
                }
            }
            // It was there a moment ago.
            Err(KrafkaError::NoOffset { .. }) => {
                return Err(KafkaError::lost(topic, Lost::Deleted { partition, from: reached, first: reached + 1 }));
            }
            Err(error) if is_retriable(&error) => {
                last = Some(error);
                tokio::time::sleep(POLL).await;
            }
            Err(error) => return Err(failed(error)),
        }
        if Instant::now() > until {
            let (topic, seconds) = (topic.to_owned(), PATIENCE.as_secs());
            return Err(KafkaError::Silent { topic, partition, offset: reached, seconds, source: last });
        }
    }
    Ok(())
}
