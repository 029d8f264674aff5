//! A way to a server that counts the bytes that come back, and lets through as many as it is told.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

pub struct Pipe {
    pub port: u16,
    came: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

impl Pipe {
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (came, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(u64::MAX)));
        let (counts, limit) = (Arc::clone(&came), Arc::clone(&most));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pass(from, to, &AtomicU64::new(0), &AtomicU64::new(u64::MAX)));
                let (counts, limit) = (Arc::clone(&counts), Arc::clone(&limit));
                thread::spawn(move || pass(server, client, &counts, &limit));
            }
        });
        Self { port, came, most }
    }

    /// Bytes that came from the server.
    pub fn came(&self) -> u64 {
        self.came.load(Ordering::SeqCst)
    }

    /// From now on so many more come, and then nothing until it is told again.
    pub fn let_through(&self, bytes: u64) {
        self.most.store(self.came().saturating_add(bytes), Ordering::SeqCst);
    }

    pub fn open(&self) {
        self.most.store(u64::MAX, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, came: &AtomicU64, most: &AtomicU64) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(length) = from.read(&mut bytes) {
        if length == 0 || to.write_all(&bytes[..length]).is_err() {
            break;
        }
        came.fetch_add(length as u64, Ordering::SeqCst);
        while came.load(Ordering::SeqCst) > most.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
