//! One request, from its head to its answer.

use std::sync::Arc;

use hyper::body::{Body as _, Incoming};
use hyper::header::HeaderValue;
use hyper::{Request, StatusCode};

use super::answer::{Answer, body_of, json, refuse, wrong_method};
use super::infer::{Protocol, infer};
use super::repository::repository;
use super::route::{ModelPath, Route, route};
use crate::protocol::{model_metadata, model_names, model_status, openapi, server_metadata};
use crate::serving::{LookupError, Model, Serving};

/// Answers a request. It never fails: whatever is wrong is an answer too. The second value says that the request was read to
/// its end.
pub async fn answer(serving: &Arc<Serving>, request: Request<Incoming>) -> (Answer, bool) {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let empty = request.body().is_end_stream();
    match route(&method, &path) {
        Route::Infer(model) => (infer(serving, model, Protocol::Infer, request).await, true),
        Route::Predict(model) => (infer(serving, model, Protocol::Predict, request).await, true),
        Route::Explain(model) => (infer(serving, model, Protocol::Explain, request).await, true),
        Route::Repository(asked) => (repository(serving, asked).await, empty),
        other => (describe(serving, other), empty),
    }
}

fn describe(serving: &Serving, route: Route) -> Answer {
    match route {
        Route::Server => written(server_metadata()),
        Route::Live => json(StatusCode::OK, br#"{"live":true}"#.to_vec()),
        Route::Ready if serving.ready() => json(StatusCode::OK, br#"{"ready":true}"#.to_vec()),
        Route::Ready => json(StatusCode::SERVICE_UNAVAILABLE, br#"{"ready":false}"#.to_vec()),
        Route::Metrics => metrics(serving),
        Route::Model(path) => match find(serving, &path) {
            Ok(model) => written(model_metadata(&model.name, &model.version, &model.signature, model.provider)),
            Err(answer) => *answer,
        },
        Route::ModelReady(path) => match find(serving, &path) {
            Ok(model) => written(serde_json::to_vec(&ModelReady { name: &model.name, ready: true })),
            Err(answer) => *answer,
        },
        Route::ModelStatus(path) => match find(serving, &path) {
            Ok(model) => written(model_status(&model.name, &model.version)),
            Err(answer) => *answer,
        },
        Route::OpenApi(path) => match find(serving, &path) {
            Ok(model) => written(serde_json::to_vec(&openapi(&model.name, &model.version, &model.signature))),
            Err(answer) => *answer,
        },
        Route::Models => written(model_names(serving.models().iter().map(|model| model.name.as_str()).collect())),
        Route::WrongMethod(allowed) => wrong_method(allowed),
        Route::Infer(_) | Route::Predict(_) | Route::Explain(_) | Route::Repository(_) | Route::Unknown => {
            refuse(StatusCode::NOT_FOUND, "unknown path: POST /v2/models/<name>/infer asks a model")
        }
    }
}

#[derive(serde::Serialize)]
struct ModelReady<'a> {
    name: &'a str,
    ready: bool,
}

fn find(serving: &Serving, path: &ModelPath) -> Result<Arc<Model>, Box<Answer>> {
    serving.model(&path.name, path.version.as_deref()).map_err(|error| {
        let status = match error {
            LookupError::Loading { .. } => StatusCode::SERVICE_UNAVAILABLE,
            LookupError::Name { .. } | LookupError::Version { .. } => StatusCode::NOT_FOUND,
        };
        Box::new(refuse(status, error))
    })
}

fn written(body: Result<Vec<u8>, serde_json::Error>) -> Answer {
    match body {
        Ok(body) => json(StatusCode::OK, body),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

fn metrics(serving: &Serving) -> Answer {
    let queue = serving.models().iter().map(|model| model.queue.len()).sum();
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    match serving.metrics.text(queue, serving.buffer.held()) {
        Ok(text) => body_of(StatusCode::OK, kind, text),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}
