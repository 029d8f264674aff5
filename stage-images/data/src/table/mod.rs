//! Delta tables: a snapshot is read, new rows are appended in one commit that has the position of their source too.
//!
//! ```text
//! <table>/part-<random>.parquet        rows; nobody sees a file before a commit names it
//! <table>/_delta_log/<version>.json    a commit, created once: whoever comes second for a number looks again
//!     txn        { appId: the source, version: this commit's number }
//!     commitInfo { millrace: the position that was reached, as JSON }
//! ```
//! `txn` stays in every checkpoint, and leads to the commit that has the position. Any writer of Delta tables keeps both.
//!
//! It is our own because the protocol's kernel for Rust needs Arrow with time zones and foreign interfaces, which all of the engine is then
//! compiled with, and a second HTTP client. How much larger the image would be was not measured. What a table needs beyond this is refused by name (`protocol.rs`).

mod append;
mod checkpoint;
mod error;
mod files;
mod log;
mod place;
mod protocol;
mod read;
mod schema;
mod snapshot;
mod stats;
mod window;

pub use append::Batch;
pub use error::TableError;
pub(crate) use files::random;
pub use place::Table;
pub use read::Ask;
pub use snapshot::Snapshot;
pub use window::Window;
