//! Every WGSL module that any cell can ask for parses and validates, without a device.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use naga::valid::{Capabilities, ValidationFlags, Validator};
use tidegate::check::shader_sources;

/// naga's verdict on one module.
fn validate(source: &str) -> Result<(), String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    // What goes beyond plain WebGPU, and only where the device has it.
    let half = Capabilities::SHADER_FLOAT16 | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let capabilities = Capabilities::IMMEDIATES | Capabilities::SUBGROUP | Capabilities::COOPERATIVE_MATRIX | half;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.validate(&module).map(drop).map_err(|e| e.emit_to_string(source))
}

/// Every source that differs, with its cell and the file of its entry point.
fn all_sources() -> BTreeMap<String, (String, &'static str)> {
    let mut sources = BTreeMap::new();
    for (name, cell) in common::cell_variants() {
        for (entry, source) in shader_sources(&*cell) {
            sources.entry(source).or_insert((name.clone(), entry));
        }
    }
    sources
}

#[test]
fn every_shader_is_valid() {
    let sources: Vec<_> = all_sources().into_iter().collect();
    let entries: BTreeSet<_> = sources.iter().map(|(_, (_, entry))| *entry).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for sources in sources.chunks(sources.len().div_ceil(threads)) {
            let check = |(source, (cell, entry)): &(String, (String, &str))| {
                validate(source).unwrap_or_else(|e| panic!("{cell}: {entry}: {e}"));
            };
            scope.spawn(move || sources.iter().for_each(check));
        }
    });
    let expected = files_of_kernels();
    assert_eq!(entries, expected.iter().map(String::as_str).collect());
}

/// Files that kernels of another file include, by what the device has or is asked for.
const PARTS: [&str; 4] = ["product/cpu_memory", "product/cpu_shuffle", "train/counted_labels", "train/counted_rows"];

/// The files of `shaders/` that are a kernel's own: not those of cells and operands, nor what others need.
fn files_of_kernels() -> BTreeSet<String> {
    let (mut files, mut needed) = (BTreeSet::new(), BTreeSet::new());
    let shaders = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    for folder in fs::read_dir(&shaders).unwrap().map(|folder| folder.unwrap().path()) {
        for file in fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
            let name = file.strip_prefix(&shaders).unwrap().with_extension("").to_str().unwrap().replace('\\', "/");
            let text = fs::read_to_string(file).unwrap();
            let lines = text.lines().filter_map(|line| line.strip_prefix("// needs: "));
            needed.extend(lines.flat_map(str::split_whitespace).map(str::to_string));
            files.insert(name);
        }
    }
    let of_others = ["cell/", "operand/", "shared/"];
    files.retain(|file| {
        !needed.contains(file) && !PARTS.contains(&&**file) && !of_others.iter().any(|folder| file.starts_with(folder))
    });
    files
}

/// Tint does not zero such a variable again in the next turn of a loop, as WGSL wants.
#[test]
fn local_variables_are_given_a_value() {
    for (source, (cell, entry)) in all_sources() {
        let bare: Vec<&str> = source.lines().filter(|line| leaves_a_variable_bare(line)).collect();
        assert!(bare.is_empty(), "{cell}: {entry}: {bare:?}");
    }
    assert!(leaves_a_variable_bare("for (var i = 0u; i < 4u; i++) { var sum: array<f32, 4>; }"));
    assert!(leaves_a_variable_bare("    var sum : f32 ;"));
    assert!(!leaves_a_variable_bare("var sum: f32 = 0.0; var<workgroup> held: array<f32, 64>; // var sum: f32;"));
}

/// Whether a line has a `var name: type;`, which in WGSL only functions can have: others name their address space.
fn leaves_a_variable_bare(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.split([';', '{', '}']).any(|statement| {
        let declaration = statement.trim_start().strip_prefix("var ");
        declaration.is_some_and(|rest| !rest.contains('='))
    })
}

/// For `web/tests/shaders.mjs`, which has browsers' own compiler read them, and `tests/same_shaders`, which compares two such folders.
#[test]
#[ignore = "writes files: names their folder in TIDEGATE_SHADERS"]
fn write_every_shader() {
    let folder = std::env::var_os("TIDEGATE_SHADERS").expect("TIDEGATE_SHADERS names a folder");
    fs::create_dir_all(&folder).unwrap();
    for (number, (source, (cell, entry))) in all_sources().into_iter().enumerate() {
        let name = format!("{}-{number}.wgsl", entry.replace('/', "."));
        fs::write(Path::new(&folder).join(name), format!("// {cell}: {entry}\n{source}")).unwrap();
    }
}

/// WGSL forbids them side by side, and naga lets it pass: browsers do not.
#[test]
fn and_and_or_stand_in_parentheses() {
    let shaders = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let folders = fs::read_dir(shaders).unwrap().map(|folder| folder.unwrap().path());
    let files: Vec<_> = folders.flat_map(|folder| fs::read_dir(folder).unwrap()).collect();
    assert!(!files.is_empty());
    for path in files.into_iter().map(|file| file.unwrap().path()) {
        let text = fs::read_to_string(&path).unwrap();
        let mixed: Vec<&str> = text.lines().filter(|line| mixes_and_with_or(line)).collect();
        assert!(mixed.is_empty(), "{}: {mixed:?}", path.display());
    }
    assert!(mixes_and_with_or("if a == 1u && !b || c { f(); }"));
    assert!(!mixes_and_with_or("if (a == f(1u) && !b) || c { f(); }"));
}

/// Whether a line has both operators outside of the same parentheses.
fn mixes_and_with_or(line: &str) -> bool {
    // For each open parenthesis, and the line itself, whether `&&` and `||` were seen in it.
    let mut levels = vec![[false; 2]];
    for pair in line.split("//").next().unwrap_or_default().as_bytes().windows(2) {
        let level = levels.last_mut().expect("the line's own is never taken");
        match pair {
            b"&&" => level[0] = true,
            b"||" => level[1] = true,
            _ => {}
        }
        if *level == [true; 2] {
            return true;
        }
        match pair[0] {
            b'(' => levels.push([false; 2]),
            b')' if levels.len() > 1 => drop(levels.pop()),
            b'{' | b';' | b',' => *levels.last_mut().expect("as above") = [false; 2],
            _ => {}
        }
    }
    false
}

#[test]
fn a_broken_shader_is_not() {
    let (_, cell) = common::cell_variants().remove(0);
    for (entry, source) in shader_sources(&*cell) {
        // Comments may name sizes too.
        let code: String = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        let broken = code.replacen("sizes.", "sizes.no_such_", 1);
        assert_ne!(code, broken, "{entry}");
        assert!(validate(&broken).is_err(), "{entry}");
    }
}
