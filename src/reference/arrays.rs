//! Flat arrays: strided elements, and matrices.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};

/// Takes every `stride`-th element from `start` on.
pub(super) fn gather(to: &mut [f64], from: &[f64], start: usize, stride: usize) {
    for (k, to) in to.iter_mut().enumerate() {
        *to = from[start + k * stride];
    }
}

/// The reverse of [`gather`].
pub(super) fn scatter(from: &[f64], to: &mut [f64], start: usize, stride: usize) {
    for (k, from) in from.iter().enumerate() {
        to[start + k * stride] = *from;
    }
}

/// As [`scatter`], adding.
pub(super) fn scatter_add(from: &[f64], to: &mut [f64], start: usize, stride: usize) {
    for (k, from) in from.iter().enumerate() {
        to[start + k * stride] += from;
    }
}

/// `[rows, n]` with the bias in every row, or 0.
pub(super) fn repeat(bias: Option<&[f64]>, rows: usize, n: usize) -> Vec<f64> {
    bias.map_or_else(|| vec![0.0; rows * n], |bias| bias.repeat(rows))
}

/// A flat array as a matrix of that many columns.
pub(super) fn matrix(data: &[f64], columns: usize) -> ArrayView2<'_, f64> {
    ArrayView2::from_shape((data.len() / columns, columns), data).expect("rows times columns is the length")
}

pub(super) fn matrix_mut(data: &mut [f64], columns: usize) -> ArrayViewMut2<'_, f64> {
    ArrayViewMut2::from_shape((data.len() / columns, columns), data).expect("rows times columns is the length")
}

/// c += a·b
pub(super) fn add_product(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>, mut c: ArrayViewMut2<'_, f64>) {
    general_mat_mul(1.0, &a, &b, 1.0, &mut c);
}
