//! What the crate depends on: licences that `deny.toml` allows, no crate that it bans, one registry. And what its files
//! depend on: only layers below their own, and no file on itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod file_circles;

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// The strings of one array of `deny.toml`, `licenses.allow` or `bans.deny`.
fn denied_or_allowed(section: &str, key: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml")).unwrap();
    let section = text.split(&format!("[{section}]")).nth(1).expect("the section is there");
    let array = section.split(&format!("\n{key} = [")).nth(1).and_then(|rest| rest.split("\n]").next());
    let lines = array.expect("the array is there").lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
}

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Whether a licence expression (SPDX, or the older `A/B`) can be satisfied by what is allowed.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = expression.split_whitespace().collect();
    let mut position = 0;
    either(&words, &mut position, allowed)
}

fn either(words: &[&str], position: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut holds = both(words, position, allowed);
    while words.get(*position) == Some(&"OR") {
        *position += 1;
        holds |= both(words, position, allowed);
    }
    holds
}

fn both(words: &[&str], position: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut holds = one(words, position, allowed);
    while words.get(*position) == Some(&"AND") {
        *position += 1;
        holds &= one(words, position, allowed);
    }
    holds
}

fn one(words: &[&str], position: &mut usize, allowed: &BTreeSet<String>) -> bool {
    if words[*position] == "(" {
        *position += 1;
        let holds = either(words, position, allowed);
        *position += 1;
        return holds;
    }
    let mut licence = words[*position].to_owned();
    *position += 1;
    if words.get(*position) == Some(&"WITH") {
        licence = format!("{licence} WITH {}", words[*position + 1]);
        *position += 2;
    }
    allowed.contains(&licence)
}

#[test]
fn every_licence_is_an_allowed_one() {
    let allowed = denied_or_allowed("licenses", "allow");
    for package in packages() {
        let (name, licence) = (&package["name"], package["license"].as_str().unwrap_or("none stated"));
        assert!(satisfied(licence, &allowed), "{name} is under `{licence}`");
    }
}

#[test]
fn no_banned_crate_is_depended_on() {
    let banned = denied_or_allowed("bans", "deny");
    assert!(banned.contains("openssl-sys"));
    for package in packages() {
        assert!(!banned.contains(package["name"].as_str().unwrap()), "{} is banned", package["name"]);
    }
}

#[test]
fn every_dependency_comes_from_the_one_registry() {
    for package in packages() {
        let source =
            package["source"].as_str().unwrap_or("registry+https://github.com/rust-lang/crates.io-index");
        assert!(source.starts_with("registry+https://github.com/rust-lang/crates.io-index"), "{source}");
    }
}

/// The layers, lowest first: a file uses only those before its own.
const LAYERS: [&str; 12] = [
    "host_files",
    "spec",
    "engine",
    "storage",
    "sweep",
    "bind_check",
    "plan",
    "data",
    "agent",
    "session",
    "report",
    "cli",
];

fn rust_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    if !folder.is_dir() {
        return vec![folder.with_extension("rs")];
    }
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let nested = entries.map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] });
    nested.flatten().filter(|path| path.extension().is_some_and(|it| it == "rs")).collect()
}

#[test]
fn a_layer_uses_only_those_below_it() {
    let src = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut wrong = Vec::new();

    for (level, layer) in LAYERS.iter().enumerate() {
        for file in rust_files(&src.join(layer)) {
            let text = std::fs::read_to_string(&file).unwrap();
            for (number, line) in
                text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
            {
                let above = LAYERS[level + 1..].iter().find(|it| line.contains(&format!("crate::{it}")));
                if let Some(above) = above {
                    wrong.push(format!("{}:{}: {layer} uses {above}", file.display(), number + 1));
                }
            }
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn foreign_types_stay_in_their_layer() {
    let src = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut wrong = Vec::new();

    for (package, layer) in [("bollard", "engine"), ("clap", "cli"), ("serde_yaml", "spec")] {
        for file in rust_files(src).into_iter().filter(|file| !file.starts_with(src.join(layer))) {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            if code.into_iter().any(|line| line.contains(&format!("{package}::"))) {
                wrong.push(format!("{} uses {package}", file.display()));
            }
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
