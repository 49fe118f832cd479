//! What the commands have in common: devices, files, exit statuses, interrupts.

mod console;
pub mod device;
pub mod exit;
pub mod files;
pub mod interrupt;
pub mod text;

pub use console::{Failure, Result, complain, print};
