//! Where a topic is: `kafka://broker:9092,other:9092/topic`.

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error(
        "parameter source: it has a user or a password, which everybody who sees the pipeline or the run could read; leave them out, and give KAFKA_USERNAME and KAFKA_PASSWORD to the stage from a Secret: overrides: {{ env: {{ KAFKA_PASSWORD: {{ secret: {{ name: …, key: … }} }} }} }}"
    )]
    User,
    #[error("parameter source: the address of a topic ends with its name; leave out what follows ? or #")]
    More,
    #[error(
        "parameter source: found {found}, expected kafka://broker:9092/topic, with more brokers behind commas: kafka://a:9092,b:9092/topic"
    )]
    Malformed { found: &'static str },
}

/// A topic, and brokers that know the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// `host:port`, one after another.
    pub brokers: String,
    pub topic: String,
}

const PORT: u16 = 9092;
/// What Kafka takes for the name of a topic.
const LONGEST: usize = 249;

impl Topic {
    /// None if the source is no topic.
    pub fn parse(source: &str) -> Result<Option<Self>, AddressError> {
        let Some(rest) = source.strip_prefix("kafka://") else { return Ok(None) };
        if rest.contains('@') {
            return Err(AddressError::User);
        }
        if rest.contains(['?', '#']) {
            return Err(AddressError::More);
        }
        let malformed = |found| AddressError::Malformed { found };
        let (brokers, topic) = rest.split_once('/').ok_or_else(|| malformed("no topic"))?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if topic.is_empty() {
            return Err(malformed("no topic"));
        }
        if topic.len() > LONGEST || !topic.bytes().all(plain) {
            return Err(malformed("no name of a topic (letters, digits, ., _ and -)"));
        }
        let brokers = brokers.split(',').map(broker).collect::<Option<Vec<String>>>();
        let brokers = brokers.ok_or_else(|| malformed("a broker without a host, or with a port that is none"))?;
        Ok(Some(Self { brokers: brokers.join(","), topic: topic.to_owned() }))
    }

    /// The address for people.
    pub fn name(&self) -> String {
        format!("kafka://{}/{}", self.brokers, self.topic)
    }
}

/// `host`, `host:port`, `[address]` or `[address]:port`, with its port.
fn broker(text: &str) -> Option<String> {
    let text = text.trim();
    // The colons of an IPv6 address are in brackets.
    let end = text.find(']').map_or(0, |at| at + 1);
    let (host, port) = match text[end..].split_once(':') {
        Some((host, port)) => (&text[..end + host.len()], port.parse().ok().filter(|port| *port > 0)?),
        None => (text, PORT),
    };
    let spaces = host.contains(char::is_whitespace);
    (!host.is_empty() && !spaces).then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(source: &str) -> Result<Option<Topic>, AddressError> {
        Topic::parse(source)
    }

    #[test]
    fn addresses_are_read_with_what_they_leave_out() {
        let topic = |brokers: &str, topic: &str| Ok(Some(Topic { brokers: brokers.into(), topic: topic.into() }));
        assert_eq!(parsed("kafka://a/orders"), topic("a:9092", "orders"));
        assert_eq!(parsed("kafka://a:1,b, c.d:2/x_1.y-z"), topic("a:1,b:9092,c.d:2", "x_1.y-z"));
        assert_eq!(parsed("kafka://[::1]:7/t"), topic("[::1]:7", "t"));
        assert_eq!(parsed("kafka://[::1]/t"), topic("[::1]:9092", "t"));
        for other in ["/data/a.csv", "https://kafka/x", "kafka:orders"] {
            assert_eq!(parsed(other), Ok(None));
        }
    }

    #[test]
    fn what_is_wrong_is_named_without_what_may_be_secret() {
        for (source, words) in [
            ("kafka://me:hunter2@a/orders", "it has a user or a password"),
            ("kafka://a/orders?password=hunter2", "leave out what follows ?"),
            ("kafka://a", "found no topic"),
            ("kafka://a/", "found no topic"),
            ("kafka://a/b/c", "no name of a topic"),
            ("kafka:///orders", "a broker without a host"),
            ("kafka://a:none/orders", "a port that is none"),
            ("kafka://a:9092,/orders", "a broker without a host"),
        ] {
            let message = parsed(source).unwrap_err().to_string();
            assert!(message.contains(words) && !message.contains("hunter2"), "{source}: {message}");
        }
    }
}
