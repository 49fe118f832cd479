//! Files of what `bench` found so far.

use serde::Serialize;
use tidegate::bench::Report;

use super::Args;
use crate::Result;
use crate::args::files;
use crate::compare::{Comparison, Source, Verdict};
use crate::html::report::Page;

/// The JSON file.
#[derive(Serialize)]
struct File<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// The verdict of `--fail-if-slower-than`.
    against: Option<&'a Verdict>,
}

/// Writes the JSON file, anew.
pub fn write_json(args: &Args, report: &Report, against: Option<&Verdict>) -> Result<()> {
    let Some(path) = &args.json else { return Ok(()) };
    files::write(path, format!("{}\n", serde_json::to_string_pretty(&File { report, against })?).as_bytes())
}

/// Writes the files that were asked for, anew.
pub fn write(args: &Args, report: &Report, against: Option<&Verdict>) -> Result<()> {
    write_json(args, report, against)?;
    if let Some(path) = &args.html {
        let all = Comparison::new(&[source(report)?]);
        files::write(path, Page { title: "tidegate bench", all: &all, base: 0 }.html()?.as_bytes())?;
    }
    Ok(())
}

/// As if it had been read from the JSON file.
pub fn source(report: &Report) -> Result<Source> {
    Source::new("this run", &serde_json::to_value(report)?)
}

/// What was written, for people.
pub fn written(args: &Args, report: &Report) -> String {
    let rows = report.results.len();
    let json = args.json.iter().map(|path| format!("wrote {}: {rows} rows\n", path.display()));
    let html = args.html.iter().map(|path| format!("wrote {}: the page of them\n", path.display()));
    json.chain(html).collect()
}
