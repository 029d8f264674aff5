//! `POST …/infer`, `POST …:predict` and `POST …/explain`: body, check, queue, answer.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use thiserror::Error;

use super::answer::{Answer, inferred, last, refuse};
use super::body::{self, BodyError, Buffered};
use super::route::ModelPath;
use crate::budget::BudgetError;
use crate::explain::{self, ExplainError};
use crate::inference::{InferError, convert, run, slices, text_size};
use crate::protocol::{self, RequestError, Written};
use crate::serving::{LookupError, Model, Serving};

/// How the request and its answer are written.
#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    /// The Open Inference Protocol v2.
    Infer,
    /// v1.
    Predict,
    /// The same request as v2, to explain its answer.
    Explain,
}

#[derive(Debug, Error)]
enum RestError {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Infer(#[from] InferError),
    #[error(transparent)]
    Explain(#[from] ExplainError),
}

impl From<RequestError> for RestError {
    fn from(error: RequestError) -> Self {
        Self::Infer(error.into())
    }
}

impl From<BudgetError> for RestError {
    fn from(error: BudgetError) -> Self {
        Self::Infer(error.into())
    }
}

impl RestError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Body(error) => error.status(),
            Self::Infer(error) => status(error.status()),
            Self::Explain(error) => status(error.status()),
        }
    }

    /// Part of the body is still on its way: the connection can take no other request.
    fn ends_connection(&self) -> bool {
        matches!(self, Self::Infer(InferError::Lookup(_)) | Self::Body(_))
    }
}

fn status(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Answers a request to infer, whatever comes.
pub async fn infer(serving: &Serving, path: ModelPath<'_>, protocol: Protocol, request: Request<Incoming>) -> Answer {
    let mut counted = serving.metrics.request();
    let answer = match try_infer(serving, path, protocol, request).await {
        Ok(written) => inferred(written),
        Err(error) => {
            let answer = refuse(error.status(), &error);
            if error.ends_connection() { last(answer) } else { answer }
        }
    };
    counted.answered(answer.status().as_u16());
    answer
}

async fn try_infer(
    serving: &Serving,
    path: ModelPath<'_>,
    protocol: Protocol,
    request: Request<Incoming>,
) -> Result<Written, RestError> {
    let config = &serving.config;
    let find = |error: LookupError| InferError::from(error);
    let model = serving.model(&path.name, path.version.as_deref()).map_err(find)?;
    let json = body::json_length(request.headers())?;
    let body = request.into_body();
    let buffered = body::read(body, config.max_body, config.body_timeout, &serving.buffer).await?;
    match protocol {
        Protocol::Infer => infer_v2(serving, &model, buffered, json).await,
        Protocol::Predict => predict_v1(serving, &model, buffered).await,
        Protocol::Explain => explain_v2(serving, &model, buffered, json).await,
    }
}

/// `json` is how many bytes of the body are JSON, where raw bytes follow.
async fn infer_v2(
    serving: &Serving,
    model: &Model,
    buffered: Buffered<'_>,
    json: Option<usize>,
) -> Result<Written, RestError> {
    let Buffered { bytes, mut share } = buffered;
    let parsed = convert(bytes.len(), || protocol::parse(&bytes, json, &model.signature))?;
    drop(bytes);
    share.hold(&parsed.inputs)?;
    let answer = run(serving, model, parsed.inputs, parsed.rows).await?;
    let outputs = slices(model, &parsed.outputs, &answer);
    let write = || protocol::write_answer(&model.name, &model.version, parsed.id.as_deref(), &outputs, &parsed.binary);
    Ok(convert(text_size(&outputs), write))
}

async fn predict_v1(serving: &Serving, model: &Model, buffered: Buffered<'_>) -> Result<Written, RestError> {
    let Buffered { bytes, mut share } = buffered;
    let parsed = convert(bytes.len(), || protocol::parse_predict(&bytes, &model.signature))?;
    drop(bytes);
    share.hold(&parsed.inputs)?;
    let answer = run(serving, model, parsed.inputs, parsed.rows).await?;
    let all: Vec<usize> = (0..model.signature.outputs.len()).collect();
    let outputs = slices(model, &all, &answer);
    let body = convert(text_size(&outputs), || protocol::write_predictions(parsed.form, &outputs))?;
    Ok(Written { body, json: None })
}

async fn explain_v2(
    serving: &Serving,
    model: &Model,
    buffered: Buffered<'_>,
    json: Option<usize>,
) -> Result<Written, RestError> {
    let Buffered { bytes, mut share } = buffered;
    let mut parsed = convert(bytes.len(), || protocol::parse(&bytes, json, &model.signature))?;
    let asked = protocol::parse_asked(bytes.get(..json.unwrap_or(bytes.len())).unwrap_or_default())?;
    drop(bytes);
    share.hold(&parsed.inputs)?;
    let id = parsed.id.take();
    let explanation = explain::explain(serving, model, parsed, &asked).await?;
    let body = protocol::write_explanation(&model.name, &model.version, id.as_deref(), &explanation);
    Ok(Written { body, json: None })
}
