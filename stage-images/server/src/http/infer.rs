//! `POST …/infer`: body, check, queue, answer.

use std::time::Instant;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use thiserror::Error;
use tokio::sync::oneshot;

use super::answer::{Answer, json, last, refuse};
use super::body::{self, BodyError};
use super::route::ModelPath;
use crate::batch::{self, Job, JobError};
use crate::budget::BudgetError;
use crate::model::Fault;
use crate::protocol::{self, InferRequest, RequestError, Slice};
use crate::serving::{LookupError, Model, Serving};
use crate::tensor::Tensor;

/// Parsing a body larger than this would keep a thread from its other sockets for more than about a millisecond.
const LARGE_BODY: usize = 256 << 10;

#[derive(Debug, Error)]
enum InferError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Budget(#[from] BudgetError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Job(#[from] JobError),
    #[error("{0} requests wait for this model already: try again")]
    QueueFull(usize),
    #[error("no answer within {0} s: the model is too slow for its load")]
    TooLate(f64),
}

impl InferError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Lookup(LookupError::Loading { .. }) | Self::QueueFull(_) | Self::Budget(BudgetError::InUse) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Lookup(_) => StatusCode::NOT_FOUND,
            Self::Body(error) => error.status(),
            Self::Budget(BudgetError::Never { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Request(_) => StatusCode::BAD_REQUEST,
            Self::Job(JobError::Engine(error)) if error.fault == Fault::Input => StatusCode::BAD_REQUEST,
            Self::Job(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::TooLate(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Part of the body is still on its way: the connection can take no other request.
    fn ends_connection(&self) -> bool {
        matches!(self, Self::Lookup(_) | Self::Body(_))
    }
}

/// Answers a request to infer, whatever comes.
pub async fn infer(serving: &Serving, path: ModelPath<'_>, request: Request<Incoming>) -> Answer {
    let mut counted = serving.metrics.request();
    let answer = match try_infer(serving, path, request).await {
        Ok(body) => json(StatusCode::OK, body),
        Err(error) => {
            let answer = refuse(error.status(), &error);
            if error.ends_connection() { last(answer) } else { answer }
        }
    };
    counted.answered(answer.status().as_u16());
    answer
}

async fn try_infer(serving: &Serving, path: ModelPath<'_>, request: Request<Incoming>) -> Result<Vec<u8>, InferError> {
    let config = &serving.config;
    let model = serving.model(&path.name, path.version.as_deref())?;
    let buffered = body::read(request, config.max_body, config.body_timeout, &serving.buffer).await?;
    let body::Buffered { bytes, mut share } = buffered;
    let parsed = parse(&bytes, model)?;
    drop(bytes);
    // Short values grow when they are parsed: an empty text from three bytes to twenty-four.
    share.grow(parsed.inputs.iter().map(|tensor| tensor.data.memory()).sum())?;
    let answer = run(serving, model, parsed.inputs, parsed.rows).await?;
    Ok(write(model, parsed.id.as_deref(), &parsed.outputs, &answer))
}

fn parse(body: &[u8], model: &Model) -> Result<InferRequest, RequestError> {
    let parse = || protocol::parse(body, &model.signature);
    if body.len() > LARGE_BODY { tokio::task::block_in_place(parse) } else { parse() }
}

/// Waits in the queue and for the model. If the caller leaves, this future is dropped and with it the job's reply.
async fn run(serving: &Serving, model: &Model, inputs: Vec<Tensor>, rows: usize) -> Result<batch::Answer, InferError> {
    let (reply, answer) = oneshot::channel();
    let job = Job { inputs, rows, since: Instant::now(), reply };
    model.queue.push(job).map_err(|_| InferError::QueueFull(serving.config.max_queue))?;
    let limit = serving.config.request_timeout;
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(result)) => Ok(result?),
        Ok(Err(_)) => Err(JobError::Lost.into()),
        Err(_) => Err(InferError::TooLate(limit.as_secs_f64())),
    }
}

fn write(model: &Model, id: Option<&str>, asked: &[usize], answer: &batch::Answer) -> Vec<u8> {
    let slice = |index: &usize| {
        let (spec, tensor) = (model.signature.outputs.get(*index)?, answer.outputs.get(*index)?);
        Some(Slice { spec, tensor, rows: answer.rows.clone() })
    };
    let slices: Vec<Slice> = asked.iter().filter_map(slice).collect();
    let write = || protocol::write_answer(&model.name, &model.version, id, &slices);
    let values: usize = slices.iter().map(|slice| slice.tensor.data.len()).sum();
    if values * 8 > LARGE_BODY { tokio::task::block_in_place(write) } else { write() }
}
