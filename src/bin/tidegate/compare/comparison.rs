//! Results of any number of devices, programs and machines, side by side.

use std::path::Path;

use serde_json::Value;
use tidegate::bench::Score;

use super::case::Case;
use super::column::Column;
use super::labels;
use super::read::{self, Place, Recorded, Row};
use crate::Result;
use crate::args::files;

/// A file's reports, and what the file is called.
#[derive(Debug)]
pub struct Source {
    name: String,
    reports: Vec<Recorded>,
}

impl Source {
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = files::read(path)?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| files::at(path, format!("not JSON: {error}")))?;
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
        Self::new(&name, &value).map_err(|error| files::at(path, error))
    }

    pub fn new(name: &str, value: &Value) -> Result<Self> {
        Ok(Self { name: name.into(), reports: read::recorded(value)? })
    }
}

#[derive(Debug)]
pub struct Comparison {
    pub columns: Vec<Column>,
    pub cases: Vec<Case>,
    /// For each case what each column found.
    pub rows: Vec<Vec<Option<Row>>>,
}

impl Comparison {
    pub fn new(sources: &[Source]) -> Self {
        let mut all = Self { columns: Vec::new(), cases: Vec::new(), rows: Vec::new() };
        for source in sources {
            let first = all.columns.len();
            for report in &source.reports {
                for (place, case, row) in &report.results {
                    let column = all.column(first, &source.name, report, place);
                    let at = all.cases.iter().position(|known| known == case).unwrap_or_else(|| {
                        all.cases.push(case.clone());
                        all.rows.push(Vec::new());
                        all.cases.len() - 1
                    });
                    let len = all.columns.len().max(all.rows[at].len());
                    all.rows[at].resize_with(len, || None);
                    // If a case stands in a file twice, the last that ran counts.
                    if row.ms_median.is_some() || all.rows[at][column].is_none() {
                        all.rows[at][column] = Some(row.clone());
                    }
                }
            }
        }
        for row in &mut all.rows {
            row.resize_with(all.columns.len(), || None);
        }
        labels::label(&mut all.columns);
        all
    }

    /// The column of the file that begins at `first`, made if there is none yet.
    fn column(&mut self, first: usize, file: &str, report: &Recorded, place: &Place) -> usize {
        let is = |column: &Column| column.program == report.program && column.place == *place;
        if let Some(at) = self.columns[first..].iter().position(is) {
            return first + at;
        }
        let peaks = report.peaks.iter().find(|(of, _)| of.is_device(place)).map(|(_, peaks)| peaks.clone());
        self.columns.push(Column {
            label: String::new(),
            file: file.into(),
            program: report.program.clone(),
            place: place.clone(),
            host: report.host.clone(),
            peaks,
        });
        self.columns.len() - 1
    }

    /// A row that has a time, and the time.
    pub fn timed(&self, case: usize, column: usize) -> Option<(&Row, f64)> {
        let row = self.rows[case][column].as_ref()?;
        Some((row, row.ms_median?))
    }

    pub fn ms(&self, case: usize, column: usize) -> Option<f64> {
        self.timed(case, column).map(|(_, ms)| ms)
    }

    /// The time of a column over the base's.
    pub fn ratio(&self, case: usize, column: usize, base: usize) -> Option<f64> {
        Some(self.ms(case, column)? / self.ms(case, base)?)
    }

    /// Whether the difference to the base lies within what both rows' times vary by: half of either 95 % confidence interval.
    pub fn is_noise(&self, case: usize, column: usize, base: usize) -> bool {
        let Some(((row, ms), (base_row, base_ms))) = self.timed(case, column).zip(self.timed(case, base)) else { return false };
        is_noise([ms, base_ms], [row.ms_median_spread, base_row.ms_median_spread])
    }

    /// How fast a column's device is beside the reference machine, of whole layers in f32.
    pub fn score(&self, column: usize) -> Score {
        let step = |at: usize| {
            let (row, ms) = self.timed(at, column)?;
            let is_whole = !row.recurrence && ["f32", "f64"].contains(&&*self.columns[column].place.dtype);
            is_whole.then(|| (self.cases[at].to_string(), ms * 1e3 / self.cases[at].seq_len as f64))
        };
        Score::new((0..self.cases.len()).filter_map(step))
    }

    /// The geometric mean of the ratios, and of how many.
    pub fn mean_ratio(&self, column: usize, base: usize) -> Option<(f64, usize)> {
        let logs: Vec<f64> = (0..self.cases.len()).filter_map(|case| Some(self.ratio(case, column, base)?.ln())).collect();
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        (!logs.is_empty()).then(|| (mean.exp(), logs.len()))
    }

    /// The column that a number, or a part of a label in any case, stands for.
    pub fn find(&self, wanted: &str) -> Result<usize> {
        let listed = |indices: &[usize]| {
            indices.iter().map(|&index| format!("{index}: {}", self.columns[index].label)).collect::<Vec<_>>().join("; ")
        };
        let all: Vec<usize> = (0..self.columns.len()).collect();
        if let Ok(number) = wanted.parse::<usize>() {
            let known = all.contains(&number);
            return if known { Ok(number) } else { Err(format!("--base {number}: there are {}", listed(&all)).into()) };
        }
        let part = wanted.to_lowercase();
        let named = |&&index: &&usize| {
            let Column { label, file, .. } = &self.columns[index];
            label.to_lowercase().contains(&part) || file.to_lowercase() == part
        };
        let matching: Vec<usize> = all.iter().filter(named).copied().collect();
        match matching[..] {
            [index] => Ok(index),
            [] => Err(format!("--base `{wanted}`: there are {}", listed(&all)).into()),
            _ => Err(format!("--base `{wanted}` is ambiguous; matching are {}", listed(&matching)).into()),
        }
    }
}

/// Whether two medians differ by no more than both vary, as factors: however wide an interval is, it ends above 0. What has none is
/// exact.
pub fn is_noise([ms, base_ms]: [f64; 2], spreads: [Option<f64>; 2]) -> bool {
    let [factor, base_factor] = spreads.map(|spread| 1.0 + spread.unwrap_or_default());
    (ms / base_ms).max(base_ms / ms) <= factor * base_factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_that_meet_are_noise() {
        assert!(is_noise([1.10, 1.00], [Some(0.06), Some(0.04)]));
        assert!(is_noise([1.00, 1.10], [Some(0.04), Some(0.06)]));
        assert!(!is_noise([1.12, 1.00], [Some(0.06), Some(0.04)]));
        assert!(is_noise([4.0, 1.0], [Some(1.5), Some(1.0)]) && !is_noise([1000.0, 1.0], [Some(1.5), Some(1.0)]));
        assert!(!is_noise([1.01, 1.00], [None, None]) && is_noise([1.01, 1.00], [Some(0.02), None]));
    }
}
