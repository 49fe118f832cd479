//! Names of tensors as the table has them, and as a file has them.

use std::collections::BTreeSet;

/// A name as the table has it: parts of a path by dots, without Keras 2's `:0`.
fn plain(name: &str) -> String {
    name.strip_suffix(":0").unwrap_or(name).replace('/', ".")
}

/// What stands before a name of the table, if `name` ends with it.
pub(in crate::import) fn before<'n>(name: &'n str, told: &str) -> Option<&'n str> {
    let plain = plain(name);
    let prefix = plain.strip_suffix(told)?;
    (prefix.is_empty() || prefix.ends_with('.')).then(|| &name[..prefix.len()])
}

/// The name in the file that is `prefix` and then a name of the table.
pub(in crate::import) fn own_name<'f>(names: &BTreeSet<&'f str>, prefix: &str, told: &str) -> Option<&'f str> {
    [told.to_string(), told.replace('.', "/")].iter().find_map(|told| {
        let name = format!("{prefix}{told}");
        names.get(&*name).or_else(|| names.get(&*format!("{name}:0"))).copied()
    })
}
