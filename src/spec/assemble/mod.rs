//! Assembles the spec's files into one canonical tree: applies `extends` and `include`, and merges.

mod env_files;
mod extends;
mod include;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::canonical::{self, Base};
use super::diagnostics::Log;
use super::interpolate::interpolate_document;
use super::merge;
use super::node::{Map, Node, Span};
use super::placeholders::Placeholders;
use super::problem::{Problem, ProblemKind, WarningKind, shown};
use super::scope::ScopedValues;
use super::yaml;

pub(super) use env_files::{Known, read_env_files};

/// Maximum depth of nested includes and of a chain of `extends`.
const MAX_DEPTH: usize = 32;
/// Maximum number of includes of a spec, including nested ones.
const MAX_INCLUDES: usize = 500;

/// The variables and the base folder of a group of files.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// The variables for interpolation.
    pub variables: BTreeMap<String, String>,
    /// The base folder of relative paths.
    pub folder: PathBuf,
}

/// What becomes of variables.
#[derive(Debug)]
pub(super) enum Interpolation {
    /// They are replaced by their values.
    Applied,
    /// They are replaced by placeholders, and stay as they were written.
    Skipped(Placeholders),
}

/// Reads and assembles files.
pub(super) struct Assembler<'a> {
    pub log: &'a Log,
    /// What becomes of variables.
    pub interpolation: Interpolation,
    /// Messages show paths relative to this folder.
    pub standing_in: &'a Path,
    /// All files that were read.
    pub files: Vec<PathBuf>,
    /// Services of files that `extends` refers to, by file.
    extended: HashMap<PathBuf, Rc<Map>>,
    /// Cycles of `extends` that were reported.
    circles: BTreeSet<String>,
    /// Values of secrets and configs from variables of an included file.
    pub scoped: ScopedValues,
    /// Number of includes so far.
    includes: usize,
}

impl<'a> Assembler<'a> {
    pub fn new(log: &'a Log, standing_in: &'a Path) -> Self {
        Self {
            log,
            interpolation: Interpolation::Applied,
            standing_in,
            files: Vec::new(),
            extended: HashMap::new(),
            circles: BTreeSet::new(),
            scoped: ScopedValues::new(),
            includes: 0,
        }
    }

    /// The merged tree of some files. `trail` lists the files that include these.
    pub fn model(&mut self, files: &[PathBuf], scope: &Scope, trail: &[PathBuf]) -> Option<Node> {
        let mut merged: Option<Node> = None;
        for file in files {
            if !self.files.contains(file) {
                self.files.push(file.clone());
            }
            for mut document in self.documents(file, scope)? {
                self.extend_all(&mut document, file, scope);
                let mut trail = trail.to_vec();
                trail.push(file.clone());
                self.include_all(&mut document, scope, &trail);
                match &mut merged {
                    None => {
                        merge::settle(&mut document);
                        merge::unique_all(&mut document, &mut Vec::new());
                        merged = Some(document);
                    }
                    Some(base) => {
                        // Also removes duplicates from lists that are merged into nothing.
                        merge::merge(base, document);
                        merge::unique_all(base, &mut Vec::new());
                    }
                }
            }
        }
        if let Some(merged) = &mut merged {
            canonical::defaults(merged, &scope.folder);
        }
        merged
    }

    /// The documents of one file, interpolated and canonical.
    fn documents(&self, file: &Path, scope: &Scope) -> Option<Vec<Node>> {
        let name = shown(file, self.standing_in);
        let text = yaml::read(self.log, file, &name)?;
        let number = self.log.add_source(file, name.clone(), text.clone());
        let problems = self.log.problem_count();
        let mut documents = yaml::parse(self.log, number, &text);
        documents.retain(|document| !document.is_null());
        if documents.is_empty() && self.log.problem_count() == problems {
            let problem = Problem::new(ProblemKind::Syntax, format!("`{}` is empty", name.display()))
                .hint("a spec has at least `services:`");
            self.log.push(problem);
            return None;
        }
        let home = scope.variables.get("HOME").map(String::as_str);
        let base = Base { folder: &scope.folder, home };
        for document in &mut documents {
            if document.as_map().is_none() {
                let message = format!("a spec is a mapping, this is {}", document.kind());
                self.log.hinted(ProblemKind::Type, document.span, message, "begin with `services:`");
                return None;
            }
            match &self.interpolation {
                Interpolation::Applied => interpolate_document(self.log, document, &scope.variables),
                Interpolation::Skipped(placeholders) => placeholders.hide(document),
            }
            canonical::document(self.log, document, &base);
        }
        Some(documents)
    }

    /// Reports a file that does not exist. `purpose` is a verb, such as "include".
    fn require_file(&self, file: &Path, purpose: &str, span: Span) -> Option<()> {
        if file.is_file() {
            return Some(());
        }
        let message = format!("there is no file `{}` to {purpose}", shown(file, self.standing_in).display());
        self.log.hinted(ProblemKind::File, span, message, "the path begins at the folder of the spec");
        None
    }
}

/// Removes the obsolete `version`, with a warning.
pub(super) fn drop_version(log: &Log, root: &mut Map) {
    if let Some(entry) = root.remove("version") {
        let message = "`version` is obsolete and means nothing";
        log.warn(WarningKind::Obsolete, entry.span, message, Some("take it out".to_owned()));
    }
}

fn section<'n>(document: &'n Node, key: &str) -> Option<&'n Map> {
    document.as_map()?.get(key)?.as_map()
}

fn section_mut<'n>(document: &'n mut Node, key: &str) -> Option<&'n mut Map> {
    document.as_map_mut()?.get_mut(key)?.as_map_mut()
}
