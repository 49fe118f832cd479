//! The rules of the house, read off its source: files and functions stay short, and no files need each other in a circle.

mod modules;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use modules::Tree;
use text::{Code, functions};

/// Most lines of a file and of a function.
const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 80;
/// Where Rust lies; the packages that are built apart from the crate among it.
const FOLDERS: [&str; 6] = ["src", "tests", "benches", "examples", "fuzz", "web"];
/// What is not this repository's own text.
const SKIPPED: [&str; 3] = ["target", "node_modules", "corpus"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_with(ending: &str, folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !SKIPPED.contains(&name) {
            files_with(ending, &path, found);
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
}

#[test]
fn files_and_functions_are_short() {
    let mut files = Vec::new();
    FOLDERS.iter().for_each(|folder| files_with("rs", &root().join(folder), &mut files));
    assert!(files.len() > 200, "only {} files were found", files.len());
    let mut long = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        let lines = text.lines().count();
        if lines > FILE_LINES {
            long.push(format!("{name} has {lines} lines, at most {FILE_LINES}: give each of its jobs a file"));
        }
        for (function, at, lines) in functions(&Code::new(&text)).into_iter().filter(|(.., lines)| *lines > FUNCTION_LINES) {
            long.push(format!("{name}:{at}: fn {function} has {lines} lines, at most {FUNCTION_LINES}"));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn no_files_need_each_other_in_a_circle() {
    let mut circles = Vec::new();
    for crate_root in ["src/lib.rs", "src/bin/tidegate/main.rs"] {
        let tree = Tree::read(&root().join(crate_root));
        assert!(tree.files() > 20 && tree.needs() > 40, "{crate_root}: {} files, {} needs", tree.files(), tree.needs());
        circles.extend(tree.circles().into_iter().map(|circle| {
            let needs = tree.needs_among(&circle).map(|(from, to, what)| format!("  {from} needs {to} for {what}"));
            format!("a circle of {} files:\n{}", circle.len(), needs.collect::<Vec<_>>().join("\n"))
        }));
    }
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

/// A shader that no file of Rust includes is dead.
#[test]
fn every_shader_is_included() {
    let (mut rust, mut shaders) = (Vec::new(), Vec::new());
    files_with("rs", &root().join("src"), &mut rust);
    files_with("wgsl", &root().join("shaders"), &mut shaders);
    assert!(shaders.len() > 60, "only {} shaders were found", shaders.len());
    let text: String = rust.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for shader in shaders {
        let file = shader.strip_prefix(root().join("shaders")).unwrap().to_str().unwrap();
        let name = file.strip_suffix(".wgsl").unwrap();
        let included = text.contains(&format!("shader!(\"{name}\")")) || text.contains(&format!("shaders/{file}"));
        assert!(included, "no file of src/ includes shaders/{file}");
    }
}

/// Only what every part of the crate may use lies loose in `src/`.
#[test]
fn src_holds_folders() {
    let entries = fs::read_dir(root().join("src")).unwrap().map(|entry| entry.unwrap().path());
    let mut loose: Vec<_> = entries.filter(|path| path.is_file()).map(|path| path.file_name().unwrap().to_owned()).collect();
    loose.sort();
    assert_eq!(loose, ["error.rs", "lib.rs"], "give the others a folder");
}

/// Readers on GitHub see what rustdoc hides: an example is a whole function instead.
#[test]
fn examples_in_documents_have_no_hidden_lines() {
    let mut found = Vec::new();
    files_with("md", &root().join("docs"), &mut found);
    found.push(root().join("README.md"));
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        let blocks = text.split("\n```").skip(1).step_by(2).filter(|block| block.starts_with("rust") || block.starts_with('\n'));
        for line in blocks.flat_map(str::lines) {
            let is_hidden = line.trim() == "#" || line.trim_start().starts_with("# ");
            assert!(!is_hidden, "{}: `{line}`", path.display());
        }
    }
}
