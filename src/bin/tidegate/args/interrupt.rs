//! Ctrl-C: the first ends what runs at the next good moment, the second at once.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Result;
use crate::args::exit;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From here on Ctrl-C no longer ends the process by itself.
pub fn listen() -> Result<()> {
    let handler = || {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            process::exit(exit::INTERRUPTED.into());
        }
    };
    ctrlc::set_handler(handler).map_err(|error| format!("cannot listen to Ctrl-C: {error}").into())
}

pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}
