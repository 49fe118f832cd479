//! Names of tensors as the table has them, and as a file has them.

use std::collections::BTreeSet;

/// A name as the table has it: parts of a path by dots, without Keras 2's `:0`.
fn plain(name: &str) -> String {
    name.strip_suffix(":0").unwrap_or(name).replace('/', ".")
}

/// What a part of the table may be called otherwise: Flax' nnx cannot name a gate by a keyword of Python.
fn spelled(told: &str) -> impl Iterator<Item = String> {
    let keyword = told.strip_prefix("if.").map(|rest| format!("if_.{rest}"));
    std::iter::once(told.to_string()).chain(keyword)
}

/// What stands before a name of the table, if `name` ends with it.
pub(in crate::import) fn before<'n>(name: &'n str, told: &str) -> Option<&'n str> {
    let plain = plain(name);
    let mut prefixes = spelled(told).filter_map(|told| Some(plain.strip_suffix(&*told)?.len()));
    prefixes.find(|&at| at == 0 || plain.as_bytes()[at - 1] == b'.').map(|at| &name[..at])
}

/// The name in the file that is `prefix` and then a name of the table.
pub(in crate::import) fn own_name<'f>(names: &BTreeSet<&'f str>, prefix: &str, told: &str) -> Option<&'f str> {
    spelled(told).flat_map(|told| [told.replace('.', "/"), told]).find_map(|told| {
        let name = format!("{prefix}{told}");
        names.get(&*name).or_else(|| names.get(&*format!("{name}:0"))).copied()
    })
}
