//! The thread that runs the model. It owns the session; nothing else touches it.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use super::{Answer, Job, JobError, Queue, Rules};
use crate::drift::{Served, Watch};
use crate::metrics::Metrics;
use crate::model::{Engine, EngineError, View};
use crate::tensor::Tensor;

/// Starts the thread. It ends when the queue is closed and empty.
pub fn start(
    engine: Engine,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
    watch: Arc<Watch>,
    rules: Rules,
) -> std::io::Result<JoinHandle<()>> {
    let mut runner = Runner { engine, metrics, watch };
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
    watch: Arc<Watch>,
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
        let counts: Vec<bool> = jobs.iter().map(|job| job.counts).collect();
        match self.infer(&stack.inputs, None) {
            Ok(outputs) if splits(&outputs, total) => {
                let outputs = Arc::new(outputs);
                for (job, rows) in jobs.into_iter().zip(stack.rows.iter().cloned()) {
                    answer(job, Ok(Answer { outputs: Arc::clone(&outputs), rows: Some(rows) }));
                }
                // After the answers: nobody waits for it but the next batch.
                for rows in counted(&counts, stack.rows) {
                    let answered = rows.start;
                    self.count(&Served { inputs: &stack.inputs, outputs: &outputs, rows, answered });
                }
            }
            // One bad request fails the whole batch, and a model may give outputs that cannot be split by row: each
            // request then gets what it would have got alone.
            Ok(_) | Err(_) => {
                for (job, rows) in jobs.into_iter().zip(stack.rows) {
                    let part = (rows, total);
                    let result = self.infer(&stack.inputs, Some(&part));
                    self.answer_alone(job, result, &stack.inputs, part.0);
                }
            }
        }
    }

    fn alone(&mut self, mut job: Job) {
        let inputs = std::mem::take(&mut job.inputs);
        let result = self.infer(&inputs, None);
        let rows = 0..job.rows;
        self.answer_alone(job, result, &inputs, rows);
    }

    /// Answers a job with outputs of its own, and counts its rows.
    fn answer_alone(&self, job: Job, result: Result<Vec<Tensor>, EngineError>, inputs: &[Tensor], rows: Range<usize>) {
        let (counts, result) = (job.counts, result.map(Arc::new));
        answer(job, result.clone().map(|outputs| Answer { outputs, rows: None }));
        if let Some(outputs) = result.ok().filter(|_| counts) {
            self.count(&Served { inputs, outputs: &outputs, rows, answered: 0 });
        }
    }

    fn count(&self, served: &Served<'_>) {
        if self.watch.is_on() {
            self.watch.count(served, Instant::now());
        }
    }

    /// Runs all rows of the inputs, or those in a range of `total`.
    fn infer(&mut self, inputs: &[Tensor], part: Option<&(Range<usize>, usize)>) -> Result<Vec<Tensor>, EngineError> {
        let views: Vec<View> = inputs.iter().map(|tensor| view(tensor, part)).collect();
        let start = Instant::now();
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

/// The rows of a batch that count, neighbours as one.
fn counted(counts: &[bool], rows: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let mut all: Vec<Range<usize>> = Vec::with_capacity(1);
    for (rows, _) in rows.into_iter().zip(counts).filter(|(_, counts)| **counts) {
        match all.last_mut().filter(|last| last.end == rows.start) {
            Some(last) => last.end = rows.end,
            None => all.push(rows),
        }
    }
    all
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_count_are_counted_together() {
        let rows = vec![0..2, 2..3, 3..7, 7..8];
        assert_eq!(counted(&[true; 4], rows.clone()), vec![0..8; 1]);
        assert_eq!(counted(&[true, false, true, true], rows.clone()), [0..2, 3..8]);
        assert!(counted(&[false; 4], rows).is_empty());
    }
}
