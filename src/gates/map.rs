//! One map: the values of a gate or state in 256 levels, and what they amount to.

use crate::cell::Meaning;
use crate::error::{Error, Result};

/// The values of a gate or state over rows and units.
#[derive(Debug)]
pub struct Map {
    /// As in the cell's formula.
    pub name: String,
    /// What it is there.
    pub about: &'static str,
    /// Whether it opens and shuts, from 0 to 1, instead of carrying a value of any sign.
    pub gate: bool,
    /// The smallest value.
    pub low: f64,
    /// The largest.
    pub high: f64,
    /// `[rows, units]`, a byte each: 0 is `low`, 255 is `high`, and 0 where there is no row.
    pub levels: Vec<u8>,
    /// Over all values.
    pub mean: f64,
    /// For a gate between 0 and 1.
    pub shares: Option<Shares>,
}

/// How often a gate was shut and open, as parts of all its values, and what that does.
#[derive(Debug)]
pub struct Shares {
    /// Under 0.1.
    pub shut: f64,
    /// Over 0.9.
    pub open: f64,
    /// In words.
    pub meaning: Meaning,
}

/// What is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    pub name: &'static str,
    pub about: &'static str,
    /// For a gate that opens and shuts.
    pub meaning: Option<Meaning>,
}

impl Map {
    /// From `[T·B, units]`.
    pub(super) fn new(named: Named, values: &[f64], units: usize, rows: &[Option<usize>]) -> Result<Self> {
        let Named { name, about, meaning } = named;
        let most = rows.iter().flatten().max().ok_or_else(|| Error::Config(format!("`{name}`: there is no row to draw")))?;
        let last = values.len() / units.max(1);
        if *most >= last {
            let (value, max) = (*most as u64, (last as u64).saturating_sub(1));
            return Err(Error::Range { name: format!("row of `{name}`"), value, min: 0, max });
        }
        let shown: Vec<f64> = rows.iter().flatten().flat_map(|row| &values[row * units..][..units]).copied().collect();
        if let Some(&value) = shown.iter().find(|value| !value.is_finite()) {
            return Err(Error::NoColour { name: name.into(), value });
        }
        let low = shown.iter().copied().fold(f64::INFINITY, f64::min);
        let high = shown.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let share = |holds: &dyn Fn(f64) -> bool| shown.iter().filter(|&&v| holds(v)).count() as f64 / shown.len() as f64;
        let gate = meaning.is_some();
        let shares = meaning.filter(|_| gate && low >= 0.0 && high <= 1.0);
        let shares = shares.map(|meaning| Shares { shut: share(&|v| v < 0.1), open: share(&|v| v > 0.9), meaning });

        // Divided before the subtraction: the difference of two large numbers may not be finite.
        let level = |value: f64| {
            let part = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
            if high > low { (255.0 * part).round() as u8 } else { 0 }
        };
        let of_row = |row: &Option<usize>| {
            let row = *row;
            (0..units).map(move |unit| row.map_or(0, |row| level(values[row * units + unit])))
        };
        let levels = rows.iter().flat_map(of_row).collect();
        let mean = shown.iter().map(|value| value / shown.len() as f64).sum();
        Ok(Self { name: name.into(), about, gate, low, high, levels, mean, shares })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(is_gate: bool, values: &[f64], rows: &[Option<usize>]) -> Result<Map> {
        let meaning = Meaning { shut: "c is forgotten", open: "c is copied" };
        let named = Named { name: if is_gate { "f" } else { "c" }, about: "", meaning: is_gate.then_some(meaning) };
        Map::new(named, values, 2, rows)
    }

    #[test]
    fn a_map_is_its_rows_in_levels() {
        let values = [0.0, 1.0, 9.0, 9.0, 0.5, 0.95];
        let gate = map(true, &values, &[Some(0), None, Some(2)]).unwrap();
        assert_eq!(gate.levels, [0, 255, 0, 0, 128, 242]);
        assert_eq!((gate.low, gate.high, gate.mean), (0.0, 1.0, 2.45 / 4.0));
        let Shares { shut, open, meaning } = gate.shares.unwrap();
        assert_eq!((shut, open, meaning.open), (0.25, 0.5, "c is copied"));
        // All rows, and one that is beyond what a gate gives.
        let state = map(false, &values, &[Some(1), Some(0)]).unwrap();
        assert!(!state.gate && state.shares.is_none());
        assert_eq!(state.levels, [255, 255, 0, 28]);
    }

    #[test]
    fn what_cannot_be_drawn_is_named() {
        let error = |values: &[f64], rows: &[_]| map(true, values, rows).unwrap_err().to_string();
        assert_eq!(error(&[0.5, f64::NAN], &[Some(0)]), "`f` holds NaN, which has no colour");
        assert!(error(&[0.5, 1.0], &[Some(1)]).contains("row of `f`"));
        assert!(error(&[], &[Some(0)]).contains("row of `f`"));
        assert!(error(&[0.5, 1.0], &[None]).contains("no row"));
    }
}
