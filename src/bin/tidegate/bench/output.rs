//! Files of what `bench` found so far.

use super::Args;
use crate::comparison::{Comparison, Source};
use crate::page::Page;
use crate::report::Report;
use crate::{Result, files};

/// Writes the files that were asked for, anew.
pub fn write(args: &Args, report: &Report) -> Result<()> {
    if let Some(path) = &args.json {
        files::write(path, format!("{}\n", serde_json::to_string_pretty(report)?).as_bytes())?;
    }
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
