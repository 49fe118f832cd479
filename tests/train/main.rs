//! Training: its pieces and whole models, against float64, PyTorch and themselves.

mod batches;
#[path = "../common/mod.rs"]
mod common;
mod guard;
mod half;
mod pieces;
mod pytorch;
mod reference;
mod whole;

/// Each value within `tolerance` of 1 + the largest truth. NaN is close to nothing.
fn close(name: &str, truth: &[f64], found: &[f32], tolerance: f64) {
    assert_eq!(truth.len(), found.len(), "{name}");
    let largest = truth.iter().map(|x| x.abs()).fold(0.0, f64::max);
    for (i, (&truth, &found)) in truth.iter().zip(found).enumerate() {
        let off = (f64::from(found) - truth).abs();
        assert!(off <= tolerance * (1.0 + largest), "{name}: [{i}] is {found}, should be {truth}: off by {off:.1e}");
    }
}
