//! What one `run` did, as data. A run of a matrix writes it to a file for the process that started it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Exit code of a process that `SIGKILL` ended.
const KILLED: i32 = 137;
/// Exit code of a run that was stopped before it started.
const TERMINATED: i32 = 143;

/// A variable of a matrix entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// The name of the environment variable.
    pub name: String,
    /// Its value in this entry.
    pub value: String,
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("not a variable such as NODE=20")?;
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !name.starts_with(first) || !name.chars().all(|c| first(c) || c.is_ascii_digit()) {
            return Err(format!("`{name}` is not the name of an environment variable"));
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// What one run did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The variables of its matrix entry; empty without a matrix.
    pub variables: Vec<Variable>,
    /// The name of its sandbox, once it has one.
    pub sandbox: Option<String>,
    /// When it began.
    pub began: Timestamp,
    /// How long it has run.
    pub elapsed: Duration,
    /// Its parts, in the order in which they began. The last one is the command.
    pub cases: Vec<Case>,
    /// How it ended.
    pub end: RunEnd,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum RunEnd {
    /// It has not ended. A record that stays so belongs to a process that was killed.
    Running,
    /// It was not started, because the matrix was stopped.
    NotRun,
    /// It ended with this exit code.
    Exited {
        /// The exit code.
        code: i32,
    },
    /// A signal, its deadline or another client stopped it.
    Stopped {
        /// The exit code.
        code: i32,
    },
}

/// A part of a run: one test case of its report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// What kind of part it is.
    pub kind: CaseKind,
    /// The service, seed, volume or command.
    pub name: String,
    /// How long it took.
    pub elapsed: Duration,
    /// How it ended.
    pub outcome: CaseOutcome,
    /// The end of its output, or of the service's log.
    pub stdout: String,
    /// The end of its error output.
    pub stderr: String,
}

/// The kinds of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseKind {
    /// A set of volumes is baked or cloned.
    Baseline,
    /// A seed is applied.
    Seed,
    /// A service becomes ready.
    Readiness,
    /// A service keeps running.
    Service,
    /// A step that belongs to none of the others, such as a build.
    Setup,
    /// The command runs.
    Command,
}

impl CaseKind {
    /// The kind as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Seed => "seed",
            Self::Readiness => "readiness",
            Self::Service => "service",
            Self::Setup => "setup",
            Self::Command => "command",
        }
    }
}

/// How a part ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum CaseOutcome {
    /// It has not begun.
    NotRun,
    /// It has not ended.
    Running,
    /// It succeeded.
    Passed,
    /// It failed.
    Failed {
        /// The cause.
        message: String,
    },
    /// It was stopped from outside before it ended.
    Interrupted {
        /// The cause.
        message: String,
    },
}

impl Case {
    /// A part without output.
    pub fn new(kind: CaseKind, name: impl Into<String>, outcome: CaseOutcome) -> Self {
        Self {
            kind,
            name: name.into(),
            elapsed: Duration::ZERO,
            outcome,
            stdout: String::new(),
            stderr: String::new(),
        }
    }

    /// Why it failed or was interrupted; `None` if it did neither.
    pub fn problem(&self) -> Option<&str> {
        match &self.outcome {
            CaseOutcome::Failed { message } | CaseOutcome::Interrupted { message } => Some(message),
            CaseOutcome::NotRun | CaseOutcome::Running | CaseOutcome::Passed => None,
        }
    }

    /// "readiness of db", "seed db: orders.sql", "npm test"
    pub fn title(&self) -> String {
        match self.kind {
            CaseKind::Command => format!("`{}`", self.name),
            CaseKind::Setup => self.name.clone(),
            kind => format!("{} {}", kind.as_str(), self.name),
        }
    }
}

impl RunRecord {
    /// A run that has not begun.
    pub fn new(variables: Vec<Variable>, command: String, began: Timestamp) -> Self {
        Self {
            variables,
            sandbox: None,
            began,
            elapsed: Duration::ZERO,
            cases: vec![Case::new(CaseKind::Command, command, CaseOutcome::NotRun)],
            end: RunEnd::Running,
        }
    }

    /// The name of the entry: its variables, else its sandbox.
    pub fn label(&self) -> String {
        if self.variables.is_empty() {
            return self.sandbox.clone().unwrap_or_else(|| "run".to_owned());
        }
        label(&self.variables)
    }

    /// Its exit code.
    pub fn code(&self) -> i32 {
        match self.end {
            RunEnd::Exited { code } | RunEnd::Stopped { code } => code,
            RunEnd::Running => KILLED,
            RunEnd::NotRun => TERMINATED,
        }
    }

    /// Whether it ended and everything succeeded.
    pub fn passed(&self) -> bool {
        self.end == RunEnd::Exited { code: 0 }
    }

    /// The result in a few words: "passed", "failed (3)", "stopped (143)", "killed", "not run".
    pub fn result(&self) -> String {
        match self.end {
            RunEnd::Exited { code: 0 } => "passed".to_owned(),
            RunEnd::Exited { code } => format!("failed ({code})"),
            RunEnd::Stopped { code } => format!("stopped ({code})"),
            RunEnd::Running => "killed".to_owned(),
            RunEnd::NotRun => "not run".to_owned(),
        }
    }

    /// The parts that failed or were interrupted, each with the cause. Of a run that was killed, also those that were
    /// in progress.
    pub fn problems(&self) -> Vec<(&Case, &str)> {
        self.cases.iter().filter_map(|case| Some((case, self.problem_of(case)?))).collect()
    }

    fn problem_of<'a>(&self, case: &'a Case) -> Option<&'a str> {
        let unfinished = case.outcome == CaseOutcome::Running && self.end == RunEnd::Running;
        if unfinished { Some(UNFINISHED) } else { case.problem() }
    }
}

/// The cause that is reported for a part that was in progress when its process was killed.
pub const UNFINISHED: &str = "the run was killed before this ended";

/// "NODE=20 PG=16"
pub fn label(variables: &[Variable]) -> String {
    variables.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// The exit code of several runs: that of the worst. A stopped run is worse than one that sandbox failed to make, which
/// is worse than a command that failed.
pub fn worst_code(records: &[RunRecord]) -> i32 {
    records.iter().map(RunRecord::code).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::test_records;
    use super::*;

    #[test]
    fn the_worst_entry_gives_the_exit_code() {
        let with = |end| RunRecord { end, ..test_records::passed() };
        let exited = |code| with(RunEnd::Exited { code });
        assert_eq!(worst_code(&[]), 0);
        assert_eq!(worst_code(&[exited(0), exited(3), exited(1)]), 3);
        assert_eq!(worst_code(&[exited(3), exited(125)]), 125);
        assert_eq!(worst_code(&[exited(125), with(RunEnd::Stopped { code: 143 })]), 143);
        assert_eq!(worst_code(&[exited(0), with(RunEnd::Running)]), 137);
    }

    #[test]
    fn a_record_reads_back_from_json() {
        let record = test_records::failed();
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<RunRecord>(&json).unwrap(), record);
    }

    #[test]
    fn a_variable_has_a_name_that_an_environment_can_hold() {
        assert_eq!("PG=16=x".parse::<Variable>().unwrap().to_string(), "PG=16=x");
        assert!("1PG=16".parse::<Variable>().is_err());
        assert!("PG".parse::<Variable>().is_err());
        assert!("=16".parse::<Variable>().is_err());
    }
}
