//! One request's part of an output.

use std::ops::Range;

use crate::tensor::{Tensor, TensorSpec};

/// The rows of one request in the outputs of a batch. `rows` is absent where the answer is the whole tensor.
pub struct Slice<'a> {
    pub spec: &'a TensorSpec,
    pub tensor: &'a Tensor,
    pub rows: Option<Range<usize>>,
}

impl Slice<'_> {
    /// The shape of the rows.
    pub fn shape(&self) -> impl Iterator<Item = i64> + '_ {
        let rows = self.rows.as_ref().and_then(|rows| i64::try_from(rows.len()).ok());
        let sizes = self.tensor.shape.iter().enumerate();
        sizes.map(move |(axis, size)| rows.filter(|_| axis == 0).unwrap_or(*size))
    }

    /// Which values of the tensor are in the rows.
    pub fn values(&self) -> Range<usize> {
        let Some(rows) = &self.rows else { return 0..self.tensor.data.len() };
        let all = self.tensor.shape.first().and_then(|size| usize::try_from(*size).ok()).unwrap_or(1).max(1);
        let width = self.tensor.data.len() / all;
        rows.start * width..rows.end * width
    }
}
