//! How the command ends.

use std::fmt;
use std::process::ExitCode;

use crate::Failure;

/// A measured case was slower than what it was compared with.
pub const SLOWER: u8 = 3;
/// Ended by Ctrl-C, as shells say it: 128 and the number of SIGINT.
pub const INTERRUPTED: u8 = 130;

/// What `--help` says of it.
pub const STATUSES: &str = "Exit status: 0 all ran and was right; 1 something failed, such as a file, a device or a verification; 2 the \
                            command line is wrong; 3 a case is slower than --fail-if-slower-than allows; 130 ended by Ctrl-C.";

/// A failure with a status of its own. All others have 1.
#[derive(Debug)]
pub struct Exit {
    pub status: u8,
    pub text: String,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Exit {}

pub fn code(failure: &Failure) -> ExitCode {
    failure.downcast_ref::<Exit>().map_or(ExitCode::FAILURE, |exit| ExitCode::from(exit.status))
}
