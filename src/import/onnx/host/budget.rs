//! How much memory a file may make the host take: what a model says of shapes costs its author nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// What is allowed whatever the sizes of model and inputs.
const BASE: usize = 256 << 20;
/// What is allowed for each byte of the model, of its inputs and of what its layers give.
const FACTOR: usize = 8;

/// Bytes that are taken and those that may be.
#[derive(Debug, Clone, Default)]
pub struct Budget(Arc<Bytes>);

#[derive(Debug, Default)]
struct Bytes {
    taken: AtomicUsize,
    limit: AtomicUsize,
}

impl Budget {
    /// The budget of a model of `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        let budget = Self::default();
        budget.0.limit.store(BASE, Ordering::Relaxed);
        budget.extend(bytes);
        budget
    }

    /// Allows more, for data that are there.
    pub fn extend(&self, bytes: usize) {
        let limit = self.0.limit.load(Ordering::Relaxed).saturating_add(bytes.saturating_mul(FACTOR));
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// Claims room for this many values of this many bytes each, until the claim is dropped.
    pub fn claim(&self, values: usize, width: usize) -> Result<Claim> {
        let (taken, limit) = (self.0.taken.load(Ordering::Relaxed), self.0.limit.load(Ordering::Relaxed));
        let bytes = values.checked_mul(width).filter(|bytes| taken.checked_add(*bytes).is_some_and(|sum| sum <= limit));
        let Some(bytes) = bytes else {
            let mib = limit >> 20;
            let what = format!("{values} values of {width} bytes are beyond the {mib} MiB that a graph of this size may take");
            return Err(Error::Onnx(what));
        };
        self.0.taken.fetch_add(bytes, Ordering::Relaxed);
        Ok(Claim { budget: self.clone(), bytes })
    }
}

/// Memory that is taken.
#[derive(Debug)]
pub struct Claim {
    budget: Budget,
    bytes: usize,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.budget.0.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_may_be_taken_again() {
        let budget = Budget::new(0);
        let half = budget.claim(BASE / 8, 4).unwrap();
        assert!(budget.claim(BASE / 4, 4).unwrap_err().to_string().contains("256 MiB"));
        drop(half);
        assert!(budget.claim(BASE / 4, 4).is_ok());
        assert!(budget.claim(usize::MAX, 4).is_err());
        budget.extend(BASE);
        assert!(budget.claim(BASE, 4).is_ok());
    }
}
