//! A topic of Kafka into a table: what is there when the stage begins, from where the last run ended, and where the next one goes on.
//!
//! Messages go to disk first, because their types are learnt over all of them: memory holds one answer of a broker.
//! Credentials come from the environment alone, as those of databases do.

mod address;
mod client;
mod message;
mod offsets;
mod read;
mod spool;

use std::path::Path;
use std::sync::Arc;

use ::arrow::datatypes::Schema;
use ::arrow::error::ArrowError;
use krafka::KrafkaError;
use krafka::consumer::{Consumer, ConsumerRecord};

pub use address::{AddressError, Topic};
pub use offsets::{Offsets, Position};

use self::message::{Message, Unfit};
use self::offsets::{Lost, Stretch};
use self::spool::{Spool, Spooled};
use super::jsonl::{self, JsonlError};
use super::params::{Format, KafkaParams, Metadata, Params};
use super::position::{PositionError, Since};
use super::source::{SourceError, SourceFile, check_size};
use super::values;
use crate::say;

#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    #[error("parameter {parameter}: it is not for Kafka; leave it out")]
    NotForTopics { parameter: &'static str },
    #[error("parameter format: found {found}, expected jsonl or auto: values of messages are JSON objects")]
    Format { found: String },
    #[error("parameter kafka.since: '{found}' is no timestamp; write one as 2026-11-21T12:00:00Z")]
    Since { found: String },
    #[error("parameter kafka.maxMessages: found 0, expected at least 1")]
    NoMaximum,
    #[error("parameter kafka.metadata: {column} is there twice; name each once")]
    MetadataTwice { column: &'static str },
    #[error(
        "parameter kafka.sasl: there is no {variable}; give it to the stage from a Secret: overrides: {{ env: {{ {variable}: {{ secret: {{ name: …, key: … }} }} }} }}"
    )]
    NoCredentials { variable: &'static str },
    #[error("parameter kafka.{there}: it needs kafka.{missing}")]
    HalfIdentity { there: &'static str, missing: &'static str },
    #[error(
        "parameter kafka.clientCertificate: it is for TLS, but kafka.allowPlaintext is true; leave out one of them"
    )]
    PlainIdentity,
    #[error(
        "failed to connect to {brokers}; TLS is asked for unless kafka.allowPlaintext is true, and a user only with kafka.sasl"
    )]
    Connect {
        brokers: String,
        #[source]
        source: KrafkaError,
    },
    #[error(
        "there is no topic {topic}, or the user may not see it; correct parameter source, make the topic, or give the user the rights DESCRIBE and READ on it"
    )]
    NoTopic { topic: String },
    #[error("reading the topic {topic} is refused; give the user the rights DESCRIBE and READ on it")]
    Refused { topic: String },
    #[error("failed to read the topic {topic}")]
    Read {
        topic: String,
        #[source]
        source: KrafkaError,
    },
    #[error(
        "topic {topic}, partition {partition}: nothing came for {seconds} s from offset {offset} on; is its leader there, and has the user the right READ?"
    )]
    Silent {
        topic: String,
        partition: i32,
        offset: i64,
        seconds: u64,
        #[source]
        source: Option<KrafkaError>,
    },
    #[error(
        "topic {topic}, partition {partition}: messages from offset {from} on are wanted, but those before {first} are deleted: they are lost, unless you have them elsewhere. To go on with what is there, set kafka.deleted: skip; let the topic keep messages for longer than runs are apart"
    )]
    Deleted { topic: String, partition: i32, from: i64, first: i64 },
    #[error(
        "topic {topic}, partition {partition}: messages from offset {from} on are wanted, but it ends at {end}: the topic was made anew. To read it from its beginning, set kafka.deleted: skip, or leave kafka.from out"
    )]
    Anew { topic: String, partition: i32, from: i64, end: i64 },
    #[error(
        "parameter kafka.from: the topic {topic} has no partition {partition}; correct it, or set kafka.deleted: skip if the topic was made anew"
    )]
    NoPartition { topic: String, partition: i32 },
    #[error("topic {topic}, partition {partition}, offset {offset}: {reason}; the value is '{content}'")]
    Value { topic: String, partition: i32, offset: i64, reason: String, content: String },
    #[error(
        "topic {topic}, partition {partition}, offset {offset}: a value does not have its column's type; correct who writes it, or declare the column in schema; the message is '{content}'"
    )]
    Type {
        topic: String,
        partition: i32,
        offset: i64,
        content: String,
        #[source]
        source: ArrowError,
    },
    #[error(
        "topic {topic}: there are no new messages, and without schema nobody knows the columns; declare them in schema, and the table is empty"
    )]
    NoMessages { topic: String },
    #[error(
        "the table's position is one of the topic {found}, but the source is {topic}; give this source a name of its own in table.position"
    )]
    OtherTopic { topic: String, found: String },
    #[error("failed to keep messages in the temporary folder")]
    Spool(#[source] std::io::Error),
    #[error(transparent)]
    Jsonl(#[from] JsonlError),
    #[error(transparent)]
    Size(#[from] SourceError),
    #[error(transparent)]
    Position(#[from] PositionError),
}

impl KafkaError {
    fn lost(topic: &str, lost: Lost) -> Self {
        let topic = topic.to_owned();
        match lost {
            Lost::Deleted { partition, from, first } => Self::Deleted { topic, partition, from, first },
            Lost::Anew { partition, from, end } => Self::Anew { topic, partition, from, end },
            Lost::Partition { partition } => Self::NoPartition { topic, partition },
        }
    }

    fn unfit(topic: &str, record: &ConsumerRecord, unfit: &Unfit) -> Self {
        let reason = match unfit {
            Unfit::NotText => "the value is not UTF-8, expected a JSON object".to_owned(),
            Unfit::NotJson { reason } => format!("the value is no JSON ({reason})"),
            Unfit::NotObject { found } => format!("found {found}, expected a JSON object"),
            Unfit::Taken { column } => {
                format!("it has a value {column} itself; leave that out of kafka.metadata")
            }
        };
        let value = record.value.as_deref().unwrap_or_default();
        let content = say::excerpt(&String::from_utf8_lossy(value), 120);
        let (topic, partition, offset) = (topic.to_owned(), record.partition, record.offset);
        Self::Value { topic, partition, offset, reason, content }
    }
}

/// What was read.
pub struct Read {
    pub rows: u64,
    pub schema: Arc<Schema>,
    /// Where the next run goes on.
    pub position: Position,
}

/// Reads what the parameters ask of the topic behind a position, and writes it to a folder.
pub async fn ingest(topic: &Topic, params: &Params, since: &Since, to: &Path) -> Result<Read, KafkaError> {
    let kafka = check(params)?;
    let time = time(&kafka)?;
    let reached = reached(topic, since)?;
    let goes_on = reached.is_some();
    let consumer = client::connect(topic, &kafka).await?;
    let kept = read::kept(&consumer, &topic.topic, time).await?;
    let from = reached.or_else(|| kafka.from.clone()).unwrap_or_default();
    let planned = offsets::plan(&kept, &from, kafka.deleted.unwrap_or_default());
    let mut stretches = planned.map_err(|lost| KafkaError::lost(&topic.topic, lost))?;
    if let Some(most) = kafka.max_messages {
        offsets::share(&mut stretches, most);
    }
    let offsets = Offsets(stretches.iter().map(|Stretch { partition, to, .. }| (*partition, *to)).collect());
    let position = Position { topic: topic.topic.clone(), offsets };
    let metadata = kafka.metadata.unwrap_or_default();
    let spool = fetch(&consumer, topic, &stretches, &metadata, params.max_bytes).await?;
    // What is left behind is a connection that the broker closes by itself.
    let _ = consumer.close().await;
    if spool.count == 0 && params.schema.is_none() {
        if !goes_on {
            return Err(KafkaError::NoMessages { topic: topic.topic.clone() });
        }
        // Nothing for a table that has its columns.
        std::fs::create_dir_all(to).map_err(KafkaError::Spool)?;
        return Ok(Read { rows: 0, schema: Arc::new(Schema::empty()), position });
    }
    let (rows, schema) = table(topic, params, &metadata, &spool.finish().map_err(KafkaError::Spool)?, to)?;
    Ok(Read { rows, schema, position })
}

/// How far a table has the topic.
fn reached(topic: &Topic, since: &Since) -> Result<Option<Offsets>, KafkaError> {
    let Some(Position { topic: found, offsets }) = since.get()? else { return Ok(None) };
    if found == topic.topic {
        Ok(Some(offsets))
    } else {
        Err(KafkaError::OtherTopic { topic: topic.topic.clone(), found })
    }
}

/// Brings the messages of all stretches onto disk.
async fn fetch(
    consumer: &Consumer,
    topic: &Topic,
    stretches: &[Stretch],
    metadata: &[Metadata],
    limit: Option<u64>,
) -> Result<Spool, KafkaError> {
    let mut spool = Spool::create().map_err(KafkaError::Spool)?;
    let (mut line, mut empty) = (Vec::new(), 0u64);
    for stretch in stretches {
        read::stretch(consumer, &topic.topic, *stretch, |record| {
            let Some(value) = record.value.as_deref() else {
                empty += 1;
                return Ok(());
            };
            let message = Message {
                partition: record.partition,
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.key.as_deref(),
                value,
            };
            line.clear();
            let lined = message::line(message, metadata, &mut line);
            lined.map_err(|unfit| KafkaError::unfit(&topic.topic, record, &unfit))?;
            spool.push(record.partition, record.offset, &line).map_err(KafkaError::Spool)?;
            Ok(check_size(&topic.name(), spool.bytes, limit)?)
        })
        .await?;
    }
    if empty > 0 {
        say::line(format!("{empty} messages without a value are left out"));
    }
    Ok(spool)
}

fn check(params: &Params) -> Result<KafkaParams, KafkaError> {
    let there = [
        ("csv", params.csv.is_some()),
        ("s3", params.s3.is_some()),
        ("gcs", params.gcs.is_some()),
        ("azure", params.azure.is_some()),
        ("sql", params.sql.is_some()),
        ("delta", params.delta.is_some()),
    ];
    for (parameter, there) in there {
        if there {
            return Err(KafkaError::NotForTopics { parameter });
        }
    }
    match params.format {
        None | Some(Format::Auto | Format::Jsonl) => {}
        Some(other) => return Err(KafkaError::Format { found: format!("{other:?}").to_lowercase() }),
    }
    let kafka = params.kafka.clone().unwrap_or_default();
    if kafka.max_messages == Some(0) {
        return Err(KafkaError::NoMaximum);
    }
    let metadata = kafka.metadata.as_deref().unwrap_or_default();
    let twice = metadata.iter().enumerate().find(|(index, fact)| metadata[..*index].contains(fact));
    match twice {
        Some((_, fact)) => Err(KafkaError::MetadataTwice { column: fact.column() }),
        None => Ok(kafka),
    }
}

/// The time that `since` names, in ms since 1970.
fn time(kafka: &KafkaParams) -> Result<Option<i64>, KafkaError> {
    let Some(text) = kafka.since.as_deref().map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    let micros = values::timestamp(text).filter(|time| *time >= 0);
    let micros = micros.ok_or_else(|| KafkaError::Since { found: say::excerpt(text, 60) })?;
    // Messages have milliseconds: none that is older is taken.
    Ok(Some(micros.saturating_add(999) / 1000))
}

/// The lines as a table. Columns of metadata have their types, and are among those that are kept.
fn table(
    topic: &Topic,
    params: &Params,
    metadata: &[Metadata],
    spooled: &Spooled,
    to: &Path,
) -> Result<(u64, Arc<Schema>), KafkaError> {
    let mut params = params.clone();
    let schema = params.schema.get_or_insert_default();
    for fact in metadata {
        schema.entry(fact.column().to_owned()).or_insert(fact.column_type());
        if let Some(columns) = &mut params.columns
            && !columns.iter().any(|column| column == fact.column())
        {
            columns.push(fact.column().to_owned());
        }
    }
    let lines = SourceFile { name: topic.name(), path: spooled.lines() };
    jsonl::ingest_any(&[lines], &params, to).map_err(|error| match error {
        JsonlError::Value { line, content, source, .. } => match spooled.place(line) {
            Ok((partition, offset)) => {
                KafkaError::Type { topic: topic.topic.clone(), partition, offset, content, source }
            }
            Err(error) => KafkaError::Spool(error),
        },
        other => other.into(),
    })
}
