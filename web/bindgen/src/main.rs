//! `tidegate-bindgen IN.wasm OUT_DIR`: makes the ES module, the types and the final wasm. The command of wasm-bindgen must be of
//! exactly the version that the wasm was built with; as a library the lock file sees to that.

use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, out] = &arguments[..] else {
        eprintln!("usage: tidegate-bindgen IN.wasm OUT_DIR");
        return ExitCode::from(2);
    };
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    bindgen.input_path(input).out_name("tidegate").typescript(true).omit_default_module_path(false);
    bindgen.remove_name_section(true).remove_producers_section(true);
    let made = bindgen.web(true).and_then(|web| web.generate(out));
    let made = made.and_then(|()| Ok(without_docs(&Path::new(out).join("tidegate.js"))?));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate-bindgen: {input}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Leaves the documentation of calls to the types: a page downloads the module alone.
fn without_docs(module: &Path) -> io::Result<()> {
    let mut in_docs = false;
    let text = fs::read_to_string(module)?;
    let mut short = String::new();
    for line in text.lines() {
        in_docs |= line.trim_start().starts_with("/**");
        if !in_docs {
            short.push_str(line);
            short.push('\n');
        }
        in_docs &= !line.trim_end().ends_with("*/");
    }
    fs::write(module, short)
}
