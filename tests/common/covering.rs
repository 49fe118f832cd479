//! Pairwise covering arrays: few cases in which every two values of every two factors meet.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rows of value indices, one column a factor of `levels[factor]` values, in which every pair of values of every two factors
/// occurs. Greedy: of some random rows that contain a missing pair, the one with the most missing pairs is taken.
pub fn pairwise(levels: &[usize], seed: u64) -> Vec<Vec<usize>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut missing = Vec::new();
    for a in 0..levels.len() {
        for b in a + 1..levels.len() {
            missing.extend((0..levels[a]).flat_map(|x| (0..levels[b]).map(move |y| (a, x, b, y))));
        }
    }
    let mut rows = Vec::new();
    while let Some(&(a, x, b, y)) = missing.first() {
        let mut candidate = || {
            let mut row: Vec<usize> = levels.iter().map(|&n| rng.random_range(0..n)).collect();
            (row[a], row[b]) = (x, y);
            row
        };
        let covers = |row: &[usize], &(a, x, b, y): &(usize, usize, usize, usize)| row[a] == x && row[b] == y;
        let best = (0..100)
            .map(|_| candidate())
            .max_by_key(|row| missing.iter().filter(|pair| covers(row, pair)).count())
            .unwrap_or_default();
        missing.retain(|pair| !covers(&best, pair));
        rows.push(best);
    }
    rows
}

#[test]
fn covers_every_pair() {
    let levels = [6, 2, 3, 2];
    let rows = pairwise(&levels, 1);
    for a in 0..levels.len() {
        for b in a + 1..levels.len() {
            for x in 0..levels[a] {
                assert!((0..levels[b]).all(|y| rows.iter().any(|row| row[a] == x && row[b] == y)), "{a}={x}, {b}");
            }
        }
    }
    assert!(rows.len() < 36, "{} rows", rows.len());
}
