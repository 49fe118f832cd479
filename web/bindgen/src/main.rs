//! `tidegate-bindgen IN.wasm OUT_DIR`: makes the ES module, the types and the final wasm, and the module that is loaded when it is
//! asked for. The command of wasm-bindgen must be of exactly the version that the wasm was built with; as a library the lock file sees
//! to that.

mod text;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use walrus::ModuleConfig;
use wasm_bindgen_cli_support::Bindgen;

use text::{bare, joined, renamed};

/// What loads the second module, before it is joined to the first one's JavaScript.
const SPLIT: &str = "./tidegate_split.js";

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
    (options.link_name, options.main_module) = (SPLIT, "./tidegate.js");
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
    let [module, loader] = ["tidegate.js", SPLIT].map(|name| out.join(name));
    let text = renamed(&bare(&fs::read_to_string(&module)?), &short);
    fs::write(&module, joined(&text, &bare(&fs::read_to_string(&loader)?), SPLIT)?)?;
    Ok(fs::remove_file(loader)?)
}
