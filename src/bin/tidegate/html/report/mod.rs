//! A comparison as one page: facts, charts and tables.

use serde::Serialize;
use tidegate::bench::{Mark, REFERENCE, Score};

use crate::Result;
use crate::compare::{Case, Column, Comparison, Host, Peaks, Row, crossover};
use crate::html::{STYLE, escape, script_json};

#[derive(Debug)]
pub struct Page<'a> {
    pub title: &'a str,
    pub all: &'a Comparison,
    pub base: usize,
}

/// What the script reads.
#[derive(Serialize)]
struct Data<'a> {
    base: usize,
    columns: Vec<ColumnData<'a>>,
    cases: Vec<CaseData<'a>>,
    crossover: Vec<String>,
    /// What has a score of 1.
    reference: &'static str,
    /// What rows may be doubted for: a word, and a sentence.
    doubts: Vec<Doubt>,
}

#[derive(Serialize)]
struct Doubt {
    /// As a row's `marks` have it.
    mark: Mark,
    name: &'static str,
    sentence: &'static str,
}

#[derive(Serialize)]
struct ColumnData<'a> {
    label: &'a str,
    file: &'a str,
    program: &'a str,
    device: &'a str,
    backend: &'a str,
    driver: &'a str,
    api_version: &'a Option<String>,
    device_type: &'a str,
    dtype: &'a str,
    host: &'a Host,
    /// Beside the reference machine.
    score: Score,
    peaks: &'a Option<Peaks>,
}

#[derive(Serialize)]
struct CaseData<'a> {
    name: String,
    #[serde(flatten)]
    case: &'a Case,
    /// One a column.
    rows: &'a [Option<Row>],
}

impl Page<'_> {
    pub fn html(&self) -> Result<String> {
        let Self { title, all, base } = *self;
        let data = Data {
            base,
            columns: all.columns.iter().enumerate().map(|(at, of)| ColumnData { score: all.score(at), ..column(of) }).collect(),
            cases: all.cases.iter().zip(&all.rows).map(|(case, rows)| CaseData { name: case.to_string(), case, rows }).collect(),
            crossover: crossover(all),
            reference: REFERENCE,
            doubts: Mark::ALL.map(|mark| Doubt { mark, name: mark.name(), sentence: mark.sentence() }).into(),
        };
        Ok(format!(
            include_str!("page.html"),
            title = escape(title),
            style = format_args!("{STYLE}{}{}", include_str!("charts.css"), include_str!("report.css")),
            version = env!("CARGO_PKG_VERSION"),
            data = script_json(&data)?,
            script = concat!(
                include_str!("../dom.js"),
                include_str!("charts.js"),
                include_str!("tables.js"),
                include_str!("series.js"),
                include_str!("verdict.js"),
                include_str!("report.js")
            ),
        ))
    }
}

fn column(column: &Column) -> ColumnData<'_> {
    let Column { label, file, program, place, host, peaks } = column;
    ColumnData {
        label,
        file,
        program,
        device: &place.device,
        backend: &place.backend,
        driver: &place.driver,
        api_version: &place.api_version,
        device_type: &place.device_type,
        dtype: &place.dtype,
        host,
        score: Score::default(),
        peaks,
    }
}
