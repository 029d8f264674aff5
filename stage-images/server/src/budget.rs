//! Memory for requests, shared by all connections: what a request holds counts from its first byte to its answer.

use std::sync::atomic::{AtomicUsize, Ordering};

use thiserror::Error;

use crate::tensor::Tensor;

/// How many bytes all requests may hold together.
#[derive(Debug)]
pub struct Budget {
    left: AtomicUsize,
    total: usize,
}

/// What one request holds. Dropping it gives the bytes back.
#[derive(Debug)]
pub struct Share<'b> {
    budget: &'b Budget,
    bytes: usize,
}

/// The bytes are not there.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BudgetError {
    #[error("this server's memory for requests is in use: try again")]
    InUse,
    #[error(
        "the request needs {needs} bytes of memory, this server has {total} for requests: send fewer rows, or raise --max-buffered, of a ModelDeployment server.resources.limits.memory"
    )]
    Never { needs: usize, total: usize },
}

impl Budget {
    pub fn new(total: usize) -> Self {
        Self { left: AtomicUsize::new(total), total }
    }

    /// Refuses what could never be held. Nothing is set aside for it: what is announced and not sent holds nothing, or a few
    /// idle connections would hold everything.
    pub fn could_hold(&self, needs: usize) -> Result<(), BudgetError> {
        if needs > self.total { Err(BudgetError::Never { needs, total: self.total }) } else { Ok(()) }
    }

    /// How many bytes requests hold now.
    pub fn held(&self) -> usize {
        self.total - self.left.load(Ordering::Relaxed)
    }

    /// A share of nothing yet.
    pub fn share(&self) -> Share<'_> {
        Share { budget: self, bytes: 0 }
    }
}

impl Share<'_> {
    /// Makes the share at least this large. A share that cannot grow stays as it was.
    pub fn grow(&mut self, to: usize) -> Result<(), BudgetError> {
        self.budget.could_hold(to)?;
        let left = &self.budget.left;
        let more = to.saturating_sub(self.bytes);
        let less = |left: usize| left.checked_sub(more);
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).map_err(|_| BudgetError::InUse)?;
        self.bytes += more;
        Ok(())
    }

    /// Makes the share large enough for these values, which may be larger than the bytes they were read from: an empty text
    /// has three bytes as JSON and twenty-four as a value.
    pub fn hold(&mut self, tensors: &[Tensor]) -> Result<(), BudgetError> {
        self.grow(tensors.iter().map(|tensor| tensor.data.memory()).sum())
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_grow_within_the_budget_and_come_back() {
        let budget = Budget::new(100);
        let mut first = budget.share();
        let mut second = budget.share();
        assert_eq!(first.grow(60), Ok(()));
        assert_eq!(first.grow(50), Ok(()));
        assert_eq!(second.grow(41), Err(BudgetError::InUse));
        assert_eq!(second.grow(40), Ok(()));
        assert_eq!(budget.held(), 100);
        drop(first);
        assert_eq!(second.grow(100), Ok(()));
    }

    #[test]
    fn what_never_fits_is_told_apart_from_what_does_not_fit_now() {
        let budget = Budget::new(100);
        assert_eq!(budget.share().grow(101), Err(BudgetError::Never { needs: 101, total: 100 }));
    }
}
