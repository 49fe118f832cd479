//! `tidegate compare`: files of `bench --json` side by side.

mod case;
mod column;
mod comparison;
mod crossover;
mod fields;
mod labels;
mod read;
mod regressions;
mod table;

use std::path::PathBuf;

pub use case::Case;
pub use column::Column;
pub use comparison::{Comparison, Source, is_noise};
pub use crossover::crossover;
pub use read::{Host, Peaks, Row};
pub use regressions::{Tolerance, Verdict};
use table::table;

use crate::args::files;
use crate::html::report::Page;
use crate::{Result, print};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What `tidegate bench --json` wrote, of this or an older version, or the scripts in benches/peers
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// What ratios are against: the number or a part of the name of a device, or the name of a file [default: 0]
    #[arg(long, value_name = "NAME|INDEX")]
    base: Option<String>,
    /// Show all columns side by side, wider than 80
    #[arg(long)]
    wide: bool,
    /// Also write a page: one file that needs no network, with charts and a table to sort
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    let sources = args.files.iter().map(|path| Source::read(path)).collect::<Result<Vec<_>>>()?;
    let all = Comparison::new(&sources);
    if all.columns.is_empty() {
        let names: Vec<String> = args.files.iter().map(|path| path.display().to_string()).collect();
        return Err(format!("{}: no results", names.join(", ")).into());
    }
    let base = args.base.as_deref().map_or(Ok(0), |wanted| all.find(wanted))?;
    let crossover: String = crossover(&all).into_iter().map(|line| line + "\n").collect();
    let mut text = table(&all, base, args.wide) + &crossover;
    if let Some(path) = &args.html {
        files::write(path, Page { title: "tidegate compare", all: &all, base }.html()?.as_bytes())?;
        text += &format!("wrote {}: the page of them\n", path.display());
    }
    print(&text)
}
