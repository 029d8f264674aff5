//! Jobs for the tests of this folder.

use std::time::Instant;

use tokio::sync::oneshot;

use super::{Answer, Job, JobError};
use crate::tensor::{Data, Datatype, Tensor};

/// A job of one input with these sizes behind the first, and what its caller waits for.
pub fn job(rows: usize, width: usize) -> (Job, oneshot::Receiver<Result<Answer, JobError>>) {
    let (reply, caller) = oneshot::channel();
    let shape = vec![i64::try_from(rows).unwrap(), i64::try_from(width).unwrap()];
    let inputs = vec![Tensor { shape, data: Data::blank(Datatype::Fp32, rows * width) }];
    (Job { inputs, rows, counts: true, since: Instant::now(), reply }, caller)
}
