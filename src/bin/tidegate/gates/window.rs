//! Which rows and steps a page shows.

use std::ops::Range;
use std::str::FromStr;

use serde::Serialize;
use tidegate::Sequence;

use crate::Result;

/// `FROM..TO`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Steps {
    from: usize,
    to: usize,
}

impl FromStr for Steps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<usize>().ok();
        let ends = text.split_once("..").and_then(|(from, to)| Some((number(from)?, number(to)?)));
        let (from, to) = ends.ok_or("expected FROM..TO, such as 100..300")?;
        if from < to { Ok(Self { from, to }) } else { Err(format!("from {from} up to {to} there is no step")) }
    }
}

#[derive(Debug)]
pub struct Window {
    /// B.
    batch: usize,
    pub steps: Range<usize>,
    pub rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
pub struct Row {
    pub number: usize,
    /// How many of the steps shown lie within the row's length.
    pub active: usize,
}

impl Window {
    pub fn new(seq: &Sequence<'_>, row: Option<usize>, steps: Option<Steps>) -> Result<Self> {
        let (len, batch) = (seq.shape.seq_len, seq.shape.batch_size);
        if let Some(row) = row.filter(|&row| row >= batch) {
            return Err(format!("--row {row}: the input has {batch} rows, counted from 0").into());
        }
        let Steps { from, to } = steps.unwrap_or(Steps { from: 0, to: len });
        if to > len {
            return Err(format!("--steps {from}..{to}: the input has {len} steps").into());
        }
        let length = |row: usize| seq.lengths.map_or(len, |lengths| lengths[row] as usize);
        let numbers = row.map_or(0..batch, |row| row..row + 1);
        let rows: Vec<Row> = numbers.map(|number| Row { number, active: length(number).clamp(from, to) - from }).collect();
        if rows.iter().all(|row| row.active == 0) {
            return Err(format!("--steps {from}..{to}: no row that is shown is longer than {from}").into());
        }
        Ok(Self { batch, steps: from..to, rows })
    }

    /// Values of a unit: rows times steps.
    pub fn len(&self) -> usize {
        self.rows.len() * self.steps.len()
    }

    /// For each row and each of its steps that is shown, the index of that row of `[T, B, .]` data; nothing past a length.
    pub fn indices(&self) -> impl Iterator<Item = Option<usize>> + '_ {
        let indices = move |row: &Row| {
            let (number, active) = (row.number, row.active);
            self.steps.clone().enumerate().map(move |(at, t)| (at < active).then_some(t * self.batch + number))
        };
        self.rows.iter().flat_map(indices)
    }
}
