//! No files of `src` import each other in a circle.
//!
//! A `mod.rs` stands for its folder: imports between it and the files below it do not count. An import of a name that a
//! `pub use` passes on counts as an import of the file that defines the name. Tests do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A module's path below the crate, such as `session`, `build`, `bake`.
type Module = Vec<String>;

struct Import {
    path: Vec<String>,
    is_public: bool,
}

/// The imports of each file.
struct Sources(BTreeMap<Module, Vec<Import>>);

impl Sources {
    fn read(src: &Path) -> Self {
        let files = super::rust_files(src).into_iter().filter(|file| !file.ends_with("main.rs"));
        let imports = files.map(|file| {
            let below = file.strip_prefix(src).unwrap().with_extension("");
            let mut module: Module = below.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            module.pop_if(|last| *last == "mod" || *last == "lib");
            (module, imports(&std::fs::read_to_string(&file).unwrap()))
        });
        Self(imports.filter(|(module, _)| !module.iter().any(|part| part == "tests")).collect())
    }

    /// The file that defines what a path names in a module; `None` if it is not in this crate.
    fn defining(
        &self,
        module: &[String],
        path: &[String],
        seen: &mut BTreeSet<Vec<String>>,
    ) -> Option<Module> {
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" => (Module::new(), &path[1..]),
            "self" => (module.to_vec(), &path[1..]),
            "super" => (module.to_vec(), path),
            child => self
                .0
                .contains_key(&[module, &[child.to_owned()]].concat())
                .then(|| (module.to_vec(), path))?,
        };
        while let [first, others @ ..] = rest {
            let below = [at.as_slice(), std::slice::from_ref(first)].concat();
            match first.as_str() {
                "super" => drop(at.pop()),
                _ if self.0.contains_key(&below) => at = below,
                _ => break,
            }
            rest = others;
        }
        let passed_on = rest.first().filter(|_| seen.insert([&at, rest].concat())).and_then(|name| {
            let named = |import: &&Import| import.is_public && import.path.last() == Some(name);
            let import = self.0.get(&at)?.iter().find(named)?;
            self.defining(&at, &import.path, seen)
        });
        passed_on.or(Some(at))
    }

    /// The files that each file imports.
    fn arrows(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let arrows = self.0.iter().map(|(module, imports)| {
            let used = imports.iter().filter(|import| !import.is_public);
            let to = used.filter_map(|import| self.defining(module, &import.path, &mut BTreeSet::new()));
            (module.clone(), to.filter(|to| !module.starts_with(to) && !to.starts_with(module)).collect())
        });
        arrows.collect()
    }
}

/// The paths that a file imports, and those that it names in full.
fn imports(text: &str) -> Vec<Import> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default().trim());
    let mut found = Vec::new();
    for statement in lines.collect::<Vec<_>>().join(" ").split_inclusive([';', '{', '}']) {
        found.extend(full_paths(statement).map(|path| Import { path, is_public: false }));
    }
    let mut left = code.lines().map(str::trim);
    while let Some(line) = left.next() {
        let (visibility, tree) = match line.split_once("use ") {
            Some((visibility, tree)) if visibility.is_empty() || visibility.starts_with("pub") => {
                (visibility, tree)
            }
            _ => continue,
        };
        let mut tree = tree.to_owned();
        while !tree.contains(';') {
            let Some(line) = left.next() else { break };
            tree.push_str(line);
        }
        let is_public = !visibility.is_empty();
        let mut paths = Vec::new();
        expand(&[], tree.split(';').next().unwrap_or_default(), &mut paths);
        found.extend(paths.into_iter().map(|path| Import { path, is_public }));
    }
    found
}

/// Paths outside of `use` that begin with `crate::` or `super::`.
fn full_paths(statement: &str) -> impl Iterator<Item = Vec<String>> {
    let statement = if statement.contains("use ") { "" } else { statement };
    let words = statement.split(|it: char| !(it.is_alphanumeric() || it == '_' || it == ':'));
    let paths = words.filter(|word| word.starts_with("crate::") || word.starts_with("super::"));
    paths.map(|path| path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect())
}

/// The paths of a tree such as `a::{b, c::{d, e}}`.
fn expand(before: &[String], tree: &str, paths: &mut Vec<Vec<String>>) {
    let (head, group) = tree.split_once('{').map_or((tree, None), |(head, group)| (head, Some(group)));
    let head = head.split(" as ").next().unwrap_or_default();
    let parts = head.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned);
    let path: Vec<String> = before.iter().cloned().chain(parts).collect();
    let Some(group) = group else { return paths.push(path) };
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                if !group[start..at].trim().is_empty() {
                    expand(&path, &group[start..at], paths);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// A circle through this file, if there is one.
fn circle(from: &Module, arrows: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<Module>> {
    let mut ways = vec![vec![from.clone()]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        for next in arrows.get(way.last()?).into_iter().flatten() {
            if next == from {
                return Some(way);
            }
            if seen.insert(next) {
                ways.push(way.iter().chain([next]).cloned().collect());
            }
        }
    }
    None
}

fn circles(src: &Path) -> Vec<String> {
    let arrows = Sources::read(src).arrows();
    let circles: BTreeSet<Vec<Module>> = arrows
        .keys()
        .filter_map(|module| circle(module, &arrows))
        .map(|mut circle| {
            circle.sort();
            circle
        })
        .collect();
    let name = |module: &Module| module.join("::");
    circles.iter().map(|circle| circle.iter().map(name).collect::<Vec<_>>().join(" <-> ")).collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let src = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));

    let circles = circles(src);

    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn a_circle_through_a_re_export_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("lib.rs", "mod client;\nmod store;\n");
    write("client/mod.rs", "mod link;\npub use link::{Link, Other as Far};\nuse link::open;\n");
    write("client/link.rs", "use super::open;\nuse crate::store::{self, TAG};\n");
    write("store.rs", "use std::fs;\nuse crate::client::Link;\n");

    assert_eq!(circles(folder.path()), ["client::link <-> store"]);
}
