//! Failures of verbs: their messages, hints and exit codes.

use std::process::ExitCode;

use super::Exit;
use crate::agent::client::KeeperError;
use crate::engine::{EngineError, ErrorKind};
use crate::report::{self, Output};
use crate::session::error::SessionError;
use crate::session::exec::ExecError;
use crate::session::exec::copy::CopyError;
use crate::session::inspect::{NoContainer, NoSandbox};
use crate::spec::Problems;
use crate::storage::StorageError;

/// Width for the output of a spec's problems, in columns.
const WIDTH: usize = 100;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line is wrong.
    #[error("{message}")]
    Usage {
        /// What is wrong with it.
        message: String,
        /// The hint for the user.
        hint: Option<String>,
    },
    /// The spec is wrong.
    #[error("the spec has problems")]
    Spec(Problems),
    /// No engine replied.
    #[error(transparent)]
    NoEngine(EngineError),
    /// The engine returned an error.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The keeper returned an error.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// The storage returned an error.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No such sandbox.
    #[error(transparent)]
    NoSandbox(NoSandbox),
    /// No such service.
    #[error(transparent)]
    NoContainer(#[from] NoContainer),
    /// The session failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Files could not be copied.
    #[error(transparent)]
    Copy(CopyError),
    /// A command could not be run.
    #[error(transparent)]
    Exec(ExecError),
    /// An operating system error.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Any other failure.
    #[error("{message}")]
    Failed {
        /// The error message.
        message: String,
        /// The hint for the user.
        hint: Option<String>,
    },
}

impl Failure {
    /// Creates a usage error.
    pub fn usage(message: impl Into<String>, hint: Option<String>) -> Self {
        Self::Usage { message: message.into(), hint }
    }

    /// Creates a failure that has only a message and a hint.
    pub fn failed(message: impl Into<String>, hint: Option<String>) -> Self {
        Self::Failed { message: message.into(), hint }
    }

    /// The exit code documented in the manual.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage { .. } | Self::Spec(_) | Self::NoContainer(_) => Exit::Usage,
            Self::NoEngine(_) => Exit::NoEngine,
            Self::NoSandbox(_) => Exit::NoSandbox,
            Self::Session(error) => of_session(error),
            Self::Keeper(error) if error.is_no_such_sandbox() => Exit::NoSandbox,
            Self::Engine(error) if error.kind == ErrorKind::Unreachable => Exit::NoEngine,
            Self::Engine(_)
            | Self::Keeper(_)
            | Self::Storage(_)
            | Self::Copy(_)
            | Self::Exec(_)
            | Self::Io(_)
            | Self::Failed { .. } => Exit::Failed,
        }
    }

    /// The hint for the user.
    pub(in crate::cli) fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { hint, .. } | Self::Failed { hint, .. } => hint.clone(),
            Self::NoEngine(error) | Self::Engine(error) => error.hint(),
            Self::Keeper(error) => error.hint(),
            Self::Storage(error) => error.hint().map(str::to_owned),
            Self::NoSandbox(error) => Some(error.hint()),
            Self::NoContainer(error) => error.hint(),
            Self::Session(error) => error.hint(),
            Self::Spec(_) | Self::Copy(_) | Self::Exec(_) | Self::Io(_) => None,
        }
    }
}

/// The exit code of a session's failure.
pub(in crate::cli) fn of_session(error: &SessionError) -> Exit {
    match error {
        SessionError::Cancelled => Exit::Interrupted,
        SessionError::NoSuchSandbox { .. } => Exit::NoSandbox,
        SessionError::Engine(error) if error.kind == ErrorKind::Unreachable => Exit::NoEngine,
        _ => Exit::Failed,
    }
}

/// The form in which a failure is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Prints a failure on standard error and returns the exit code.
pub(in crate::cli) fn report(format: FailureFormat, failure: &Failure) -> Exit {
    let mut output = Output::stderr();
    let look = output.look();
    let exit = failure.exit();
    if exit == Exit::Interrupted {
        return exit;
    }
    if format == FailureFormat::Json {
        let json = match failure {
            Failure::Spec(problems) => serde_json::to_value(problems).unwrap_or_default(),
            other => report::error::json(other, other.hint().as_deref()),
        };
        output.json_line(&json);
        return exit;
    }
    if let Failure::Spec(problems) = failure {
        // Problems without a place in a file are printed without source lines.
        let (placed, bare): (Vec<_>, Vec<_>) = problems.iter().partition(|problem| problem.place.is_some());
        for problem in bare {
            let message = Failure::usage(problem.message.clone(), None);
            output.lines(report::error::lines(look, &message, problem.hint.as_deref()));
        }
        if placed.is_empty() {
            return exit;
        }
        let drawings: Vec<_> = placed.into_iter().map(crate::spec::Problem::drawing).collect();
        let diagnostics = drawings.iter().map(|drawing| drawing as &dyn miette::Diagnostic);
        output.block(&report::error::problems(look, WIDTH, diagnostics));
        return exit;
    }
    for line in report::error::lines(look, failure, failure.hint().as_deref()) {
        output.line(&line);
    }
    if let Failure::Session(error) = failure {
        for line in error.log() {
            output.line(&format!("  | {line}"));
        }
    }
    exit
}

/// Prints clap's message; help and version are not failures.
pub(in crate::cli) fn of_usage(error: &clap::Error) -> ExitCode {
    // A closed pipe is not an error.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Engine(error) => Self::Engine(error),
            other => Self::Copy(other),
        }
    }
}

impl From<ExecError> for Failure {
    fn from(error: ExecError) -> Self {
        match error {
            ExecError::Engine(error) => Self::Engine(error),
            terminal @ ExecError::Terminal(_) => Self::Exec(terminal),
        }
    }
}
