//! What the commands have in common: devices, files, exit statuses, interrupts.

mod console;
pub mod device;
pub mod exit;
pub mod files;
pub mod interrupt;
pub mod text;

pub use console::{Failure, Result, complain, print};

/// What `--help` says of an option that takes the name of a cell.
pub fn cell_help(text: &str) -> String {
    let cells = tidegate::cell::registry();
    format!("{text}: {}", cells.iter().map(|cell| cell.name()).collect::<Vec<_>>().join(", "))
}
