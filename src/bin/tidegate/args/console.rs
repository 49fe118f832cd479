//! What the user reads: one line for a failure, text for results.

use std::io::{ErrorKind, Write};

/// What ends a command: its text is the one line that the user sees.
pub type Failure = Box<dyn std::error::Error>;
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// One line on stderr, whatever names from files or texts from drivers hold.
pub fn complain(text: &str) {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    // There is nobody left to tell if this fails.
    let _ = writeln!(std::io::stderr(), "tidegate: {line}");
}

/// Writes to stdout. A reader that has seen enough, such as `head`, is no failure.
pub fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("cannot write to stdout: {error}").into()),
        _ => Ok(()),
    }
}
