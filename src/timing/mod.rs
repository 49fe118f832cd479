//! How anything is timed here: warmed up until it stops getting faster, several things in turns, and with an eye on times that step
//! from one level to another. Generic over the clock, so that a simulated device can be timed too.

pub(crate) mod clock;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(feature = "tools")]
mod steadiness;
mod turns;
mod warm_up;

#[cfg(feature = "tools")]
pub(crate) use steadiness::{Unsteady, unsteady};
pub(crate) use turns::Turns;
pub(crate) use warm_up::WarmUp;
#[cfg(feature = "tools")]
pub(crate) use warm_up::Warmed;

/// The middle of some values, the mean of both where there are two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0
}
