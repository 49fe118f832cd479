//! Which file of a crate needs which: every path that it names, followed through re-exports to where the name is defined.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::text::Code;

/// A module's path from the crate's root.
type Name = Vec<String>;

struct Module {
    file: PathBuf,
    /// Names that it gives on, and where it has them from.
    exports: BTreeMap<String, Name>,
    /// Paths that its code names, as written, each from the module itself.
    paths: Vec<Name>,
}

/// A crate's modules, and the needs of their files.
pub struct Tree {
    modules: BTreeMap<Name, Module>,
    needs: BTreeMap<Name, BTreeMap<Name, String>>,
}

impl Tree {
    pub fn read(root: &Path) -> Self {
        let mut modules = BTreeMap::new();
        read_module(Name::new(), root, root.parent().unwrap(), &mut modules);
        let mut tree = Self { modules, needs: BTreeMap::new() };
        for (name, module) in &tree.modules {
            let found = module.paths.iter().filter_map(|path| Some((tree.definition(path, 0)?, path.join("::"))));
            let others: BTreeMap<Name, String> = found.filter(|(to, _)| to != name).collect();
            tree.needs.insert(name.clone(), others);
        }
        tree
    }

    pub fn files(&self) -> usize {
        self.modules.len()
    }

    pub fn needs(&self) -> usize {
        self.needs.values().map(BTreeMap::len).sum()
    }

    /// The module that defines what a path from the root names.
    fn definition(&self, path: &[String], depth: usize) -> Option<Name> {
        let known = (0..=path.len()).rev().find(|&len| self.modules.contains_key(&path[..len]))?;
        let (module, rest) = path.split_at(known);
        let export = rest.first().and_then(|name| self.modules[module].exports.get(name));
        match export {
            // Deep enough for every chain of re-exports.
            Some(from) if depth < 8 => self.definition(&[from, &rest[1..]].concat(), depth + 1),
            _ if module.is_empty() && rest.is_empty() => None,
            _ => Some(module.to_vec()),
        }
    }

    /// Sets of modules each of which needs, in the end, every other.
    pub fn circles(&self) -> Vec<BTreeSet<Name>> {
        let reached: BTreeMap<&Name, BTreeSet<&Name>> = self.modules.keys().map(|name| (name, self.reached(name))).collect();
        let mut circles = BTreeSet::new();
        for (name, others) in &reached {
            let circle: BTreeSet<Name> =
                others.iter().filter(|other| reached[**other].contains(name)).map(|n| (*n).clone()).collect();
            if !circle.is_empty() {
                circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }

    fn reached<'a>(&'a self, from: &'a Name) -> BTreeSet<&'a Name> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(name) = open.pop() {
            open.extend(self.needs[name].keys().filter(|next| seen.insert(*next)));
        }
        seen
    }

    /// Who needs whom within a circle, and the path that says so.
    pub fn needs_among<'a>(&'a self, circle: &'a BTreeSet<Name>) -> impl Iterator<Item = (String, String, &'a str)> {
        let file = |name: &Name| self.modules[name].file.display().to_string();
        circle.iter().flat_map(move |from| {
            let others = self.needs[from].iter().filter(|(to, _)| circle.contains(*to));
            others.map(move |(to, what)| (file(from), file(to), what.as_str()))
        })
    }
}

/// Reads a module and those that it declares; `folder` is where their files lie.
fn read_module(name: Name, file: &Path, folder: &Path, modules: &mut BTreeMap<Name, Module>) {
    let code = Code::new(&fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))).without_tests();
    let mut children = Vec::new();
    for item in code.text().split([';', '}', '{']) {
        let words: Vec<&str> = item.split_whitespace().collect();
        if let [.., "mod", child] = words[..] {
            children.push(child.to_string());
        }
    }
    for child in children {
        let (flat, nested) = (folder.join(format!("{child}.rs")), folder.join(&child).join("mod.rs"));
        let file = if flat.is_file() { flat } else { nested };
        if file.is_file() {
            read_module([&name[..], std::slice::from_ref(&child)].concat(), &file, &folder.join(&child), modules);
        }
    }
    let mut module = Module { file: file.into(), exports: BTreeMap::new(), paths: Vec::new() };
    let children = |path: &[String]| modules.contains_key(path);
    let mut rest = String::new();
    for item in split_uses(code.text()) {
        match item {
            Item::Use { public, tree } => {
                for (path, alias) in expand(&tree) {
                    let Some(path) = from_root(&name, &path, &children) else { continue };
                    if public {
                        module.exports.insert(alias, path);
                    } else {
                        module.paths.push(path);
                    }
                }
            }
            Item::Other(text) => rest.push_str(text),
        }
    }
    // Who may see an item says nothing of what it needs.
    let rest = rest.replace("(in crate::", "(in ");
    let inline = rest.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).filter(|word| word.contains("::"));
    module.paths.extend(inline.filter_map(|word| from_root(&name, &segments(word), &children)));
    modules.insert(name, module);
}

enum Item<'a> {
    Use { public: bool, tree: String },
    Other(&'a str),
}

/// A text by its `use` declarations and what is between them.
fn split_uses(text: &str) -> Vec<Item<'_>> {
    let (mut items, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find("use ").filter(|_| !rest.is_empty()) {
        let starts_a_word = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let Some(end) = rest[at..].find(';').filter(|_| starts_a_word) else {
            items.push(Item::Other(&rest[..at + 4]));
            rest = &rest[at + 4..];
            continue;
        };
        let before = &rest[..at];
        let public = before.trim_end().ends_with("pub")
            || before.trim_end().ends_with(')')
                && before.trim_end().rfind("pub(").is_some_and(|open| !before[open..].contains('\n'));
        items.push(Item::Other(before));
        items.push(Item::Use { public, tree: rest[at + 4..at + end].split_whitespace().collect::<Vec<_>>().join(" ") });
        rest = &rest[at + end + 1..];
    }
    items.push(Item::Other(rest));
    items
}

/// Every path of `a::{b, c as d}`, and the name that it goes by.
fn expand(tree: &str) -> Vec<(Name, String)> {
    let Some((prefix, group)) = tree.split_once('{') else {
        let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias)));
        let mut path = segments(path);
        path.retain(|segment| segment != "self" || path_is_self(tree));
        let alias = alias.map(|alias| alias.trim().to_string()).or_else(|| path.last().cloned()).unwrap_or_default();
        return vec![(path, alias)];
    };
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let (mut parts, mut depth, mut part) = (Vec::new(), 0, String::new());
    for c in group.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            parts.push(std::mem::take(&mut part));
        } else {
            part.push(c);
        }
    }
    parts.push(part);
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(|part| expand(&format!("{}{part}", prefix.trim()))).collect()
}

/// Whether a path begins with `self`, as those within a module do.
fn path_is_self(tree: &str) -> bool {
    tree.trim_start().starts_with("self::")
}

fn segments(path: &str) -> Name {
    path.split("::").map(str::trim).filter(|segment| !segment.is_empty()).map(String::from).collect()
}

/// A path as the crate's root sees it; nothing of another crate's.
fn from_root(module: &[String], path: &[String], is_module: &impl Fn(&[String]) -> bool) -> Option<Name> {
    let first = path.first()?.as_str();
    let up = path.iter().take_while(|segment| *segment == "super").count();
    let mut path = match first {
        "crate" => path[1..].to_vec(),
        "self" => [module, &path[1..]].concat(),
        "super" => [&module[..module.len().checked_sub(up)?], &path[up..]].concat(),
        _ => {
            let own = [module, &path[..1]].concat();
            if !is_module(&own) {
                return None;
            }
            [module, path].concat()
        }
    };
    if path.last().is_some_and(|last| last == "*") {
        path.pop();
    }
    Some(path)
}
