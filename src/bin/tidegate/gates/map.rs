//! One map: the values of a gate or state in 256 levels, and what they amount to.

use serde::Serialize;

use super::meaning::{Meaning, meaning};
use super::window::Window;
use crate::Result;

#[derive(Debug, Serialize)]
pub struct Map {
    pub name: String,
    /// What it is in the cell's formula.
    about: &'static str,
    /// Whether it opens and shuts, from 0 to 1, instead of carrying a value of any sign.
    gate: bool,
    /// The smallest and the largest value.
    pub low: f64,
    pub high: f64,
    /// `[rows, steps, units]`, a byte each, as base64: 0 is `low`, 255 is `high`, and 0 past a row's length.
    data: String,
    #[serde(skip)]
    pub mean: f64,
    /// Of a gate between 0 and 1.
    #[serde(skip)]
    pub shares: Option<Shares>,
}

/// How often a gate was shut (under 0.1) and open (over 0.9), and what that does.
#[derive(Debug)]
pub struct Shares {
    pub shut: f64,
    pub open: f64,
    pub meaning: Meaning,
}

impl Map {
    /// From `[T, B, units]`.
    pub fn new(cell: &str, name: &str, is_gate: bool, values: &[f64], units: usize, window: &Window) -> Result<Self> {
        let shown: Vec<f64> = window.indices().flatten().flat_map(|row| &values[row * units..][..units]).copied().collect();
        if let Some(value) = shown.iter().find(|value| !value.is_finite()) {
            return Err(format!("`{name}` holds {value}, which has no colour: try fewer --steps").into());
        }
        let low = shown.iter().copied().fold(f64::INFINITY, f64::min);
        let high = shown.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let share = |holds: &dyn Fn(f64) -> bool| shown.iter().filter(|&&v| holds(v)).count() as f64 / shown.len() as f64;
        let (about, meaning) = meaning(cell, name);
        let gate = is_gate && meaning.is_some();
        let shares = meaning.filter(|_| gate && low >= 0.0 && high <= 1.0);
        let shares = shares.map(|meaning| Shares { shut: share(&|v| v < 0.1), open: share(&|v| v > 0.9), meaning });

        // Divided before the subtraction: the difference of two large numbers may not be finite.
        let level = |value: f64| {
            let part = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
            if high > low { (255.0 * part).round() as u8 } else { 0 }
        };
        let rows =
            window.indices().flat_map(|row| (0..units).map(move |unit| row.map_or(0, |row| level(values[row * units + unit]))));
        let data = base64(&rows.collect::<Vec<u8>>());
        let mean = shown.iter().map(|value| value / shown.len() as f64).sum();
        Ok(Self { name: name.into(), about, gate, low, high, data, mean, shares })
    }
}

/// RFC 4648, with padding: what a browser's `atob` takes.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = three.iter().enumerate().fold(0, |word, (at, &byte)| word | u32::from(byte) << (16 - 8 * at));
        for digit in 0..4 {
            let value = word >> (18 - 6 * digit) & 63;
            text.push(if digit <= three.len() { DIGITS[value as usize].into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 4648, section 10.
    #[test]
    fn base64_is_that_of_the_standard() {
        let expected = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (len, expected) in expected.iter().enumerate() {
            assert_eq!(base64(&b"foobar"[..len]), *expected);
        }
        assert_eq!(base64(&[255, 239, 190, 0]), "/+++AA==");
    }
}
