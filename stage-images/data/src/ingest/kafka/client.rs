//! A consumer without a group: what was read is said by the stage, and nothing is kept at the broker.

use std::time::Duration;

use krafka::Kafka;
use krafka::auth::{AuthConfig, TlsConfig};
use krafka::consumer::{AutoOffsetReset, Consumer, IsolationLevel};

use super::KafkaError;
use super::address::Topic;
use crate::ingest::params::{KafkaParams, Sasl};

const CONNECT: Duration = Duration::from_secs(10);
const REQUEST: Duration = Duration::from_secs(30);
/// What one answer of a broker may bring: it is in memory, packed and unpacked. A larger message comes alone.
const FETCH_BYTES: i32 = 8 << 20;
/// Messages that are unpacked at a time.
const FETCH_MESSAGES: i32 = 5000;

pub async fn connect(topic: &Topic, params: &KafkaParams) -> Result<Consumer, KafkaError> {
    let refused = |source| KafkaError::Connect { brokers: topic.brokers.clone(), source };
    let kafka = Kafka::builder(topic.brokers.as_str())
        .client_id("millrace")
        .security(security(params)?)
        .connect_timeout(CONNECT)
        .request_timeout(REQUEST)
        .connect()
        .await
        .map_err(refused)?;
    let consumer = kafka.consumer_without_group();
    consumer
        // Offsets that are not there are an error, and never others.
        .auto_offset_reset(AutoOffsetReset::None)
        .enable_auto_commit(false)
        // What a transaction wrote that was given up was never there.
        .isolation_level(IsolationLevel::ReadCommitted)
        .max_partition_fetch_bytes(FETCH_BYTES)
        .fetch_max_bytes(FETCH_BYTES)
        .max_poll_records(FETCH_MESSAGES)
        .metrics_push(false)
        .build()
        .await
        .map_err(refused)
}

fn security(params: &KafkaParams) -> Result<AuthConfig, KafkaError> {
    let variable = |name: &'static str| {
        std::env::var(name).ok().filter(|value| !value.is_empty()).ok_or(KafkaError::NoCredentials { variable: name })
    };
    let config = match params.sasl {
        None => None,
        Some(mechanism) => {
            let (user, password) = (variable("KAFKA_USERNAME")?, variable("KAFKA_PASSWORD")?);
            Some(match mechanism {
                Sasl::Plain => AuthConfig::sasl_plain(user, password),
                Sasl::Scram256 => AuthConfig::sasl_scram_sha256(user, password),
                Sasl::Scram512 => AuthConfig::sasl_scram_sha512(user, password),
            })
        }
    };
    let identity = match (&params.client_certificate, &params.client_key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (Some(_), None) => return Err(KafkaError::HalfIdentity { there: "clientCertificate", missing: "clientKey" }),
        (None, Some(_)) => return Err(KafkaError::HalfIdentity { there: "clientKey", missing: "clientCertificate" }),
    };
    if params.allow_plaintext.unwrap_or(false) {
        return match identity {
            Some(_) => Err(KafkaError::PlainIdentity),
            None => Ok(config.unwrap_or_else(AuthConfig::plaintext)),
        };
    }
    let mut tls = TlsConfig::new().with_native_roots();
    if let Some((certificate, key)) = identity {
        tls = tls.with_client_cert(certificate, key);
    }
    Ok(match config {
        Some(config) => config.with_tls(tls),
        None => AuthConfig::ssl(tls),
    })
}
