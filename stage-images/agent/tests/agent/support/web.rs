//! A web server in this process that does what its paths say: it gives parts, breaks off, leads elsewhere.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was asked for: the first line and the headers, in small letters.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub headers: Vec<String>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The first byte that is asked for.
    pub fn first(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        range.map_or(0, |first| first.parse().unwrap())
    }
}

type Answer = dyn Fn(&Asked, usize, &mut TcpStream) + Send + Sync;

/// It lives as long as the test process.
pub struct Web {
    pub address: String,
    pub asked: Arc<Mutex<Vec<Asked>>>,
}

impl Web {
    /// `answer` gets what is asked for, how many times something was asked for before, and the connection, which is closed afterwards.
    pub fn serve(answer: impl Fn(&Asked, usize, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer): (_, Arc<Answer>) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                let number = {
                    let mut all = seen.lock().unwrap();
                    all.push(request.clone());
                    all.len() - 1
                };
                answer(&request, number, &mut stream);
            }
        });
        Self { address, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let headers =
        lines.map_while(Result::ok).take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
    Some(Asked { path, headers })
}

/// An answer with a head and a body, of which `length` says how long it is to be.
pub fn say(stream: &mut TcpStream, status: &str, headers: &[&str], length: usize, body: &[u8]) {
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}
