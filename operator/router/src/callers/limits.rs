//! What a caller may take of the router. The README has the numbers, and what a caller gets beyond them.

use std::time::Duration;

/// Connections at once. Each may hold a head, and the buffers of two sockets while a body passes: this many fit into the container's
/// 256 MiB beside everything else.
const CONNECTIONS: usize = 1000;
/// The head of a request, with the request line. The socket's buffers are as large, because a body is read through the same one.
pub const HEAD_BYTES: usize = 32 << 10;
/// Header lines of a request. Common servers take 100 (the stock model server does), and the router adds up to four: x-forwarded-for,
/// x-forwarded-proto, and for a caller of HTTP/2 host and a body's length.
pub const HEADERS: usize = 96;
/// Requests at once on one HTTP/2 connection.
pub const STREAMS: u32 = 256;
/// Bytes of request bodies that an HTTP/2 caller may send ahead of the pods: of one request, and of a connection.
pub const STREAM_WINDOW: u32 = 64 << 10;
pub const CONNECTION_WINDOW: u32 = 256 << 10;
/// An HTTP/2 connection counts as so many, for what it may send ahead.
pub const HTTP2_WEIGHT: usize = 4;

/// How much and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; a second request at the same time on an HTTP/2 connection counts as one more.
    pub connections: usize,
    /// For a head, from its first byte.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Between two pieces of a request body.
    pub body: Duration,
    /// For the caller to take a byte of its answer.
    pub write: Duration,
    /// For an answer to begin after the caller has shut its sending side: it may be gone, and TCP does not tell.
    pub half_closed: Duration,
    /// A silent HTTP/2 connection is asked so often whether it is still there, and has as long to say so.
    pub ping: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS,
            head: Duration::from_secs(10),
            // Longer than the 60 s after which common load balancers close an idle connection, so that they close first and send
            // nothing into one that we close.
            idle: Duration::from_secs(75),
            body: Duration::from_mins(1),
            write: Duration::from_mins(1),
            half_closed: Duration::from_secs(10),
            ping: Duration::from_secs(20),
        }
    }
}
