//! One inference, whatever protocol asked for it: queue, model, answer, and what can go wrong on the way.

use std::time::Instant;

use thiserror::Error;
use tokio::sync::oneshot;

use crate::batch::{self, Job, JobError};
use crate::budget::BudgetError;
use crate::model::Fault;
use crate::protocol::{RequestError, Slice};
use crate::serving::{LookupError, Model, Serving};
use crate::tensor::Tensor;

/// Work on more bytes than this would keep a thread from its other sockets for more than about a millisecond.
const LARGE: usize = 256 << 10;

/// Why a request has no answer.
#[derive(Debug, Error)]
pub enum InferError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Budget(#[from] BudgetError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Job(#[from] JobError),
    #[error("{0} requests wait for this model already: try again")]
    QueueFull(usize),
    #[error(
        "no answer within {0} s: the model is too slow for its load, or needs a longer --request-timeout, server.timeout of a ModelDeployment"
    )]
    TooLate(f64),
}

impl InferError {
    /// The status in HTTP's words.
    pub fn status(&self) -> u16 {
        match self {
            Self::Lookup(LookupError::Loading { .. }) | Self::QueueFull(_) | Self::Budget(BudgetError::InUse) => 503,
            Self::Lookup(_) => 404,
            Self::Budget(BudgetError::Never { .. }) => 413,
            Self::Request(_) => 400,
            Self::Job(JobError::Engine(error)) if error.fault == Fault::Input => 400,
            Self::Job(_) => 500,
            Self::TooLate(_) => 504,
        }
    }
}

/// Waits in the queue and for the model. If the caller leaves, this future is dropped and with it the job's reply.
pub async fn run(
    serving: &Serving,
    model: &Model,
    inputs: Vec<Tensor>,
    rows: usize,
) -> Result<batch::Answer, InferError> {
    wait(serving, model, inputs, rows, true).await
}

/// The same for rows that no caller wants an answer to: they are not counted as rows that the model was asked for.
pub async fn run_uncounted(
    serving: &Serving,
    model: &Model,
    inputs: Vec<Tensor>,
    rows: usize,
) -> Result<batch::Answer, InferError> {
    wait(serving, model, inputs, rows, false).await
}

async fn wait(
    serving: &Serving,
    model: &Model,
    inputs: Vec<Tensor>,
    rows: usize,
    counts: bool,
) -> Result<batch::Answer, InferError> {
    let (reply, answer) = oneshot::channel();
    let job = Job { inputs, rows, counts, since: Instant::now(), reply };
    model.queue.push(job).map_err(|_| InferError::QueueFull(serving.config.max_queue))?;
    let limit = serving.config.request_timeout;
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(result)) => Ok(result?),
        Ok(Err(_)) => Err(JobError::Lost.into()),
        Err(_) => Err(InferError::TooLate(limit.as_secs_f64())),
    }
}

/// The request's part of the outputs that were asked for, in that order.
pub fn slices<'a>(model: &'a Model, asked: &[usize], answer: &'a batch::Answer) -> Vec<Slice<'a>> {
    let slice = |index: &usize| {
        let (spec, tensor) = (model.signature.outputs.get(*index)?, answer.outputs.get(*index)?);
        Some(Slice { spec, tensor, rows: answer.rows.clone() })
    };
    asked.iter().filter_map(slice).collect()
}

/// Turns so many bytes into tensors or back. Other tasks of the thread move elsewhere if it takes long.
pub fn convert<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > LARGE { tokio::task::block_in_place(work) } else { work() }
}

/// About how many bytes the values are as text.
pub fn text_size(slices: &[Slice]) -> usize {
    slices.iter().map(|slice| slice.tensor.data.len() * 8).sum()
}
