//! A server that the router asks, over HTTP or HTTPS: it gives the answers that a test wants.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Of `localhost`, and of another name.
pub const RIGHT: [&str; 2] = [include_str!("../certs/localhost.crt"), include_str!("../certs/localhost.key")];
pub const OTHER: [&str; 2] = [include_str!("../certs/a.crt"), include_str!("../certs/a.key")];

/// Gives its answers one after the other, the last one again and again, and keeps what it was asked.
pub struct Server {
    pub address: SocketAddr,
    answers: Arc<Mutex<VecDeque<String>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn start(answers: &[String], tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let answers = Arc::new(Mutex::new(answers.iter().cloned().collect::<VecDeque<String>>()));
        let (given, seen) = (answers.clone(), asked.clone());
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let answer = next(&given);
                match &tls {
                    None => serve(stream, &answer, &seen),
                    Some(config) => {
                        let connection = ServerConnection::new(config.clone()).unwrap();
                        serve(StreamOwned::new(connection, stream), &answer, &seen);
                    }
                }
            }
        });
        Self { address, answers, asked }
    }

    /// Answers this from now on.
    pub fn set(&self, answer: String) {
        *self.answers.lock().unwrap() = [answer].into();
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn next(answers: &Mutex<VecDeque<String>>) -> String {
    let mut answers = answers.lock().unwrap();
    if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
}

fn serve(mut stream: impl Read + Write, answer: &str, asked: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => head.extend_from_slice(&buffer[..n]),
        }
    }
    asked.lock().unwrap().push(String::from_utf8(head).unwrap());
    // A caller that has seen enough breaks off.
    let _broken = stream.write_all(answer.as_bytes()).and_then(|()| stream.flush());
}

pub fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

pub fn tls([certificate, key]: [&str; 2]) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
}
