//! Endpoints from a file: `{"service": [{"address": "127.0.0.1", "ready": true}]}`. It is read again when it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::Endpoint;
use crate::control::watch_file::WatchedFile;
use crate::state::State;

/// Follows the file for as long as the process lives.
pub async fn follow(path: PathBuf, state: Arc<State>) {
    let mut file = WatchedFile::new(path);
    let mut known = BTreeSet::<String>::new();
    loop {
        let bytes = file.changed().await;
        match serde_json::from_slice::<BTreeMap<String, Vec<Endpoint>>>(&bytes) {
            Ok(services) => {
                for gone in known.iter().filter(|name| !services.contains_key(*name)) {
                    state.set_endpoints(gone, Vec::new());
                }
                known = services.keys().cloned().collect();
                for (service, endpoints) in services {
                    state.set_endpoints(&service, endpoints);
                }
                state.listed();
            }
            Err(error) => tracing::warn!(%error, "the file of endpoints is not right; the old ones stay"),
        }
    }
}
