//! What is multiplied: strided matrices within slots, and how a sum is cut.

#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::element::Element;
use crate::gpu::program::Slot;

/// A strided matrix within a slot; a stack of them if `batch` is used. In elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix {
    pub slot: Slot,
    pub offset: u64,
    pub batch: u64,
    pub row: u64,
    pub col: u64,
    /// Whether a product may round it to f16 though it is stored as f32: A scaled by a power of two for the largest number that
    /// `prologue/gate_range.wgsl` has found, B as it is. Such a product has no bias.
    #[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "browsers have no cooperative matrices"))]
    pub rounded: bool,
}

impl Matrix {
    /// Row-major with `columns` columns.
    pub fn rows(slot: Slot, columns: u64) -> Self {
        Self { slot, offset: 0, batch: 0, row: columns, col: 1, rounded: false }
    }

    pub fn at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    pub fn rounded(self, rounded: bool) -> Self {
        Self { rounded, ..self }
    }

    /// Whether cooperative matrices of f16 may hold it.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn is_for_halves(&self) -> bool {
        match self.slot.element {
            Element::F16 => true,
            Element::F32 => self.rounded,
            Element::PackedF16 => false,
        }
    }

    /// Distance to the next matrix of the stack.
    pub fn stacked(self, batch: u64) -> Self {
        Self { batch, ..self }
    }

    pub fn transposed(self) -> Self {
        Self { row: self.col, col: self.row, ..self }
    }
}

/// C = A·B, `batches` times: A is [m, k], B is [k, n], C is [m, n].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    pub m: u64,
    pub n: u64,
    pub k: u64,
    pub batches: u64,
    pub a: Matrix,
    pub b: Matrix,
    /// Rows must be contiguous.
    pub c: Matrix,
    /// Offset of the bias in B's slot, `b.batch` apart within a stack.
    pub bias: Option<u64>,
    /// Adds to C instead of overwriting it.
    pub accumulate: bool,
    pub splits: Splits,
}

impl Product {
    pub(super) fn a_along_k(&self) -> bool {
        self.a.col == 1
    }

    pub(super) fn b_along_k(&self) -> bool {
        self.b.col != 1
    }
}

/// How the long dimension of a sum is cut: each part writes its own partial result, `stride` elements apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Splits {
    pub count: u64,
    pub stride: u64,
}

impl Splits {
    pub const NONE: Self = Self { count: 1, stride: 0 };
}
