//! The way of the client to all brokers: a SOCKS5 proxy (RFC 1928, 1929) inside this process, because brokers name each other's addresses and
//! the client dials what they name. Here every name is looked up once, what it leads to is checked, and that very address is dialled.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use krafka::ProxyConfig;
use millrace_routes::Obstacle;
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::counts::{Counts, Place};
use super::task::Task;
use crate::dial::{self, Reach};
use crate::state::lock;

const USER: &str = "stream";
/// All that is said before bytes go to and fro.
const GREETING: Duration = Duration::from_secs(15);
/// A name that leads to several addresses, none of which answers, is given up.
const DIAL: Duration = Duration::from_secs(5);
/// An address that nobody has wanted for so long is not named any more.
const NAMED: Duration = Duration::from_mins(1);
const VERSION: u8 = 5;
/// Connections to brokers are few; others wait.
const CONNECTIONS: usize = 256;

/// Answers of the protocol.
const GRANTED: u8 = 0;
const FORBIDDEN: u8 = 2;
const UNREACHABLE: u8 = 4;
const NO_COMMAND: u8 = 7;

/// Dropped, it and all that goes through it ends.
pub struct Tunnel {
    address: String,
    password: String,
    _task: Task<()>,
}

struct Inside {
    reach: Arc<Reach>,
    counts: Arc<Counts>,
    password: String,
    /// Where it would not go last.
    refused: Mutex<Option<Refused>>,
}

struct Refused {
    target: String,
    at: Instant,
}

impl Refused {
    /// It was reached, or others are and nobody wants to go there any more.
    fn is_over(&self, reached: &str, now: Instant) -> bool {
        self.target == reached || now.duration_since(self.at) >= NAMED
    }
}

impl Tunnel {
    pub async fn open(reach: Arc<Reach>, counts: Arc<Counts>) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("the router cannot open a way to the brokers: {error}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?.to_string();
        let mut random = [0_u8; 24];
        SystemRandom::new().fill(&mut random).map_err(|_| "there is no randomness".to_owned())?;
        // Who forwards a port of the pod does not get further by it.
        let password = BASE64_STANDARD.encode(random);
        let inside = Inside { reach, counts, password: password.clone(), refused: Mutex::default() };
        Ok(Self { address, password, _task: Task::spawn(serve(listener, Arc::new(inside))) })
    }

    pub fn entrance(&self) -> ProxyConfig {
        ProxyConfig::with_credentials(&self.address, USER, &self.password)
    }
}

async fn serve(listener: TcpListener, inside: Arc<Inside>) {
    let mut open = JoinSet::new();
    loop {
        while open.len() >= CONNECTIONS || open.try_join_next().is_some() {
            if open.len() >= CONNECTIONS {
                open.join_next().await;
            }
        }
        match listener.accept().await {
            Ok((client, _)) => {
                let inside = inside.clone();
                open.spawn(async move { inside.carry(client).await });
            }
            // There are too many files open: later there may be fewer.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

impl Inside {
    async fn carry(&self, mut client: TcpStream) {
        let Ok(Ok(Some(mut broker))) = tokio::time::timeout(GREETING, self.greet(&mut client)).await else { return };
        // Either side may end it at any time.
        drop(tokio::io::copy_bidirectional(&mut client, &mut broker).await);
    }

    /// The connection that is asked for, if it may be.
    async fn greet(&self, client: &mut TcpStream) -> std::io::Result<Option<TcpStream>> {
        client.set_nodelay(true)?;
        if client.read_u8().await? != VERSION {
            return Ok(None);
        }
        let methods = bytes(client).await?;
        if !methods.contains(&2) {
            client.write_all(&[VERSION, 0xff]).await?;
            return Ok(None);
        }
        client.write_all(&[VERSION, 2]).await?;
        client.read_u8().await?;
        let (user, password) = (bytes(client).await?, bytes(client).await?);
        let known = user.ct_eq(USER.as_bytes()) & password.ct_eq(self.password.as_bytes());
        client.write_all(&[1, u8::from(!bool::from(known))]).await?;
        if !bool::from(known) {
            return Ok(None);
        }
        let mut asked = [0; 3];
        client.read_exact(&mut asked).await?;
        let (host, port) = target(client).await?;
        let (code, broker) = if asked[1] == 1 { self.dial(&host, port).await } else { (NO_COMMAND, None) };
        client.write_all(&[VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
        Ok(broker)
    }

    async fn dial(&self, host: &str, port: u16) -> (u8, Option<TcpStream>) {
        let target = format!("{host}:{port}");
        match tokio::time::timeout(DIAL, dial::connect(host, port, &self.reach)).await {
            Ok(Ok(broker)) => {
                let mut refused = lock(&self.refused);
                if refused.as_ref().is_some_and(|refused| refused.is_over(&target, Instant::now())) {
                    *refused = None;
                    self.counts.over(Place::Address);
                }
                drop(broker.set_nodelay(true));
                (GRANTED, Some(broker))
            }
            Ok(Err(error)) if error.forbidden => {
                let says = format!("a broker is said to be at {target}: {}; correct advertised.listeners", error.says);
                self.counts.trouble(Place::Address, Obstacle::Broker, &says);
                *lock(&self.refused) = Some(Refused { target, at: Instant::now() });
                (FORBIDDEN, None)
            }
            Ok(Err(error)) => {
                tracing::debug!(%target, says = error.says, "a broker is not reached");
                (UNREACHABLE, None)
            }
            Err(_) => (UNREACHABLE, None),
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.counts.over(Place::Address);
    }
}

/// As many as the first one says.
async fn bytes(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut found = vec![0; client.read_u8().await?.into()];
    client.read_exact(&mut found).await?;
    Ok(found)
}

/// Where it is to lead: an address, or a name.
async fn target(client: &mut TcpStream) -> std::io::Result<(String, u16)> {
    let host = match client.read_u8().await? {
        1 => Ipv4Addr::from_bits(client.read_u32().await?).to_string(),
        4 => Ipv6Addr::from_bits(client.read_u128().await?).to_string(),
        3 => String::from_utf8(bytes(client).await?).map_err(std::io::Error::other)?,
        _ => return Err(std::io::ErrorKind::InvalidData.into()),
    };
    Ok((host, client.read_u16().await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn opened(loopback: bool) -> (Tunnel, Arc<Counts>) {
        let counts = Arc::new(Counts::new());
        let reach = Arc::new(Reach { mounted: "/nowhere".into(), loopback });
        (Tunnel::open(reach, counts.clone()).await.unwrap(), counts)
    }

    /// What the tunnel says to somebody with this password who wants to go there.
    async fn asked(tunnel: &Tunnel, password: &str, target: &[u8]) -> (TcpStream, Vec<u8>) {
        let mut client = TcpStream::connect(&tunnel.address).await.unwrap();
        client.write_all(&[5, 2, 0, 2]).await.unwrap();
        let mut two = [0; 2];
        client.read_exact(&mut two).await.unwrap();
        assert_eq!(two, [5, 2], "it asks who comes");
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        let shown = [&[1, length(USER)], USER.as_bytes(), &[length(password)], password.as_bytes()].concat();
        client.write_all(&shown).await.unwrap();
        client.read_exact(&mut two).await.unwrap();
        if two != [1, 0] {
            return (client, two.to_vec());
        }
        client.write_all(&[&[5, 1, 0], target].concat()).await.unwrap();
        let mut answer = vec![0; 10];
        client.read_exact(&mut answer).await.unwrap();
        (client, answer[..2].to_vec())
    }

    fn v4(ip: [u8; 4], port: u16) -> Vec<u8> {
        [&[1], ip.as_slice(), &port.to_be_bytes()].concat()
    }

    #[tokio::test]
    async fn bytes_go_to_and_fro_for_who_knows_the_password() {
        let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = broker.local_addr().unwrap().port();
        let (tunnel, _) = opened(true).await;
        assert_eq!(asked(&tunnel, "guessed", &v4([127, 0, 0, 1], port)).await.1, [1, 1]);
        let name = [&[3, 9], b"localhost".as_slice(), &port.to_be_bytes()].concat();
        let (mut client, said) = asked(&tunnel, &tunnel.password, &name).await;
        assert_eq!(said, [5, GRANTED]);
        let (mut there, _) = broker.accept().await.unwrap();
        client.write_all(b"to").await.unwrap();
        there.write_all(b"fro").await.unwrap();
        let (mut to, mut fro) = ([0; 2], [0; 3]);
        there.read_exact(&mut to).await.unwrap();
        client.read_exact(&mut fro).await.unwrap();
        assert_eq!((&to, &fro), (b"to", b"fro"));
        drop(tunnel);
        assert_eq!(client.read(&mut fro).await.unwrap_or(0), 0, "what goes through it ends with it");
    }

    #[tokio::test]
    async fn addresses_of_the_pod_and_the_node_are_not_dialled_whoever_names_them_and_it_is_told() {
        let own = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = own.local_addr().unwrap().port();
        let (tunnel, counts) = opened(false).await;
        let name = [&[3, 9], b"localhost".as_slice(), &port.to_be_bytes()].concat();
        let mapped = "::ffff:169.254.169.254".parse::<Ipv6Addr>().unwrap().octets();
        let mapped = [&[4], mapped.as_slice(), &[0, 80]];
        for target in [v4([127, 0, 0, 1], port), name, v4([169, 254, 169, 254], 80), mapped.concat()] {
            assert_eq!(asked(&tunnel, &tunnel.password, &target).await.1, [5, FORBIDDEN], "{target:?}");
        }
        let problem = counts.stats("1").problem.unwrap();
        assert_eq!(problem.of, Obstacle::Broker);
        assert!(problem.says.starts_with("a broker is said to be at ::ffff:169.254.169.254:80:"), "{}", problem.says);
        assert!(problem.says.contains("addresses of a node or of the pod itself are not asked"), "{}", problem.says);
        assert!(tokio::time::timeout(Duration::from_millis(50), own.accept()).await.is_err(), "nobody came");
    }

    #[test]
    fn an_address_is_told_until_it_is_reached_or_nobody_names_it_any_more() {
        let at = Instant::now();
        let refused = Refused { target: "a:1".to_owned(), at };
        assert!(refused.is_over("a:1", at));
        assert!(!refused.is_over("b:1", at + NAMED / 2), "it is asked for again every few seconds while it is named");
        assert!(refused.is_over("b:1", at + NAMED));
    }

    #[tokio::test]
    async fn who_is_not_there_is_no_fault_of_the_address() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let (tunnel, counts) = opened(true).await;
        assert_eq!(asked(&tunnel, &tunnel.password, &v4([127, 0, 0, 1], gone)).await.1, [5, UNREACHABLE]);
        assert!(counts.stats("1").problem.is_none());
    }
}
