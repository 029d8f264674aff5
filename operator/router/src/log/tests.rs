//! What becomes of a ring where the routes change, and what no ring takes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Request;
use millrace_routes::{Log, Routes, Sink};

use super::{Counts, Logs, Recording, Ring};
use crate::dial::Reach;
use crate::state::Policy;

struct Place {
    logs: Logs,
    counts: Arc<Counts>,
}

impl Place {
    fn new() -> Self {
        let reach = Arc::new(Reach { mounted: PathBuf::new(), loopback: true });
        Self { logs: Logs::start(reach).unwrap(), counts: Arc::default() }
    }

    fn next(&self, before: Option<&Arc<Ring>>, asked: Option<&Log>) -> Option<Arc<Ring>> {
        Ring::next(before, asked, "m", &self.counts, &self.logs)
    }

    /// What waits for a sink until that is given up has failed, and was not dropped.
    fn drops(&self, ring: &Ring, events: u64) {
        let began = Instant::now();
        while ring.stats().dropped != events || !self.logs.is_empty() {
            assert!(began.elapsed() < Duration::from_mins(1), "{:?}", ring.stats());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!((ring.stats().delivered, ring.stats().failed), (0, 0));
    }
}

fn log(address: &str) -> Log {
    Log {
        namespace: "team".to_owned(),
        model: "penguins".to_owned(),
        versions: BTreeMap::from([("a".to_owned(), 1)]),
        digests: BTreeMap::new(),
        sampling: 1.0,
        body_bytes: 1000,
        sink: Sink { address: address.to_owned(), ..Sink::default() },
    }
}

/// A request without an answer; it comes into the ring when it is dropped.
fn ask(ring: &Arc<Ring>, headers: &[(&str, &str)]) -> Option<Arc<Recording>> {
    let routes = Routes::parse(br#"{"models": [{"name": "m", "port": 9000, "revisions": []}]}"#).unwrap();
    let policy = Policy::new(&routes.models[0], Vec::new(), None, Some(ring.clone()), None, None);
    let request = headers.iter().fold(Request::post("/"), |request, (name, value)| request.header(*name, *value));
    let recording = Recording::begin(&policy, "a", &request.body(()).unwrap())?;
    recording.request_ended();
    Some(recording)
}

#[test]
fn what_waits_for_a_sink_that_the_routes_do_not_name_any_more_is_dropped_at_once() {
    // It never answers.
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = |path: &str| format!("http://{}/{path}", hangs.local_addr().unwrap());
    let place = Place::new();
    let old = place.next(None, Some(&log(&address("old")))).unwrap();
    for _ in 0..5 {
        drop(ask(&old, &[]).unwrap());
    }
    let first = hangs.accept().unwrap();
    let late = ask(&old, &[]).unwrap();
    assert!(!place.logs.is_empty());
    let new = place.next(Some(&old), Some(&log(&address("new")))).unwrap();
    let began = Instant::now();
    while old.stats().dropped < 5 {
        assert!(began.elapsed() < Duration::from_mins(1), "{:?}", old.stats());
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(late);
    place.drops(&old, 6);
    drop(first);
    for _ in 0..3 {
        drop(ask(&new, &[]).unwrap());
    }
    let second = hangs.accept().unwrap();
    assert!(place.next(Some(&new), None).is_none());
    place.drops(&new, 9);
    drop(second);
}

#[test]
fn another_sink_has_nothing_of_the_one_before_and_the_same_one_all_of_it() {
    let place = Place::new();
    let asked = log("http://old");
    let old = place.next(None, Some(&asked)).unwrap();
    let versions = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
    let rolled = Log { versions, sampling: 0.5, body_bytes: 7, ..asked };
    let same = place.next(Some(&old), Some(&rolled)).unwrap();
    assert_eq!(same.asked, rolled);
    assert!(Arc::ptr_eq(&old.outlet, &same.outlet) && Arc::ptr_eq(&old.bytes, &same.bytes));
    assert!(old.sender.same_channel(&same.sender), "neither another task nor another connection");
    assert!(Arc::ptr_eq(&same, &place.next(Some(&same), Some(&rolled)).unwrap()));
    same.outlet.fails(1, "http://old: gone");
    let new = place.next(Some(&same), Some(&log("http://new"))).unwrap();
    // It is told of in the very moment in which the other comes.
    old.outlet.fails(1, "http://old: gone");
    assert_eq!((new.stats().failed, new.stats().problem), (2, None));
    assert!(!Arc::ptr_eq(&old.bytes, &new.bytes) && !old.sender.same_channel(&new.sender));
}

#[test]
fn events_of_a_log_are_not_logged() {
    let place = Place::new();
    let ring = place.next(None, Some(&log("http://127.0.0.1:9"))).unwrap();
    let sent = |agent: &str, kind: &str| ask(&ring, &[("user-agent", agent), ("content-type", kind)]).is_some();
    assert!(!sent("millrace-router", "application/cloudevents+json"));
    assert!(!sent("millrace-router", "application/cloudevents-batch+json"));
    assert!(sent("curl/8", "application/cloudevents+json"));
    assert!(sent("millrace-router", "application/json"));
    assert!(ask(&ring, &[]).is_some());
}

#[test]
fn why_nothing_is_taken_is_read_of_millraces_own_sink_alone() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", server.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut vec![0; 65536]);
            let said = "the bucket lake does not exist\n";
            let head = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length";
            let _ = write!(stream, "{head}: {}\r\n\r\n{said}", said.len());
        }
    });
    for (tells, why) in [(true, "the bucket lake does not exist"), (false, "the sink answers 503")] {
        let place = Place::new();
        let asked = log(&address);
        let asked = Log { sink: Sink { tells, ..asked.sink.clone() }, ..asked };
        let ring = place.next(None, Some(&asked)).unwrap();
        drop(ask(&ring, &[]).unwrap());
        let began = Instant::now();
        while ring.stats().failed < 1 {
            assert!(began.elapsed() < Duration::from_mins(1), "{:?}", ring.stats());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(ring.stats().problem, Some(format!("{address}: {why}")));
    }
}
