//! The thread that runs the model. It owns the session; nothing else touches it.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use super::{Answer, Job, JobError, Queue, Rules};
use crate::metrics::Metrics;
use crate::model::{Engine, EngineError, View};
use crate::tensor::Tensor;

/// Starts the thread. It ends when the queue is closed and empty.
pub fn start(
    engine: Engine,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
    rules: Rules,
) -> std::io::Result<JoinHandle<()>> {
    let mut runner = Runner { engine, metrics };
    std::thread::Builder::new().name("inference".to_owned()).spawn(move || {
        while let Some(jobs) = queue.take(rules) {
            // A panic must not leave the server alive without its only inference thread. The callers of the jobs that
            // were lost see their reply closed.
            if catch_unwind(AssertUnwindSafe(|| runner.run(jobs))).is_err() {
                tracing::error!("inference panicked; its requests were answered with 500");
            }
        }
    })
}

struct Runner {
    engine: Engine,
    metrics: Arc<Metrics>,
}

/// Several requests as one.
struct Stack {
    inputs: Vec<Tensor>,
    rows: Vec<Range<usize>>,
}

impl Runner {
    fn run(&mut self, mut jobs: Vec<Job>) {
        self.metrics.batch(jobs.len(), jobs.iter().map(|job| job.rows).sum());
        for job in &jobs {
            self.metrics.waited(job.since.elapsed());
        }
        if jobs.len() == 1 {
            return jobs.into_iter().for_each(|job| self.alone(job));
        }
        let stack = Stack::new(&mut jobs);
        let total = stack.rows.last().map_or(0, |rows| rows.end);
        match self.infer(&stack.inputs, None) {
            Ok(outputs) if splits(&outputs, total) => {
                let outputs = Arc::new(outputs);
                for (job, rows) in jobs.into_iter().zip(stack.rows) {
                    answer(job, Ok(Answer { outputs: Arc::clone(&outputs), rows: Some(rows) }));
                }
            }
            // One bad request fails the whole batch, and a model may give outputs that cannot be split by row: each
            // request then gets what it would have got alone.
            Ok(_) | Err(_) => {
                for (job, rows) in jobs.into_iter().zip(stack.rows) {
                    let result = self.infer(&stack.inputs, Some(&(rows, total)));
                    answer(job, result.map(|outputs| Answer { outputs: Arc::new(outputs), rows: None }));
                }
            }
        }
    }

    fn alone(&mut self, job: Job) {
        let result = self.infer(&job.inputs, None);
        answer(job, result.map(|outputs| Answer { outputs: Arc::new(outputs), rows: None }));
    }

    /// Runs all rows of the inputs, or those in a range of `total`.
    fn infer(&mut self, inputs: &[Tensor], part: Option<&(Range<usize>, usize)>) -> Result<Vec<Tensor>, EngineError> {
        let views: Vec<View> = inputs.iter().map(|tensor| view(tensor, part)).collect();
        let start = std::time::Instant::now();
        let result = self.engine.run(&views);
        self.metrics.inferred(start.elapsed());
        if let Err(error) = &result {
            tracing::debug!(%error, "inference failed");
        }
        result
    }
}

impl Stack {
    /// Moves the inputs out of the jobs, one behind the other.
    fn new(jobs: &mut [Job]) -> Self {
        let mut rows = Vec::with_capacity(jobs.len());
        let mut inputs: Vec<Tensor> = Vec::new();
        let mut total = 0;
        for job in jobs {
            rows.push(total..total + job.rows);
            total += job.rows;
            if inputs.is_empty() {
                inputs = std::mem::take(&mut job.inputs);
                continue;
            }
            for (stacked, tensor) in inputs.iter_mut().zip(&mut job.inputs) {
                // Both were checked against the same signature, so the types are the same.
                if stacked.data.append(&mut tensor.data)
                    && let (Some(size), Some(more)) = (stacked.shape.first_mut(), tensor.shape.first())
                {
                    *size += more;
                }
            }
        }
        Self { inputs, rows }
    }
}

fn view<'a>(tensor: &'a Tensor, part: Option<&(Range<usize>, usize)>) -> View<'a> {
    let all = tensor.data.len();
    let mut shape = tensor.shape.clone();
    let Some((rows, total)) = part else { return View { shape, data: &tensor.data, values: 0..all } };
    let width = all / (*total).max(1);
    if let Some(size) = shape.first_mut() {
        *size = i64::try_from(rows.len()).unwrap_or(*size);
    }
    View { shape, data: &tensor.data, values: rows.start * width..rows.end * width }
}

/// Whether every output has a row for each row that went in.
fn splits(outputs: &[Tensor], rows: usize) -> bool {
    outputs.iter().all(|tensor| tensor.shape.first().is_some_and(|size| usize::try_from(*size) == Ok(rows)))
}

fn answer(job: Job, result: Result<Answer, EngineError>) {
    // The caller may have gone meanwhile.
    drop(job.reply.send(result.map_err(JobError::from)));
}
