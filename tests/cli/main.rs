//! The command as other programs use it: files in, files out, one line on stderr where something is wrong.
#![cfg(feature = "cli")]

mod bench;
#[path = "../common/mod.rs"]
mod common;
mod devices;
mod frameworks;
mod given;
mod refusals;
mod run;
