//! JavaScript as text: what tools write, made shorter and put together.

use std::collections::HashMap;

use crate::Result;

/// A module without comments and indentation, which a page would download; the documentation of calls is in the types.
pub fn bare(text: &str) -> String {
    let mut in_docs = false;
    let mut short = String::new();
    for line in text.lines().map(str::trim) {
        in_docs |= line.starts_with("/*");
        if !in_docs && !line.is_empty() && !line.starts_with("//") {
            short.push_str(line);
            short.push('\n');
        }
        in_docs &= !line.ends_with("*/");
    }
    short
}

/// Every word of a module that stands in `names` as it is called there: imports of the wasm have long names with a hash.
pub fn renamed(text: &str, names: &HashMap<String, String>) -> String {
    let in_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let mut made = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.find(|c| !in_word(c)).unwrap_or(rest.len()));
        made.push_str(names.get(word).map_or(word, String::as_str));
        let (between, next) = after.split_at(after.find(in_word).unwrap_or(after.len()));
        made.push_str(between);
        rest = next;
    }
    made
}

/// How the loader instantiates, and by what instead: a server that has no type for wasm serves too, as for the first module, and an
/// answer that is no wasm is told by its address and status.
const STREAMING: &str = "WebAssembly.instantiateStreaming(src, imports)";
const INSTANTIATE: &str = "async function instantiate(src, imports) {
const answer = await src;
if (!answer.ok) throw new Error(`${answer.url}: ${answer.status} ${answer.statusText}`);
return WebAssembly.instantiate(await answer.arrayBuffer(), imports);
}
";

/// A module with its loader, which it imports under the name `from`, in it: as modules of their own either would meet another copy of
/// the other where a page asks for one of them by an address with a query.
pub fn joined(module: &str, loader: &str, from: &str) -> Result<String> {
    let changed = |what: &str| format!("{what} is not what it was: see web/bindgen/src/text.rs");
    let (import, module) = module
        .strip_prefix("import * as ")
        .and_then(|rest| rest.split_once(&format!(" from \"{from}\"\n")))
        .ok_or_else(|| changed("the import of the loader"))?;
    let (_, loader) = loader.split_once("from \"./tidegate.js\";\n").ok_or_else(|| changed("the loader's import"))?;
    let (before, after) = loader.split_once(STREAMING).ok_or_else(|| changed("how the loader instantiates"))?;
    let exported = |line: &str| Some(line.strip_prefix("export const ")?.split_once(' ')?.0.to_string());
    let exports = loader.lines().filter_map(exported).collect::<Vec<_>>().join(", ");
    let loader = format!("{before}instantiate(src, imports){after}").replace("export const ", "const ");
    Ok(format!("{module}{loader}{INSTANTIATE}const {import} = {{ {exports} }};\n"))
}
