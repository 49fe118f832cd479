//! Files in, files out: whole or not at all.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::{Failure, Result};

/// A failure with the file's name before it.
pub fn at(path: &Path, failure: impl Into<Failure>) -> Failure {
    format!("{}: {}", path.display(), failure.into()).into()
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| at(path, error))
}

/// Replaces the file at once: it is written beside its place and then renamed, so that no reader ever sees a part of it and
/// a failure leaves the old one.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    // A link stays, its target is replaced.
    let target = path.canonicalize().unwrap_or_else(|_| path.into());
    if target.exists() && !target.is_file() {
        return Err(at(path, "not a regular file"));
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = folder.join(format!(".tidegate-{}.tmp", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary).map_err(|error| at(path, error))?;
    let written = file.write_all(bytes).and_then(|()| fs::rename(&temporary, &target));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        at(path, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("tidegate-files-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a");
        for text in ["one", "two"] {
            write(&path, text.as_bytes()).unwrap();
            assert_eq!(read(&path).unwrap(), text.as_bytes());
        }
        assert!(write(&folder, b"three").unwrap_err().to_string().ends_with("not a regular file"));
        // What is named is what was asked for, not the file beside it.
        let error = write(&folder.join("none/a"), b"four").unwrap_err().to_string();
        assert!(error.contains("none/a: ") && !error.contains(".tmp"), "{error}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
