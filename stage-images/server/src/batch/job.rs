//! One request on its way through the queue.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;
use tokio::sync::oneshot;

use crate::model::EngineError;
use crate::tensor::Tensor;

/// A checked request that waits to be run. If the caller has gone, `reply` is closed and the job is dropped unrun.
#[derive(Debug)]
pub struct Job {
    pub inputs: Vec<Tensor>,
    pub rows: usize,
    /// They are a caller's, and not made up to explain some.
    pub counts: bool,
    pub since: Instant,
    pub reply: oneshot::Sender<Result<Answer, JobError>>,
}

/// A request's part of what its batch gave. The batch is shared, not copied.
#[derive(Clone, Debug)]
pub struct Answer {
    /// All outputs of the model, of the whole batch.
    pub outputs: Arc<Vec<Tensor>>,
    /// The request's rows; absent if it ran alone.
    pub rows: Option<Range<usize>>,
}

/// Why a job has no answer.
#[derive(Clone, Debug, Error)]
pub enum JobError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the inference ended without an answer; this is a fault of the server, see its log")]
    Lost,
}
