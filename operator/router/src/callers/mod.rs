//! Connections of callers: how many there may be, what each is doing, and how long it may take for that.

mod activity;
mod limits;
mod register;
mod socket;
mod stream;
mod timer;

use activity::Activity;
pub use activity::Stage;
pub use limits::{CONNECTION_WINDOW, HEAD_BYTES, HEADERS, Limits, STREAM_WINDOW, STREAMS};
pub use register::{Connection, InHand, Register};
pub use socket::Socket;
pub use stream::TimedStream;
pub use timer::{Timer, Wait};
