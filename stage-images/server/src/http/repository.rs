//! The model repository: what there is, load, unload. Triton's extension of the protocol.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;

use super::answer::{Answer, json, refuse};
use super::route::RepositoryPath;
use crate::repository::{self, RepositoryError};
use crate::serving::Serving;

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    version: &'a str,
    state: &'static str,
    reason: &'static str,
}

/// Answers a question to the repository. A body says nothing that is needed, and is not read.
pub async fn repository(serving: &Arc<Serving>, asked: RepositoryPath<'_>) -> Answer {
    let result = match asked {
        RepositoryPath::Index => index(serving),
        RepositoryPath::Load(name) => {
            let (serving, name) = (Arc::clone(serving), name.into_owned());
            // It goes on if the caller leaves.
            let loading = tokio::task::spawn_blocking(move || repository::load(&serving, &name));
            let thread = |error| RepositoryError::Thread(std::io::Error::other(error));
            loading.await.unwrap_or_else(|error| Err(thread(error))).map(|()| b"{}".to_vec())
        }
        RepositoryPath::Unload(name) => repository::unload(serving, &name).map(|()| b"{}".to_vec()),
    };
    match result {
        Ok(body) => json(StatusCode::OK, body),
        Err(error) => refuse(status(&error), error),
    }
}

fn index(serving: &Serving) -> Result<Vec<u8>, RepositoryError> {
    let entries = repository::list(&serving.config)?;
    let models = serving.models();
    let ready =
        models.iter().map(|model| Listed { name: &model.name, version: &model.version, state: "READY", reason: "" });
    let is_loaded = |name: &str| models.iter().any(|model| model.name == name);
    let others = entries.iter().filter(|entry| !is_loaded(&entry.name)).map(|entry| Listed {
        name: &entry.name,
        version: &entry.version,
        state: "UNAVAILABLE",
        reason: "not loaded",
    });
    let mut listed: Vec<Listed> = ready.chain(others).collect();
    listed.sort_by_key(|entry| entry.name);
    // Strings and nothing else: this has always a text.
    Ok(serde_json::to_vec(&listed).unwrap_or_default())
}

fn status(error: &RepositoryError) -> StatusCode {
    match error {
        RepositoryError::None | RepositoryError::Unknown(_) => StatusCode::NOT_FOUND,
        RepositoryError::Fixed(_) | RepositoryError::Full(_) => StatusCode::CONFLICT,
        RepositoryError::Starting => StatusCode::SERVICE_UNAVAILABLE,
        RepositoryError::Load(_) | RepositoryError::WarmUp { .. } => StatusCode::BAD_REQUEST,
        RepositoryError::Read { .. } | RepositoryError::Thread(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
