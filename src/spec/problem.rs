//! Problems and warnings of a spec: the location, the cause and a hint.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use serde::Serialize;

/// A location in a file, with its line of text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceLocation {
    /// The file's path as messages show it.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1, in characters.
    pub column: u32,
    /// Length in characters; at least 1.
    pub length: u32,
    /// The text of the line.
    pub snippet: String,
    /// Byte offset in the file.
    #[serde(skip)]
    pub offset: usize,
    /// The text of the whole file.
    #[serde(skip)]
    pub source: Arc<str>,
}

/// The machine-readable kind of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// A file cannot be found or read.
    File,
    /// Invalid YAML or UTF-8, or a limit exceeded.
    Syntax,
    /// An unknown key.
    UnknownKey,
    /// A duplicate key.
    DuplicateKey,
    /// A value of the wrong type.
    Type,
    /// A value that cannot be parsed: a duration, size, port, ….
    Value,
    /// An invalid name.
    Name,
    /// A reference to something that does not exist.
    Reference,
    /// A dependency cycle.
    Cycle,
    /// Two settings that exclude each other.
    Conflict,
    /// A required variable that is not set, or invalid interpolation syntax.
    Variable,
    /// Host access that is not allowed.
    HostAccess,
    /// A feature that sandbox does not support, with the reason.
    Unsupported,
}

/// An error in a spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The machine-readable kind.
    pub kind: ProblemKind,
    /// The error message.
    pub message: String,
    /// How the user can resolve it.
    pub hint: Option<String>,
    /// The location; `None` if no file is concerned.
    #[serde(flatten)]
    pub place: Option<SourceLocation>,
}

impl Problem {
    /// A problem without a location.
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, place: None }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the location.
    #[must_use]
    pub fn at(mut self, place: Option<SourceLocation>) -> Self {
        self.place = place;
        self
    }
}

impl fmt::Display for Problem {
    /// Formats several lines of plain text: the cause, the location with its line, the hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(place) = &self.place {
            let number = place.line.to_string();
            let gutter = " ".repeat(number.len());
            let (snippet, column, length) = window(place);
            write!(f, "\n{gutter}--> {}:{}:{}", place.file.display(), place.line, place.column)?;
            write!(f, "\n{gutter} |\n{number} | {snippet}\n{gutter} | ")?;
            for c in snippet.chars().take(column) {
                f.write_str(if c == '\t' { "\t" } else { " " })?;
            }
            f.write_str(&"^".repeat(length))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// The visible part of a long line, with the location's column (from 0) and length in it.
fn window(place: &SourceLocation) -> (String, usize, usize) {
    const WIDTH: usize = 120;
    let column = place.column.saturating_sub(1) as usize;
    let total = place.snippet.chars().count();
    let start = if total > WIDTH { column.saturating_sub(WIDTH / 3) } else { 0 };
    let shown: String = place.snippet.chars().skip(start).take(WIDTH).collect();
    let column = column - start;
    let length = (place.length as usize).clamp(1, shown.chars().count().saturating_sub(column).max(1));
    (shown, column, length)
}

impl std::error::Error for Problem {}

/// A problem as a miette diagnostic: message, source and label.
#[derive(Debug)]
pub struct Drawing {
    message: String,
    hint: Option<String>,
    source: Option<NamedSource<Arc<str>>>,
    label: Option<LabeledSpan>,
}

impl fmt::Display for Drawing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Drawing {}

impl Diagnostic for Drawing {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.label.clone().map(|label| Box::new(std::iter::once(label)) as Box<dyn Iterator<Item = _>>)
    }
}

impl Problem {
    /// Converts the problem to a miette diagnostic for rendering on a terminal.
    pub fn drawing(&self) -> Drawing {
        let place = self.place.as_ref();
        Drawing {
            message: self.message.clone(),
            hint: self.hint.clone(),
            source: place
                .map(|place| NamedSource::new(place.file.display().to_string(), Arc::clone(&place.source))),
            label: place.map(|place| {
                let bytes = place.snippet.chars().skip(place.column.saturating_sub(1) as usize);
                let length: usize = bytes.take(place.length as usize).map(char::len_utf8).sum();
                LabeledSpan::new(None, place.offset, length.max(1))
            }),
        }
    }
}

/// All problems of a spec, ordered by file and line. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems {
    problems: Vec<Problem>,
}

impl Problems {
    /// Wraps one or more problems.
    pub fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| {
            problem.place.as_ref().map(|place| (place.file.clone(), place.line, place.column))
        });
        problems.dedup();
        Self { problems }
    }

    /// The problems.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.problems.iter()
    }

    /// The number of problems.
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// Whether the list is empty, which never happens.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Renders all problems for a terminal of `width` columns: source lines, arrows, hints, optionally in colour.
    pub fn draw(&self, width: usize, colour: Colour) -> String {
        let theme = match colour {
            Colour::Always => miette::GraphicalTheme::unicode(),
            Colour::Never => miette::GraphicalTheme::unicode_nocolor(),
        };
        let handler = miette::GraphicalReportHandler::new_themed(theme).with_width(width.max(40));
        let mut text = String::new();
        for problem in &self.problems {
            // Writing to a string cannot fail; if rendering fails, the plain form has the same content.
            if handler.render_report(&mut text, &problem.drawing()).is_err() {
                text.push_str(&problem.to_string());
            }
            text.push('\n');
        }
        text
    }
}

/// Whether to render in colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// With ANSI colours.
    Always,
    /// Without colours.
    Never,
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    /// Formats all problems as plain text, separated by empty lines, and their number if there are several.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{problem}")?;
        }
        if self.problems.len() > 1 {
            write!(f, "\n\n{} problems", self.problems.len())?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

/// The machine-readable kind of a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// An unset variable was replaced with an empty string.
    UnsetVariable,
    /// A key is not applied, with the reason.
    NotApplied,
    /// A key is obsolete or has no effect.
    Obsolete,
    /// A spec that is only displayed contains something that would be rejected.
    Refused,
    /// Host access was allowed.
    HostAccess,
}

/// A finding in a spec that does not prevent its use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The machine-readable kind.
    pub kind: WarningKind,
    /// The warning message.
    pub message: String,
    /// How the user can resolve it.
    pub hint: Option<String>,
    /// The location; `None` if no file is concerned.
    #[serde(flatten)]
    pub place: Option<SourceLocation>,
}

impl fmt::Display for Warning {
    /// Formats one line: the location, then the message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:{}:{}: ", place.file.display(), place.line, place.column)?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// A path as the user would write it in `folder`.
pub(super) fn shown(path: &Path, folder: &Path) -> PathBuf {
    path.strip_prefix(folder).unwrap_or(path).to_owned()
}
