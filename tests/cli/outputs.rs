//! Outputs that would overwrite what the command reads.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::command::tidegate;
use crate::given::Given;

/// A refused command line, which leaves the file as it is.
fn refuses(args: &[&OsStr], option: &str, kept: &Path) {
    let before = fs::read(kept).unwrap();
    let output = tidegate(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && output.stdout.is_empty(), "{args:?}: {:?}, {stderr}", output.status);
    let named = [option, "would be overwritten", "name another file"];
    assert!(stderr.lines().count() == 1 && named.iter().all(|text| stderr.contains(text)), "{stderr}");
    assert_eq!(fs::read(kept).unwrap(), before, "{args:?}");
}

/// The same file by other paths.
fn ways_to(given: &Given, name: &str) -> Vec<PathBuf> {
    let folder = &given.folder.0;
    let mut ways = vec![folder.join(name), folder.join(".").join("..").join(folder.file_name().unwrap()).join(name)];
    #[cfg(unix)]
    {
        let link = folder.join(format!("link to {name}"));
        std::os::unix::fs::symlink(folder.join(name), &link).unwrap();
        ways.push(link);
    }
    ways
}

#[test]
fn no_command_overwrites_its_inputs() {
    let given = Given::lstm();
    given.write();
    let [model, input] = ["model.safetensors", "input.safetensors"].map(|name| given.folder.path(name));
    for kept in [&model, &input] {
        for way in ways_to(&given, kept.file_name().unwrap().to_str().unwrap()) {
            for (command, option) in [("run", "--output"), ("gates", "--html")] {
                refuses(&[command.as_ref(), model.as_ref(), input.as_ref(), option.as_ref(), way.as_ref()], option, kept);
            }
        }
    }
    // Nothing is read before: this is no report.
    let base = given.folder.path("base.json");
    fs::write(&base, "{}").unwrap();
    for way in ways_to(&given, "base.json") {
        refuses(&["compare".as_ref(), base.as_ref(), "--html".as_ref(), way.as_ref()], "--html", &base);
        for option in ["--json", "--html"] {
            let args = ["bench", "--device=cpu", "--fail-if-slower-than"].map(OsStr::new);
            refuses(&[&args[..], &[base.as_ref(), option.as_ref(), way.as_ref()]].concat(), option, &base);
        }
    }
    // Nor does one output take another's place.
    let (new, args) = (given.folder.path("new"), ["bench", "--device=cpu", "--json"].map(OsStr::new));
    refuses(&[&args[..], &[new.as_ref(), "--html".as_ref(), new.as_ref()]].concat(), "--html", &base);
    assert!(!new.exists());
}
