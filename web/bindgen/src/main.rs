//! `tidegate-bindgen IN.wasm OUT_DIR`: makes the ES module, the types and the final wasm, and the module that is loaded when it is
//! asked for. The command of wasm-bindgen must be of exactly the version that the wasm was built with; as a library the lock file sees
//! to that.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use walrus::ModuleConfig;
use wasm_bindgen_cli_support::Bindgen;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, out] = &arguments[..] else {
        eprintln!("usage: tidegate-bindgen IN.wasm OUT_DIR");
        return ExitCode::from(2);
    };
    match made(Path::new(input), Path::new(out)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate-bindgen: {input}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn made(input: &Path, out: &Path) -> Result<()> {
    let whole = fs::read(input).map_err(|error| format!("it cannot be read: {error}"))?;
    let main = out.join("main.wasm");
    let mut options = wasm_split_cli_support::Options::new(&whole);
    (options.output_dir, options.main_out_path) = (out, &main);
    (options.link_name, options.main_module) = ("./tidegate_split.js", "./tidegate.js");
    let split = wasm_split_cli_support::transform(options).map_err(|error| format!("it cannot be split: {error:#}"))?;
    // As wasm-bindgen writes the main one: without names, and every number in as few bytes as it needs.
    let mut config = ModuleConfig::new();
    config.generate_name_section(false).generate_producers_section(false);
    for path in split.split_modules {
        config.parse_file(&path)?.emit_wasm_file(&path)?;
    }

    let mut bindgen = Bindgen::new();
    bindgen.input_path(&main).out_name("tidegate").typescript(true).omit_default_module_path(false);
    // The part that is loaded later shares the table of functions.
    bindgen.keep_lld_exports(true);
    bindgen.remove_name_section(true).remove_producers_section(true);
    let mut output = bindgen.web(true)?.generate_output()?;
    let mut short = HashMap::new();
    for import in output.wasm_mut().imports.iter_mut().filter(|import| import.module == "./tidegate_bg.js") {
        let name = format!("_{}", short.len());
        short.insert(std::mem::replace(&mut import.name, name.clone()), name);
    }
    output.emit(out)?;
    fs::remove_file(main)?;
    rewrite(&out.join("tidegate.js"), |text| Ok(renamed(&bare(text), &short)))?;
    rewrite(&out.join("tidegate_split.js"), |text| {
        let text = bare(text);
        let [before, after] =
            text.split(STREAMING).collect::<Vec<_>>().try_into().map_err(|_| "tidegate_split.js has changed")?;
        Ok(format!("{before}instantiate(src, imports){after}{INSTANTIATE}"))
    })
}

/// How the part that is loaded later is instantiated, and by what instead: a server that has no type for wasm is served too, as the
/// main module's loader does it, and an answer that is no wasm is told by its address and status.
const STREAMING: &str = "WebAssembly.instantiateStreaming(src, imports)";
const INSTANTIATE: &str = "async function instantiate(src, imports) {
const answer = await src;
if (!answer.ok) throw new Error(`${answer.url}: ${answer.status} ${answer.statusText}`);
return WebAssembly.instantiate(await answer.arrayBuffer(), imports);
}
";

fn rewrite(path: &Path, change: impl FnOnce(&str) -> Result<String>) -> Result<()> {
    Ok(fs::write(path, change(&fs::read_to_string(path)?)?)?)
}

/// A module without comments and indentation, which a page would download; the documentation of calls is in the types.
fn bare(text: &str) -> String {
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
fn renamed(text: &str, names: &HashMap<String, String>) -> String {
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
