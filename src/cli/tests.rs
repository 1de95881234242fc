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
