//! What the documents say: every path that they name exists, and every spec in them is valid.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents for readers, by path, without the changelog, which names what is no longer there.
fn documents() -> Vec<(PathBuf, String)> {
    let markdown = |folder: &str| {
        let entries = fs::read_dir(repository().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|it| it == "md")).collect::<Vec<_>>()
    };
    let paths = ["", "man", "fuzz"].into_iter().flat_map(markdown);
    let paths = paths.filter(|path| !path.ends_with("CHANGELOG.md"));
    paths.map(|path| (path.clone(), fs::read_to_string(&path).unwrap())).collect()
}

/// The blocks of one language, without their fences.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// The text outside of blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// Whether a path of the repository, or of `src/`, exists; a module may be named without its ending.
fn exists(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let below = |root: PathBuf| root.join(path).exists() || root.join(format!("{path}.rs")).exists();
    below(repository().to_owned()) || below(repository().join("src"))
}

/// Whether the first part of a path is a folder of the repository or a layer.
fn is_ours(path: &str) -> bool {
    let first = path.split('/').next().unwrap();
    !first.is_empty() && path.contains('/') && !path.contains('*') && (exists(first) || first == "src")
}

#[test]
fn every_path_in_a_document_exists() {
    let quoted = Regex::new("`([A-Za-z0-9_./-]+)`").unwrap();
    let mut missing = Vec::new();
    for (document, text) in documents() {
        let prose = prose(&text);
        for path in quoted.captures_iter(&prose).map(|it| it.extract::<1>().1[0]) {
            if is_ours(path) && !path.starts_with("target/") && !exists(path) {
                missing.push(format!("{}: `{path}`", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn every_link_in_a_document_leads_to_a_file() {
    let link = Regex::new(r"\]\(([^)#:]+)\)").unwrap();
    let mut missing = Vec::new();
    for (document, text) in documents() {
        for target in link.captures_iter(&text).map(|it| it.extract::<1>().1[0]) {
            if !document.parent().unwrap().join(target).exists() {
                missing.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Each `a::b::c` of ARCHITECTURE.md: the modules are files, and the last of them contains what follows.
#[test]
fn every_module_in_the_architecture_exists() {
    let text = fs::read_to_string(repository().join("ARCHITECTURE.md")).unwrap();
    let module = Regex::new("`([a-z_]+(?:::[A-Za-z_]+)+)`").unwrap();
    let mut missing = Vec::new();
    for path in module.captures_iter(&text).map(|it| it.extract::<1>().1[0]) {
        let parts: Vec<&str> = path.split("::").collect();
        let depth = (1..=parts.len()).rev().find(|depth| exists(&parts[..*depth].join("/"))).unwrap_or(0);
        let found = depth > 0
            && parts[depth..]
                .iter()
                .all(|item| contains(&repository().join("src").join(parts[..depth].join("/")), item));
        if !found {
            missing.push(path);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// Whether a word occurs in a module's files.
fn contains(module: &Path, word: &str) -> bool {
    let file = module.with_extension("rs");
    if fs::read_to_string(file).is_ok_and(|text| text.contains(word)) {
        return true;
    }
    let Ok(entries) = fs::read_dir(module) else { return false };
    entries.map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            contains(&path, word)
        } else {
            fs::read_to_string(path).is_ok_and(|text| text.contains(word))
        }
    })
}

/// Whether a block of YAML begins with the path of a file that is not a spec.
fn is_of_another_file(block: &str) -> bool {
    ["# ~/", "# .github/", "# .gitlab-ci.yml"].iter().any(|path| block.starts_with(path))
}

#[test]
fn every_spec_in_a_document_is_valid() {
    let project = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("seeds/10-schema.sql", "create table t(x int);\n"),
        ("orders.sql.zst", ""),
        ("web/Dockerfile", "FROM scratch\n"),
        ("uploads/logo.svg", "<svg/>\n"),
    ] {
        let path = project.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let mut checked = 0;
    for (document, text) in documents() {
        for spec in blocks(&text, "yaml").into_iter().filter(|block| !is_of_another_file(block)) {
            fs::write(project.path().join("sandbox.yaml"), spec).unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
            command
                .args(["config", "--quiet"])
                .current_dir(project.path())
                .env_clear()
                .env("HOME", project.path());
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{}\n{spec}\n{said}", document.display());
            checked += 1;
        }
    }
    assert!(checked > 4, "only {checked} specs were found");
}

/// A message of `man/troubleshooting.md` is a heading; `…` stands for what varies.
#[test]
fn every_message_in_the_troubleshooting_guide_is_one_of_ours() {
    let source = sources(&repository().join("src"));
    let guide = fs::read_to_string(repository().join("man/troubleshooting.md")).unwrap();
    let mut unknown = Vec::new();
    for message in guide.lines().filter_map(|line| line.strip_prefix("### ")) {
        let parts = message.split('…').map(|part| part.trim_matches([' ', ':', ',', '?', '(', ')']));
        unknown
            .extend(parts.filter(|part| !is_said(&source, part)).map(|part| format!("{message}: {part:?}")));
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

/// Whether a text is in the source; that of an engine's call is put together from its operation and its object.
fn is_said(source: &str, part: &str) -> bool {
    let call = part.strip_prefix("cannot ").and_then(|call| call.rsplit_once(' '));
    source.contains(part)
        || call.is_some_and(|(operation, object)| {
            source.contains(&format!("\"{operation}\"")) && source.contains(&format!("\"{object}\""))
        })
}

/// The source as one line, without the marks of code in messages.
fn sources(folder: &Path) -> String {
    let continued = Regex::new(r"\\\n\s*").unwrap();
    continued.replace_all(&source_of(folder), "").replace('`', "")
}

fn source_of(folder: &Path) -> String {
    let mut text = String::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            text.push_str(&source_of(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    text
}
