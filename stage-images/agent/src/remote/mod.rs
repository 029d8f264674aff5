//! Stores of objects (S3, GCS, Azure), which the agent reaches over the network, in bounded memory.
//!
//! Inputs are brought to the pod's disk before the command starts, outputs go up after it has ended well. The stage is complete once its
//! manifest is made, which a conditional write lets happen once.

mod client;
mod collect;
mod download;
mod error;
mod keep;
mod pieces;
mod stage;
mod sweep;
mod upload;

pub use collect::{Together, put_together};
pub use download::{Others, Taken, bring, take};
pub use error::RemoteError;
pub use keep::{has, put};
pub use pieces::Budget;
pub use stage::RemoteStage;
pub use sweep::{RemoteShelf, records};

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use millrace_contract::TaskSource;
use millrace_files::digest::Stop;
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::runtime::{Builder, Runtime};

pub use error::Doing;

/// A place in a store, and what it takes to reach it.
struct Remote {
    runtime: Runtime,
    store: Arc<dyn ObjectStore>,
    root: Path,
    uri: String,
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
        Ok(Self { runtime, store, root, uri })
    }

    /// The key of something below the place. Every part is written so that all stores take it.
    fn key(&self, below: &str) -> Path {
        below.split('/').filter(|part| !part.is_empty()).fold(self.root.clone(), Path::join)
    }

    fn uri_of(&self, key: &Path) -> String {
        let below = key.as_ref().strip_prefix(self.root.as_ref()).unwrap_or_default();
        format!("{}{below}", self.uri)
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
        self.runtime.block_on(async {
            let (work, stopped) = (std::pin::pin!(work), std::pin::pin!(stopped));
            match futures::future::select(work, stopped).await {
                futures::future::Either::Left((done, _)) => done,
                futures::future::Either::Right(_) => Err(RemoteError::Stopped),
            }
        })
    }
}
