//! Asks the routers of namespaces that serve models what they have in force and in flight, and wakes those ModelDeployments for which
//! something has changed that their plans look at.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use millrace_core::deployment::is_settled;
use millrace_core::routing::{ADMIN_PORT, Report};
use millrace_routes::Stats;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior};

use crate::key::Id;
use crate::store::Stores;
use crate::wake::Queues;

/// How often routers are asked while something moves in their namespace.
const BUSY: Duration = Duration::from_secs(1);
/// How often they are asked else.
const QUIET: Duration = Duration::from_secs(5);
/// One that has no answer in this time has none.
const ANSWER: Duration = Duration::from_secs(1);
/// Routers that are asked at once.
const AT_ONCE: usize = 16;
/// A longer answer is none: a pod of a tenant must not take the controller's memory.
const ANSWER_BYTES: usize = 4 << 20;
/// What a router said counts until it gave no answer so many times in a row.
const MISSES: u32 = 3;

type Failed = Box<dyn Error + Send + Sync>;

/// Asks routers for as long as the process lives.
pub struct Asker {
    stores: Arc<Stores>,
    queues: Arc<Queues>,
    due: HashMap<String, Instant>,
    misses: HashMap<String, u32>,
}

/// A router to be asked.
struct Target {
    namespace: String,
    uid: String,
    pod: String,
    address: SocketAddr,
    /// Something moves in its namespace.
    busy: bool,
}

impl Asker {
    pub fn new(stores: Arc<Stores>, queues: Arc<Queues>) -> Self {
        Self { stores, queues, due: HashMap::new(), misses: HashMap::new() }
    }

    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(BUSY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.round().await;
        }
    }

    /// Asks those whose time has come.
    pub async fn round(&mut self) {
        let targets = self.targets();
        let asked = stream::iter(targets).map(|target| async move {
            let stats = tokio::time::timeout(ANSWER, stats(target.address)).await;
            let stats = stats.map_err(Failed::from).and_then(|stats| stats);
            let report = stats.and_then(|stats| report_of(&target.pod, &stats));
            (target, report)
        });
        let answers: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
        for (target, answer) in answers {
            self.take(&target, answer);
        }
    }

    fn targets(&mut self) -> Vec<Target> {
        let mut namespaces: BTreeMap<String, bool> = BTreeMap::new();
        self.stores.deployments.each(None, |id, deployment| {
            *namespaces.entry(id.namespace.clone()).or_default() |= !is_settled(deployment);
        });
        let now = Instant::now();
        self.due.retain(|namespace, _| namespaces.contains_key(namespace));
        let (mut targets, mut present) = (Vec::new(), HashSet::new());
        for (namespace, busy) in namespaces {
            let routers = self.stores.routers.group(&namespace);
            present.extend(routers.values().map(|router| router.pod.uid.clone()));
            if !busy && self.due.get(&namespace).is_some_and(|due| *due > now) {
                continue;
            }
            self.due.insert(namespace.clone(), now + QUIET);
            for router in routers.into_values().filter(|router| router.is_running()) {
                let Some(ip) = router.address.as_ref().and_then(|ip| ip.parse::<IpAddr>().ok()) else { continue };
                targets.push(Target {
                    namespace: namespace.clone(),
                    uid: router.pod.uid.clone(),
                    pod: router.pod.name.clone(),
                    address: SocketAddr::new(ip, ADMIN_PORT),
                    busy,
                });
            }
        }
        self.stores.reports.keep(&present);
        self.misses.retain(|uid, _| present.contains(uid));
        targets
    }

    fn take(&mut self, target: &Target, answer: Result<Report, Failed>) {
        let report = match answer {
            Ok(report) => {
                self.misses.remove(&target.uid);
                Some(Arc::new(report))
            }
            Err(error) => {
                let misses = self.misses.entry(target.uid.clone()).or_default();
                *misses = misses.saturating_add(1);
                if *misses != MISSES {
                    return;
                }
                // Once: it is asked again all the time.
                tracing::warn!(namespace = target.namespace, router = target.pod, %error, "a router does not answer");
                None
            }
        };
        let before = self.stores.reports.replace(&target.uid, report.clone());
        if is_news(before.as_deref(), report.as_deref(), target.busy) {
            let queue = self.queues.of(crate::key::Kind::Deployment);
            self.stores.deployments.each(Some(&target.namespace), |id: &Id, _| queue.push(id.clone()));
        }
    }
}

/// Whether some plan may come out otherwise. What is in flight matters while something moves.
fn is_news(before: Option<&Report>, now: Option<&Report>, busy: bool) -> bool {
    match (before, now) {
        (Some(before), Some(now)) if !busy => before.without_flight() != now.without_flight(),
        (before, now) => before != now,
    }
}

fn report_of(pod: &str, stats: &Stats) -> Result<Report, Failed> {
    if stats.pod != pod {
        return Err(format!("the pod \"{}\" answers at the address", stats.pod).into());
    }
    Ok(Report::from(stats))
}

async fn stats(address: SocketAddr) -> Result<Stats, Failed> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/stats").header(HOST, address.to_string()).header(CONNECTION, "close");
    let request = request.body(Empty::<Bytes>::new())?;
    let answer = async move {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(Failed::from(format!("the answer is {}", response.status())));
        }
        Ok(Limited::new(response.into_body(), ANSWER_BYTES).collect().await?.to_bytes())
    };
    let (_closed, body) = futures::join!(connection, answer);
    Ok(serde_json::from_slice(&body?)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use millrace_core::routing::{ModelReport, RevisionReport};

    use super::*;

    fn report(generation: u64, has_pods: bool, is_busy: bool) -> Report {
        let revisions = BTreeMap::from([("a".to_owned(), RevisionReport { has_pods, is_busy })]);
        Report { models: BTreeMap::from([("m".to_owned(), ModelReport { generation, revisions })]) }
    }

    #[test]
    fn what_is_in_flight_is_news_only_while_something_moves() {
        let (idle, busy) = (report(1, true, false), report(1, true, true));
        assert!(!is_news(Some(&busy), Some(&idle), false));
        assert!(is_news(Some(&busy), Some(&idle), true));
        assert!(!is_news(Some(&idle), Some(&idle), true));
        for other in [report(2, true, false), report(1, false, false)] {
            assert!(is_news(Some(&idle), Some(&other), false));
        }
        assert!(is_news(None, Some(&idle), false));
        assert!(is_news(Some(&idle), None, false));
        assert!(!is_news(None, None, false));
    }

    #[test]
    fn an_address_that_came_to_another_pod_says_nothing() {
        let stats = Stats { pod: "router-b".to_owned(), boot: 1, at_us: 1, models: BTreeMap::new() };
        assert!(report_of("router-a", &stats).is_err());
        assert_eq!(report_of("router-b", &stats).unwrap(), Report::default());
    }

    /// Answers one request with these bytes.
    fn server(answer: Vec<u8>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).unwrap();
            assert!(buffer[..read].starts_with(b"GET /stats HTTP/1.1\r\n"));
            // A caller that has seen enough breaks off.
            let _broken = stream.write_all(&answer);
        });
        address
    }

    fn http(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[tokio::test]
    async fn an_answer_is_read_and_one_that_is_none_is_refused() {
        let right = server(http("200 OK", r#"{"pod": "p", "boot": 1, "atUs": 2, "models": {}}"#));
        assert_eq!(stats(right).await.unwrap().pod, "p");
        for wrong in [http("503 Service Unavailable", "{}"), http("200 OK", "<html>"), b"nonsense\r\n\r\n".to_vec()] {
            let address = server(wrong);
            assert!(stats(address).await.is_err());
        }
        let long = server(http("200 OK", &" ".repeat(ANSWER_BYTES + 1)));
        let error = stats(long).await.unwrap_err().to_string();
        assert!(error.contains("length limit"), "{error}");
    }
}
