//! What `--help` looks like where it is no terminal's.

use crate::common::command::{command, fail};

#[test]
fn help_fits_eighty_columns() {
    for subcommand in [&[][..], &["devices"], &["inspect"], &["run"], &["gates"], &["bench"], &["compare"]] {
        for columns in ["80", "200"] {
            let output = command().args(subcommand).arg("--help").env("COLUMNS", columns).output().unwrap();
            assert!(output.status.success());
            let text = String::from_utf8(output.stdout).unwrap();
            let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
            assert!(text.contains("Usage: tidegate") && long.is_empty(), "{subcommand:?}: {long:?}");
        }
    }
}

/// As the usage has them.
#[test]
fn what_is_missing_is_listed_in_order() {
    assert_eq!(fail(["run"]), "tidegate: required and not given: <MODEL>, <INPUT>, --output <OUTPUT>\n");
}
