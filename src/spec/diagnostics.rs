//! Collects the source files and the problems and warnings found in them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::canonical::leaves;
use super::model::At;
use super::node::Span;
use super::problem::{Problem, ProblemKind, SourceLocation, Warning, WarningKind};

/// Maximum bytes of interpolated text of a spec.
const MAX_INTERPOLATED: usize = 64 << 20;

/// A source file.
#[derive(Debug)]
pub(super) struct Source {
    /// Its absolute path.
    pub path: PathBuf,
    /// The path as messages show it.
    pub shown: PathBuf,
    /// Its text.
    pub text: Arc<str>,
}

/// Collects problems and warnings, so that all are reported together.
#[derive(Debug, Default)]
pub(super) struct Log {
    sources: RefCell<Vec<Rc<Source>>>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Warning>>,
    unset: RefCell<BTreeSet<String>>,
    read: RefCell<BTreeSet<PathBuf>>,
    /// Files of variables and labels, with their texts: their values become part of the spec.
    variables: RefCell<Vec<(PathBuf, Arc<str>)>>,
    /// Bytes of interpolated text so far.
    interpolated: Cell<usize>,
    /// Whether exceeding the limit was reported.
    too_large: Cell<bool>,
    /// Locations of values that were interpolated with the user's variables.
    from_user: RefCell<BTreeSet<(u32, u32)>>,
    /// The path that stands for standard input, and its content.
    input: Option<(PathBuf, Vec<u8>)>,
    /// The folder outside of which nothing is read.
    boundary: Option<PathBuf>,
}

impl Log {
    /// A log with a path that stands for standard input.
    pub fn with_input(path: PathBuf, bytes: Vec<u8>) -> Self {
        Self { input: Some((path, bytes)), ..Self::default() }
    }

    /// Sets the folder outside of which nothing is read.
    #[must_use]
    pub fn within(self, boundary: Option<PathBuf>) -> Self {
        Self { boundary, ..self }
    }

    /// The boundary, if a file is outside of it.
    pub fn left_by(&self, path: &Path) -> Option<&Path> {
        self.boundary.as_deref().filter(|boundary| leaves(boundary, path))
    }

    /// The content of standard input, if the path stands for it.
    pub fn input(&self, path: &Path) -> Option<&[u8]> {
        self.input.as_ref().filter(|(place, _)| place == path).map(|(_, bytes)| bytes.as_slice())
    }

    /// Records that a file was read, or would have been if it existed.
    pub fn note_read(&self, path: &Path) {
        self.read.borrow_mut().insert(path.to_owned());
    }

    /// Records that values were read from this file.
    pub fn note_variables(&self, path: &Path, text: &Arc<str>) {
        self.variables.borrow_mut().push((path.to_owned(), Arc::clone(text)));
    }

    /// The files that values were read from, with their texts.
    pub fn variables_read(&self) -> Vec<(PathBuf, Arc<str>)> {
        self.variables.borrow().clone()
    }

    /// The files of specs, with their texts.
    pub fn sources_read(&self) -> Vec<(PathBuf, Arc<str>)> {
        self.sources.borrow().iter().map(|source| (source.path.clone(), Arc::clone(&source.text))).collect()
    }

    /// Records that the value at this location contains one of the user's variables.
    pub fn note_user_value(&self, span: Span) {
        self.from_user.borrow_mut().insert((span.file, span.offset));
    }

    /// Whether the value at this location contains one of the user's variables.
    pub fn is_user_value(&self, span: Span) -> bool {
        self.from_user.borrow().contains(&(span.file, span.offset))
    }

    /// The files that were read, or would have been if they existed.
    pub fn files_read(&self) -> BTreeSet<PathBuf> {
        self.read.borrow().clone()
    }

    /// Adds a file's text and returns the number that spans use for it.
    pub fn add_source(&self, path: &Path, shown: PathBuf, text: Arc<str>) -> u32 {
        let mut sources = self.sources.borrow_mut();
        sources.push(Rc::new(Source { path: path.to_owned(), shown, text }));
        u32::try_from(sources.len() - 1).unwrap_or(u32::MAX)
    }

    /// The file of a span.
    pub fn source(&self, span: Span) -> Option<Rc<Source>> {
        self.sources.borrow().get(span.file as usize).cloned()
    }

    /// A file by its path.
    pub fn find(&self, path: &Path) -> Option<Rc<Source>> {
        self.sources.borrow().iter().find(|source| source.path == path).cloned()
    }

    /// Converts a span to a location that can be displayed.
    pub fn place(&self, span: Span) -> Option<SourceLocation> {
        let source = self.source(span)?;
        let offset = (span.offset as usize).min(source.text.len());
        let start = source.text[..offset].rfind('\n').map_or(0, |n| n + 1);
        let snippet = source.text[start..].lines().next().unwrap_or_default();
        Some(SourceLocation {
            file: source.shown.clone(),
            line: span.line,
            column: span.column,
            length: span.length.max(1),
            snippet: snippet.to_owned(),
            offset,
            source: Arc::clone(&source.text),
        })
    }

    /// Converts a span to the form that the model stores.
    pub fn at(&self, span: Span) -> At {
        At { file: self.source(span).map(|s| s.path.clone()), line: span.line, column: span.column }
    }

    pub fn push(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Adds a problem at a location.
    pub fn problem(&self, kind: ProblemKind, span: Span, message: impl Into<String>) {
        self.push(Problem::new(kind, message).at(self.place(span)));
    }

    /// Adds a problem at a location, with a hint.
    pub fn hinted(&self, kind: ProblemKind, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Problem::new(kind, message).hint(hint).at(self.place(span)));
    }

    /// Adds a warning at a location.
    pub fn warn(&self, kind: WarningKind, span: Span, message: impl Into<String>, hint: Option<String>) {
        self.push_warning(Warning { kind, message: message.into(), hint, place: self.place(span) });
    }

    /// Adds a warning, unless it was added before.
    pub fn push_warning(&self, warning: Warning) {
        let mut warnings = self.warnings.borrow_mut();
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// Warns once per variable that it is not set.
    pub fn unset(&self, name: &str, span: Span) {
        if self.unset.borrow_mut().insert(name.to_owned()) {
            self.warn(
                WarningKind::UnsetVariable,
                span,
                format!("the variable `{name}` is not set and was taken as empty"),
                Some(format!("set it, or write `${{{name}:-}}` if that is meant")),
            );
        }
    }

    /// Counts bytes of interpolated text; returns whether the total is within the limit.
    pub fn may_grow(&self, bytes: usize) -> bool {
        self.interpolated.set(self.interpolated.get().saturating_add(bytes));
        self.interpolated.get() <= MAX_INTERPOLATED
    }

    /// Whether this is the first report that the limit is exceeded.
    pub fn grew_too_large(&self) -> bool {
        !self.too_large.replace(true)
    }

    pub fn problem_count(&self) -> usize {
        self.problems.borrow().len()
    }

    /// All problems and warnings.
    pub fn into_parts(self) -> (Vec<Problem>, Vec<Warning>) {
        (self.problems.into_inner(), self.warnings.into_inner())
    }
}
