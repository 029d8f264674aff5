//! Stores of objects (S3, GCS, Azure), which the agent reaches over the network, in bounded memory.
//!
//! Inputs are brought to the pod's disk before the command starts, outputs go up after it has ended well. The stage is complete once its
//! manifest is made, which a conditional write lets happen once.

mod checkpoints;
mod client;
mod collect;
mod download;
mod error;
mod keep;
mod log;
mod log_parts;
mod logs;
mod pieces;
mod restore;
mod send;
mod stage;
mod sweep;
mod upload;
mod worker;

pub use collect::{Together, put_together};
pub use download::{Others, Taken, bring, size, take};
pub use error::RemoteError;
pub use keep::{has, put};
pub use logs::KeptLogs;
pub use pieces::Budget;
pub use send::send;
pub use stage::RemoteStage;
pub use sweep::{RemoteShelf, records};

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_contract::TaskSource;
use millrace_files::digest::Stop;
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

pub use error::Doing;

/// A place in a store, and what it takes to reach it.
struct Remote {
    runtime: Runtime,
    store: Arc<dyn ObjectStore>,
    root: Path,
    uri: String,
    /// What is still asked of the store for work that was given up.
    leaving: Mutex<Vec<JoinHandle<()>>>,
}

/// So long the end of work that was given up is waited for.
const LEAVING: Duration = Duration::from_secs(2);

fn below(root: &Path, path: &str) -> Path {
    path.split('/').filter(|part| !part.is_empty()).fold(root.clone(), Path::join)
}

impl Remote {
    fn open(place: &TaskSource, patience: Duration) -> Result<Self, RemoteError> {
        let store = client::open(&place.store, patience);
        Self::with(place, store)
    }

    fn with(place: &TaskSource, store: Result<Arc<dyn ObjectStore>, String>) -> Result<Self, RemoteError> {
        let uri = place.uri();
        let store = store.map_err(|message| RemoteError::Settings { uri: uri.clone(), message })?;
        let root = Path::parse(&place.key)
            .map_err(|error| RemoteError::Settings { uri: uri.clone(), message: format!("{error}") })?;
        // One thread: what there is to do is to wait.
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| RemoteError::Settings { uri: uri.clone(), message: error.to_string() })?;
        Ok(Self { runtime, store, root, uri, leaving: Mutex::default() })
    }

    /// The key of something below the place. Every part is written so that all stores take it.
    fn key(&self, path: &str) -> Path {
        below(&self.root, path)
    }

    fn uri_of(&self, key: &Path) -> String {
        let root = self.root.as_ref();
        match key.as_ref().strip_prefix(root) {
            Some(below) => format!("{}{below}", self.uri),
            // Elsewhere in the store.
            None => format!("{}{key}", self.uri.strip_suffix(root).unwrap_or(&self.uri)),
        }
    }

    fn failed(&self, doing: Doing, key: &Path) -> impl Fn(object_store::Error) -> RemoteError {
        let uri = self.uri_of(key);
        move |error| error::of(&uri, doing, &error)
    }

    /// Waits for some work, unless it is to be given up meanwhile.
    fn wait<T>(&self, stop: Stop<'_>, work: impl Future<Output = Result<T, RemoteError>>) -> Result<T, RemoteError> {
        let stopped = async {
            while !stop() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let done = self.runtime.block_on(async {
            let (work, stopped) = (std::pin::pin!(work), std::pin::pin!(stopped));
            match futures::future::select(work, stopped).await {
                futures::future::Either::Left((done, _)) => done,
                futures::future::Either::Right(_) => Err(RemoteError::Stopped),
            }
        });
        let leaving = std::mem::take(&mut *self.leaving.lock().unwrap_or_else(PoisonError::into_inner));
        if !leaving.is_empty() {
            let all = async { tokio::time::timeout(LEAVING, futures::future::join_all(leaving)).await };
            // A store that does not answer keeps what it has.
            let _ = self.runtime.block_on(all);
        }
        done
    }

    /// Begins what has to be done although the work around it is given up: the end of the wait for that work waits for it too.
    fn leave(&self, last: impl Future<Output = ()> + Send + 'static) {
        let left = self.runtime.spawn(last);
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).push(left);
    }
}
