//! What a product's kernel knows of its operands when it is built, and what it is told of them at run time.

use crate::gpu::element::{Access, Element};
use crate::gpu::kernel::{Binding, sizes};
use crate::product::operands::{Matrix, Product};

sizes! {
    MatmulSizes {
        m, n, k, batches, splits, k_per_split,
        a_offset, a_batch, a_row, a_col,
        b_offset, b_batch, b_row, b_col,
        c_offset, c_batch, c_split, c_row,
        bias_offset, bias_batch, has_bias, accumulate,
    }
}

/// What a kernel knows of its operands when it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProductLayout {
    /// Whether A and B are contiguous along k, else along m and n.
    pub along_k: [bool; 2],
    /// Whether A, B and C can be read and written by fours.
    pub quads: [bool; 3],
    /// How A and B are bound.
    pub access: [Access; 2],
    /// How A, B and C are stored.
    pub elements: [Element; 3],
    /// Whether A and B can be read by fours, and K is of whole steps of the kernel, so that no load needs a condition.
    pub whole_k: bool,
    /// Whether m and n are of whole tiles, where the kernel is made for that.
    pub whole: [bool; 2],
}

impl ProductLayout {
    /// A, B, bias and C; all but the bias by fours where `quads` says.
    pub fn bindings(&self, quads: [bool; 3]) -> [Binding; 4] {
        let ([a, b], [a_element, b_element, c_element]) = (self.access, self.elements);
        let stored = |binding: Binding, quads: bool, element| {
            if quads { binding.stored_quads(element) } else { binding.stored(element) }
        };
        [
            stored(Binding::new("a", a), quads[0], a_element),
            stored(Binding::new("b", b), quads[1], b_element),
            Binding::read("bias").stored(b_element),
            stored(Binding::write("c"), quads[2], c_element),
        ]
    }
}

impl Product {
    /// For a kernel that takes steps of `step` k. Splits begin at multiples of 4, so that none cuts a quad.
    pub(super) fn layout(&self, step: u64) -> ProductLayout {
        let by = |width: u64, steps: &[u64]| steps.iter().all(|step| step.is_multiple_of(width));
        // A step that a stack of one never takes counts for nothing.
        let taken = |step: u64, count: u64| if count > 1 { step } else { 0 };
        let stack = |matrix: &Matrix| taken(matrix.batch, self.batches);
        let split = taken(self.splits.stride, self.splits.count);
        // A vector of four begins at a multiple of at most 16 bytes.
        let first = |matrix: &Matrix| matrix.slot.offset / 4;
        let a = if self.a_along_k() { [self.k, self.a.row] } else { [self.m, self.a.col] };
        let b = if self.b_along_k() { [self.k, self.b.col] } else { [self.n, self.b.row] };
        let read = |width, steps: &[u64], matrix: &Matrix| {
            by(width, steps) && by(width, &[matrix.offset, stack(matrix)]) && by(4, &[first(matrix)])
        };
        let c = [self.n, self.c.row, self.c.offset, stack(&self.c), split, first(&self.c)];
        let quads = [read(4, &a, &self.a), read(4, &b, &self.b), by(4, &c)];
        ProductLayout {
            along_k: [self.a_along_k(), self.b_along_k()],
            quads,
            whole_k: quads[0] && quads[1] && self.k.is_multiple_of(step),
            whole: [false; 2],
            access: [self.a, self.b].map(|matrix| match matrix.slot.role == self.c.slot.role {
                true => Access::ReadWrite,
                false => matrix.slot.read_access(),
            }),
            elements: [self.a, self.b, self.c].map(|matrix| matrix.slot.element),
        }
    }
}
