//! How brokers are spoken to: over TLS by the authority that is named, with what a mounted Secret says of who comes.

use std::time::Duration;

use krafka::Kafka;
use krafka::auth::{AuthConfig, TlsConfig};
use millrace_routes::{BrokerTls, Entry, Mechanism, Sasl, Source, Stream, Use};

use super::Work;
use super::tunnel::Tunnel;
use crate::dial::{self, Reach};
use crate::door::mounted;

/// What it calls itself.
const CLIENT: &str = "millrace-router";
const CONNECT: Duration = Duration::from_secs(5);
/// An answer that has not come in this time does not come.
const WITHIN: Duration = Duration::from_secs(10);
/// A longer answer of a broker is none: it is asked for far less, and one message may be longer than that.
const ANSWER_BYTES: usize = 32 << 20;

/// Speaks to one of the brokers, by a tunnel that is open as long as it is kept. Whatever is mounted is read anew.
pub async fn connect(work: &Work) -> Result<(Kafka, Tunnel), String> {
    let (asked, reach) = (&work.asked, &work.streams.reach);
    let (mut brokers, mut why) = (Vec::new(), String::new());
    for broker in &asked.brokers {
        let (host, port) = broker.rsplit_once(':').ok_or_else(|| format!("{broker} is no broker"))?;
        let port = port.parse().map_err(|_| format!("{broker} is no broker"))?;
        // Whoever writes a spec must not reach by it what only the router's pod reaches. The tunnel looks at every address; here it is
        // found before anything begins.
        match dial::check(host, port, reach).await {
            Ok(()) => brokers.push(broker.as_str()),
            Err(wrong) => why = format!("{broker}: {wrong}"),
        }
    }
    if brokers.is_empty() {
        return Err(why);
    }
    let tunnel = Tunnel::open(reach.clone(), work.counts.clone()).await?;
    let builder = Kafka::builder(brokers.join(","))
        .proxy(tunnel.entrance())
        .client_id(CLIENT)
        .connect_timeout(CONNECT)
        .request_timeout(WITHIN)
        .max_response_size(ANSWER_BYTES)
        .security(security(asked, reach)?);
    let kafka = builder.connect().await.map_err(|error| said(asked, &error))?;
    Ok((kafka, tunnel))
}

fn security(asked: &Stream, reach: &Reach) -> Result<AuthConfig, String> {
    let tls = asked.tls.as_ref().map(|tls| authorities(tls, reach)).transpose()?;
    let Some(sasl) = &asked.sasl else { return Ok(tls.map_or_else(AuthConfig::plaintext, AuthConfig::ssl)) };
    let (name, password) = credentials(sasl, reach)?;
    let auth = match sasl.mechanism {
        Mechanism::Plain => AuthConfig::sasl_plain(name, password),
        Mechanism::ScramSha256 => AuthConfig::sasl_scram_sha256(name, password),
        Mechanism::ScramSha512 => AuthConfig::sasl_scram_sha512(name, password),
    };
    Ok(match tls {
        Some(tls) => auth.with_tls(tls),
        None => auth,
    })
}

fn authorities(tls: &BrokerTls, reach: &Reach) -> Result<TlsConfig, String> {
    let Some(ca) = &tls.ca else { return Ok(TlsConfig::new()) };
    Ok(TlsConfig::new().with_ca_cert_pem(dial::entry(ca, |key| Use::Broker(key), reach)?))
}

fn credentials(sasl: &Sasl, reach: &Reach) -> Result<(String, String), String> {
    let read = |key: &str| {
        let entry = Entry { of: Source::Secret, name: sasl.secret.clone(), key: key.to_owned() };
        let bytes = dial::entry(&entry, |_| Use::Sasl, reach)?;
        let text =
            String::from_utf8(bytes).map_err(|_| format!("Secret {}: the entry {key} is no text", sasl.secret))?;
        // Editors end files with a line break.
        Ok::<_, String>(text.trim_end_matches(['\r', '\n']).to_owned())
    };
    Ok((read(Sasl::USERNAME)?, read(Sasl::PASSWORD)?))
}

/// In words: what went wrong with whom. The client's errors hold no secret.
pub fn said(asked: &Stream, error: &krafka::KrafkaError) -> String {
    // What it says of the tunnel is what its other end met.
    format!("{}: {}", asked.brokers.join(","), error.to_string().replace("SOCKS5 proxy error: ", ""))
}

/// Whether two read the same of what is mounted now: a password that was changed is used at the next connection.
pub fn mounted_state(asked: &Stream, reach: &Reach) -> Vec<Option<mounted::Files>> {
    let ca = asked.tls.iter().filter_map(|tls| tls.ca.as_ref()).map(|ca| ca.of.folder(&ca.name, Use::Broker(&ca.key)));
    let secret = asked.sasl.iter().map(|sasl| Source::Secret.folder(&sasl.secret, Use::Sasl));
    ca.chain(secret).map(|folder| mounted::read(&reach.mounted.join(folder)).ok().flatten()).collect()
}
