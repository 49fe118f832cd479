//! What must hold before a product is left to a kernel that checks nothing: every index that it forms lies within its slot.

use crate::error::{Error, Limit, Result};
use crate::gpu::program::Slot;
use crate::product::operands::{Matrix, Product};

/// Most rows, columns or terms: what a kernel adds to an index beyond them, to round up to tiles, stays within a u32.
const LONGEST: u64 = 1 << 31;

pub(super) fn check(p: &Product) -> Result<()> {
    for (name, size) in [("m", p.m), ("n", p.n), ("k", p.k), ("batches", p.batches), ("splits", p.splits.count)] {
        if size == 0 || size > LONGEST {
            return Err(Error::Range { name: format!("{name} of a product"), value: size, min: 1, max: LONGEST });
        }
    }
    // The kernels leave out the stride of the contiguous index.
    for (name, steps) in [("A", [p.a.row, p.a.col]), ("B", [p.b.row, p.b.col]), ("C", [p.c.col; 2])] {
        if !steps.contains(&1) {
            let (name, value) = (format!("the closer stride of {name} in a product"), steps[0].min(steps[1]));
            return Err(Error::Range { name, value, min: 1, max: 1 });
        }
    }
    let stack = |matrix: &Matrix| (p.batches, matrix.batch);
    within("A", p.a.slot, p.a.offset, &[stack(&p.a), (p.m, p.a.row), (p.k, p.a.col)])?;
    within("B", p.b.slot, p.b.offset, &[stack(&p.b), (p.k, p.b.row), (p.n, p.b.col)])?;
    if let Some(bias) = p.bias {
        within("the bias", p.b.slot, bias, &[stack(&p.b), (p.n, 1)])?;
    }
    within("C", p.c.slot, p.c.offset, &[stack(&p.c), (p.splits.count, p.splits.stride), (p.m, p.c.row), (p.n, 1)])
}

/// Refuses an operand whose last element lies beyond its slot: `steps` are counts and strides, from `offset` on.
fn within(operand: &str, slot: Slot, offset: u64, steps: &[(u64, u64)]) -> Result<()> {
    let last = steps.iter().map(|&(count, stride)| u128::from(count - 1) * u128::from(stride)).sum::<u128>() + u128::from(offset);
    let actual = slot.elements();
    if last < actual.into() {
        return Ok(());
    }
    let needed = u64::try_from(last + 1).unwrap_or(u64::MAX);
    Err(Error::Limit { limit: Limit::Elements(format!("`{}`, {operand} of a product", slot.role.name())), needed, actual })
}
