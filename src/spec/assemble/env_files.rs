//! Reads files of variables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::spec::diagnostics::Log;
use crate::spec::dotenv;
use crate::spec::node::Span;
use crate::spec::problem::{Problem, ProblemKind, shown};
use crate::spec::yaml;

/// Variables that files of variables may refer to, in addition to their own.
pub(in crate::spec) struct Known<'a> {
    /// Takes precedence over what they set.
    pub outer: &'a BTreeMap<String, String>,
    /// Set by earlier files; the later files take precedence.
    pub earlier: &'a BTreeMap<String, String>,
}

static NONE: BTreeMap<String, String> = BTreeMap::new();

impl<'a> Known<'a> {
    pub fn outer(outer: &'a BTreeMap<String, String>) -> Self {
        Self { outer, earlier: &NONE }
    }
}

/// Reads files of variables; later files take precedence.
pub(in crate::spec) fn read_env_files(
    log: &Log,
    files: &[PathBuf],
    known: &Known<'_>,
    standing_in: &Path,
    span: Option<Span>,
) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for file in files {
        let name = shown(file, standing_in);
        let Some(text) = read_text(log, file, &name, span) else { continue };
        let number = log.add_source(file, name, text.clone());
        log.note_variables(file, &text);
        let before = found.clone();
        let outer = |key: &str| known.outer.get(key).or_else(|| before.get(key)).cloned();
        let earlier = |key: &str| known.earlier.get(key).cloned();
        match dotenv::parse(&text, &outer, &earlier) {
            Ok(read) => {
                found.extend(read.variables);
                for variable in read.unset {
                    log.unset(&variable, first_line(number));
                }
            }
            Err(error) => {
                let offset: usize =
                    text.split_inclusive('\n').take(error.line as usize - 1).map(str::len).sum();
                let line = text[offset.min(text.len())..].lines().next().unwrap_or_default();
                let span = Span {
                    file: number,
                    offset: u32::try_from(offset).unwrap_or(u32::MAX),
                    line: error.line,
                    column: 1,
                    length: u32::try_from(line.chars().count()).unwrap_or(1).max(1),
                };
                log.hinted(ProblemKind::Value, span, error.message, "a line is written `NAME=value`");
            }
        }
    }
    found
}

fn first_line(file: u32) -> Span {
    Span { file, offset: 0, line: 1, column: 1, length: 1 }
}

fn read_text(log: &Log, file: &Path, name: &Path, span: Option<Span>) -> Option<std::sync::Arc<str>> {
    if !file.is_file() {
        let message = format!("there is no file `{}` to read variables from", name.display());
        match span {
            Some(span) => log.problem(ProblemKind::File, span, message),
            None => log
                .push(Problem::new(ProblemKind::File, message).hint("check the path given to `--env-file`")),
        }
        return None;
    }
    yaml::read(log, file, name)
}
