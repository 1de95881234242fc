//! What is wrong with a spec, or odd about it: where, why, and the way out.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use serde::Serialize;

/// A place in a file, with the line it is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceLocation {
    /// The file, as the user would name it.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1, in characters.
    pub column: u32,
    /// How many characters it is long; at least 1.
    pub length: u32,
    /// The text of the line.
    pub snippet: String,
    /// Offset of the place in the file, bytes.
    #[serde(skip)]
    pub offset: usize,
    /// The whole file.
    #[serde(skip)]
    pub source: Arc<str>,
}

/// The kind of a problem, for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// A file that cannot be found or read.
    File,
    /// Not YAML, not UTF-8, or beyond a bound.
    Syntax,
    /// A key that is not known here.
    UnknownKey,
    /// A key written twice.
    DuplicateKey,
    /// A value of the wrong type.
    Type,
    /// A value that does not parse: a duration, size, port, ….
    Value,
    /// A name that breaks its rule.
    Name,
    /// A reference to something that is not there.
    Reference,
    /// Things that depend on each other in a circle.
    Cycle,
    /// Two things that cannot both be.
    Conflict,
    /// A variable that must be set is not, or an interpolation that does not parse.
    Variable,
    /// Access to the host that was not allowed.
    HostAccess,
    /// Something that sandbox does not do, with the reason.
    Unsupported,
}

/// One thing that is wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Its kind.
    pub kind: ProblemKind,
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
    /// Where; nothing where no file is concerned.
    #[serde(flatten)]
    pub place: Option<SourceLocation>,
}

impl Problem {
    /// A problem that is not at a place of a file.
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, place: None }
    }

    /// The same with a way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same at a place.
    #[must_use]
    pub fn at(mut self, place: Option<SourceLocation>) -> Self {
        self.place = place;
        self
    }
}

impl fmt::Display for Problem {
    /// Plain text of several lines: the cause, the place with its line, the way out.
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

/// The part of a long line that is worth showing, with the place's column (from 0) and length in it.
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

/// A problem in the shape that miette draws: its message alone, the source and a label beside it.
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
    /// The problem as a miette diagnostic with its source, for drawing on a terminal.
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

/// Everything that is wrong with a spec, in the order of its files and lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems {
    problems: Vec<Problem>,
}

impl Problems {
    /// One or more problems.
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

    /// How many there are.
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// Whether there is none, which does not happen.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// All problems drawn for a terminal of `width` columns: source lines, arrows, hints; in colour or not.
    pub fn draw(&self, width: usize, colour: Colour) -> String {
        let theme = match colour {
            Colour::Always => miette::GraphicalTheme::unicode(),
            Colour::Never => miette::GraphicalTheme::unicode_nocolor(),
        };
        let handler = miette::GraphicalReportHandler::new_themed(theme).with_width(width.max(40));
        let mut text = String::new();
        for problem in &self.problems {
            // Writing to a string does not fail; should drawing itself, the plain form says the same.
            if handler.render_report(&mut text, &problem.drawing()).is_err() {
                text.push_str(&problem.to_string());
            }
            text.push('\n');
        }
        text
    }
}

/// Whether a drawing is in colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// With ANSI colours.
    Always,
    /// Without.
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
    /// All problems as plain text, an empty line between two, and their number if there are several.
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

/// The kind of a warning, for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// A variable that is not set was taken as empty.
    UnsetVariable,
    /// A key that is not applied, with the reason.
    NotApplied,
    /// A key that is obsolete or means nothing.
    Obsolete,
    /// Something that would be refused, in a spec that is only shown.
    Refused,
    /// Access to the host that was allowed.
    HostAccess,
}

/// Something odd about a spec that does not keep it from being used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Its kind.
    pub kind: WarningKind,
    /// What is odd.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where.
    #[serde(flatten)]
    pub place: Option<SourceLocation>,
}

impl fmt::Display for Warning {
    /// One line: the place, then what is odd.
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

/// A path as a user standing in `folder` would write it.
pub(super) fn shown(path: &Path, folder: &Path) -> PathBuf {
    path.strip_prefix(folder).unwrap_or(path).to_owned()
}
