//! `--fail-if-slower-than`: medians against those of an earlier run on the same device.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::table::times;
use super::{Case, Column, Comparison, Source, is_noise};
use crate::Result;
use crate::args::text::short;

/// How much slower is still no failure, as a part of the base's time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tolerance(f64);

impl FromStr for Tolerance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected a part such as 10% or 0.1, found {text:?}");
        let (number, unit) = match text.strip_suffix('%') {
            Some(percent) => (percent.trim_end(), 0.01),
            None => (text, 1.0),
        };
        let value: f64 = number.parse().map_err(|_| expected())?;
        if unit == 1.0 && value >= 1.0 {
            return Err(format!("{text} would be {}%: write {text}% or a part below 1", value * 100.0));
        }
        if value.is_finite() && value >= 0.0 { Ok(Self(value * unit)) } else { Err(expected()) }
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the last digits of 0.07 · 100.
        write!(f, "{} %", (self.0 * 1e4).round() / 100.0)
    }
}

/// What the comparison came to.
#[derive(Debug, Serialize)]
pub struct Verdict {
    base: String,
    tolerance: Tolerance,
    /// Cases that both have a time of.
    pub compared: usize,
    pub slower: Vec<Slower>,
    /// Cases that the base has no time of.
    unmatched: Vec<String>,
    /// The base's cases on devices that ran now.
    not_run: usize,
}

#[derive(Debug, Serialize)]
pub struct Slower {
    device: String,
    case: String,
    ms: f64,
    base_ms: f64,
    ratio: f64,
    /// Half the 95 % confidence intervals of the medians, as parts of them.
    spread: Option<f64>,
    base_spread: Option<f64>,
}

impl Verdict {
    /// Rows are matched by device, backend, what is stored, and case. Nothing in common is an error.
    pub fn new(now: &Source, base: &Source, file: &str, tolerance: Tolerance) -> Result<Self> {
        let [now, old] = [now, base].map(|source| Comparison::new(std::slice::from_ref(source)));
        let mut verdict =
            Self { base: file.into(), tolerance, compared: 0, slower: Vec::new(), unmatched: Vec::new(), not_run: 0 };
        for (column, here) in now.columns.iter().enumerate() {
            let before = old.columns.iter().position(|there| is_same(here, there));
            for (at, case) in now.cases.iter().enumerate() {
                // What failed is a failure of its own.
                let Some((row, ms)) = now.timed(at, column) else { continue };
                let in_base = old.cases.iter().position(|old_case| old_case == case);
                let Some((old_row, base_ms)) = in_base.zip(before).and_then(|(at, column)| old.timed(at, column)) else {
                    verdict.unmatched.push(format!("{}, {case}", here.label));
                    continue;
                };
                verdict.compared += 1;
                let ratio = ms / base_ms;
                let (spread, base_spread) = (row.ms_median_spread, old_row.ms_median_spread);
                if ratio > 1.0 + tolerance.0 && !is_noise([ms, base_ms], [spread, base_spread]) {
                    let (device, case) = (here.label.clone(), case.to_string());
                    verdict.slower.push(Slower { device, case, ms, base_ms, ratio, spread, base_spread });
                }
            }
            let ran = |case: &Case| now.cases.iter().zip(&now.rows).any(|(own, rows)| own == case && rows[column].is_some());
            let timed = |at: usize| before.is_some_and(|column| old.timed(at, column).is_some());
            verdict.not_run += old.cases.iter().enumerate().filter(|&(at, case)| timed(at) && !ran(case)).count();
        }
        if verdict.compared == 0 {
            let devices: Vec<String> = old.columns.iter().map(|c| format!("{} ({})", c.label, c.place.backend)).collect();
            let (cases, devices) = (old.cases.len(), devices.join("; "));
            return Err(format!("no measured case is in {file}, which has {cases} of {devices}").into());
        }
        Ok(verdict)
    }

    /// For people: what is slower, and what could not be compared.
    pub fn text(&self) -> String {
        let Self { base, tolerance, compared, slower, unmatched, not_run } = self;
        let mut text =
            format!("against {base}, tolerance {tolerance}: {} of {compared} matched cases are slower\n", slower.len());
        for Slower { device, case, ms, base_ms, ratio, spread, base_spread } in slower {
            let (now, before) = (median(*ms, *spread), median(*base_ms, *base_spread));
            text += &format!("  {device}, {case}: {now} instead of {before}, {}\n", times(*ratio));
        }
        for case in unmatched {
            text += &format!("not in {base}: {case}\n");
        }
        if *not_run > 0 {
            text += &format!("{not_run} cases of {base} were not run\n");
        }
        text
    }

    /// The line that goes with the exit status.
    pub fn failure(&self) -> String {
        let Self { base, tolerance, compared, slower, .. } = self;
        format!("{} of {compared} cases are slower than in {base} by more than {tolerance}", slower.len())
    }
}

fn median(ms: f64, spread: Option<f64>) -> String {
    let spread = spread.map_or_else(|| "stability unknown".into(), |spread| format!("±{:.1} %", spread * 100.0));
    format!("{} ms ({spread})", short(ms))
}

fn is_same(here: &Column, there: &Column) -> bool {
    let of = |column: &Column| {
        let Column { program, place, .. } = column;
        ([program, &place.device, &place.backend, &place.dtype].map(String::clone), place.untuned)
    };
    of(here) == of(there)
}
