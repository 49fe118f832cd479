//! Times that are not of one level: a step in the middle, as when a clock changes, or two levels by turns.

use super::median;

/// Fewer times show no level.
const LEAST: usize = 10;
/// A difference of levels that counts, as a part.
const DIFFERENCE: f64 = 0.05;
/// The smaller of two levels has at least this part of all times.
const PART: f64 = 0.2;
/// Distance of two levels over the spread within them. Halves of a normal distribution are at 2.7 of it, of a uniform one at 3.5.
const APART: f64 = 6.0;

/// How times failed to be of one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsteady {
    /// The first and second half of the runs differ by more than 5 %.
    Step,
    /// Two levels, more than 5 % apart, each with a fifth of the runs or more.
    TwoLevels,
}

/// What is wrong with times in the order in which they were measured.
pub(crate) fn unsteady(times: &[f64]) -> Option<Unsteady> {
    if times.len() < LEAST {
        return None;
    }
    let (first, second) = times.split_at(times.len() / 2);
    let differ = |[first, second]: [f64; 2], by: f64| (first - second).abs() > by * first.min(second);
    // Where two levels take turns, the median of a half may be either.
    let means = [first, second].map(|half| moments(half).0);
    if differ([first, second].map(median), DIFFERENCE) && differ(means, DIFFERENCE / 2.0) {
        return Some(Unsteady::Step);
    }
    two_levels(times).then_some(Unsteady::TwoLevels)
}

/// Ashman's D of the best cut of the sorted times in two.
fn two_levels(times: &[f64]) -> bool {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let least = ((PART * sorted.len() as f64).ceil() as usize).max(2);
    // The widest gap is where two levels part.
    let cut = (least..=sorted.len() - least).max_by(|&a, &b| {
        let gap = |at: usize| sorted[at] - sorted[at - 1];
        gap(a).total_cmp(&gap(b))
    });
    let Some(cut) = cut else { return false };
    let (low, high) = sorted.split_at(cut);
    let [(low, low_variance), (high, high_variance)] = [low, high].map(moments);
    let distance = high - low;
    distance > DIFFERENCE * low && distance * 2f64.sqrt() > APART * (low_variance + high_variance).sqrt()
}

/// Mean and variance.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// About 1, by up to `spread` of it.
    fn around(level: f64, spread: f64, n: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| level * (1.0 + spread * rng.random_range(-1.0..=1.0))).collect()
    }

    #[test]
    fn one_level_is_steady() {
        for seed in 0..50 {
            for (spread, n) in [(0.0, 10), (0.01, 10), (0.03, 40), (0.1, 1000)] {
                assert_eq!(unsteady(&around(1.0, spread, n, seed)), None, "{seed} {spread} {n}");
            }
            // Now and then one that was disturbed.
            let mut times = around(1.0, 0.01, 40, seed);
            times.iter_mut().step_by(13).for_each(|time| *time *= 2.0);
            assert_eq!(unsteady(&times), None);
        }
        assert_eq!(unsteady(&[1.0, 2.0, 1.0, 2.0]), None);
    }

    #[test]
    fn steps_and_levels_are_found() {
        for seed in 0..50 {
            let [low, high] = [1.0, 1.12].map(|level| around(level, 0.01, 20, seed));
            assert_eq!(unsteady(&[&low[..], &high].concat()), Some(Unsteady::Step));
            let by_turns: Vec<f64> = low.iter().zip(&high).flat_map(|(&low, &high)| [low, high]).collect();
            assert_eq!(unsteady(&by_turns), Some(Unsteady::TwoLevels));
            // Less than 5 % apart.
            let near = around(1.03, 0.01, 20, seed);
            assert_eq!(unsteady(&[&low[..], &near].concat()), None);
        }
    }
}
