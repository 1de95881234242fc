use std::collections::BTreeMap;
use std::path::Path;

use clap::CommandFactory;

use super::*;

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_verb_that_prints_has_json() {
    let mut command = Cli::command();
    command.build();
    for verb in command.get_subcommands() {
        let has = verb.get_arguments().any(|argument| argument.get_long() == Some("json"));
        assert!(has, "`{}` has no --json", verb.get_name());
    }
}

/// The manual pages by file name.
fn pages(folder: &Path) -> BTreeMap<String, String> {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&path).unwrap())
    };
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeMap::new() };
    let is_page = |entry: &std::io::Result<std::fs::DirEntry>| {
        entry.as_ref().is_ok_and(|it| it.path().extension().is_some_and(|it| it == "1"))
    };
    entries.filter(is_page).map(read).collect()
}

/// `UPDATE_MAN=1 cargo test --lib cli` regenerates them.
#[test]
fn the_manual_pages_say_what_the_command_line_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let made = tempfile::tempdir().unwrap();
    completions::write_pages(made.path()).unwrap();
    if std::env::var_os("UPDATE_MAN").is_some() {
        for name in pages(&folder).keys() {
            std::fs::remove_file(folder.join(name)).unwrap();
        }
        completions::write_pages(&folder).unwrap();
    }
    let (made, kept) = (pages(made.path()), pages(&folder));
    let names = |pages: &BTreeMap<String, String>| pages.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&kept), names(&made), "out of step: UPDATE_MAN=1 cargo test --lib cli");
    for (name, page) in made {
        assert!(kept[&name] == page, "man/{name} is out of step: UPDATE_MAN=1 cargo test --lib cli");
    }
}

/// The lines of a document's console blocks that are commands of ours, without comments and redirections.
fn commands(document: &str) -> Vec<String> {
    let blocks = document.split("```").skip(1).step_by(2);
    let consoles = blocks.filter(|block| block.starts_with(['\n', 'c']) || block.starts_with("sh\n"));
    let lines = consoles.flat_map(|block| block.lines().skip(1)).map(|line| line.trim_start_matches("$ "));
    lines
        .filter(|line| line.starts_with("sandbox "))
        .map(|line| line.split(" #").next().unwrap_or_default().trim())
        .map(|line| line.split([';', '|', '>']).next().unwrap_or_default().trim_end_matches(" 2").to_owned())
        .collect()
}

#[test]
fn the_command_line_accepts_every_command_in_the_documents() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let markdown = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|it| it == "md")).collect::<Vec<_>>()
    };
    let mut accepted = 0;
    for path in markdown(root).into_iter().chain(markdown(&root.join("man"))) {
        for command in commands(&std::fs::read_to_string(&path).unwrap()) {
            let words = shlex::split(&command).expect("a document has no unclosed quotes");
            let parsed = Cli::try_parse_from(words);
            assert!(parsed.is_ok(), "{}: {command}\n{}", path.display(), parsed.err().unwrap());
            accepted += 1;
        }
    }
    assert!(accepted > 40, "only {accepted} commands were found");
}
