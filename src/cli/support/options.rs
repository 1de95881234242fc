//! Options that several verbs share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::failure::{Failure, FailureFormat};
use crate::report;
use crate::spec::{HostAccess, SandboxName};

/// What every verb takes.
#[derive(Debug, Clone, Default, Args)]
pub struct Globals {
    /// Sandbox to act on (default: `SANDBOX_NAME`, else that of the directory)
    #[arg(
        long,
        short = 'n',
        global = true,
        value_name = "NAME",
        visible_short_alias = 'p',
        visible_alias = "project-name"
    )]
    pub name: Option<SandboxName>,
    /// How progress is shown
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "HOW")]
    pub progress: Progress,
    /// Print data as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

impl Globals {
    /// How failures are printed.
    pub(in crate::cli) fn failure_format(&self) -> FailureFormat {
        if self.json || self.progress == Progress::Json { FailureFormat::Json } else { FailureFormat::Text }
    }

    /// These options, completed from environment variables where the command line does not set them. Empty variables
    /// are ignored.
    ///
    /// # Errors
    /// Fails if `SANDBOX_NAME` is not a valid sandbox name.
    pub(in crate::cli) fn or_environment(mut self) -> Result<Self, Failure> {
        let named = std::env::var("SANDBOX_NAME").ok().filter(|name| self.name.is_none() && !name.is_empty());
        if let Some(name) = named {
            let name = name.parse().map_err(|error| {
                let hint =
                    "letters, digits, `-` and `_` make a name; unset the variable to mean the folder's";
                Failure::usage(format!("SANDBOX_NAME: {error}"), Some(hint.to_owned()))
            })?;
            self.name = Some(name);
        }
        Ok(self)
    }
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// Live board on a terminal, lines elsewhere
    #[default]
    Auto,
    /// Live board
    Tty,
    /// One line per fact
    Plain,
    /// One JSON object per line
    Json,
    /// Errors only
    Quiet,
}

impl From<Progress> for report::Progress {
    fn from(progress: Progress) -> Self {
        match progress {
            Progress::Auto => Self::Auto,
            Progress::Tty => Self::Tty,
            Progress::Plain => Self::Plain,
            Progress::Json => Self::Json,
            Progress::Quiet => Self::Quiet,
        }
    }
}

/// Which spec, and how it is read. Taken before the verb, as Compose does, and after those that read a spec.
#[derive(Debug, Clone, Default, Args)]
pub struct SpecOptions {
    /// Spec file, `-` for standard input; several are merged in order (default: `COMPOSE_FILE`, else sandbox.yaml or
    /// compose.yaml, here or above)
    #[arg(long = "file", short = 'f', value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// File with variables (default: `COMPOSE_ENV_FILES`, else .env beside the spec)
    #[arg(long = "env-file", value_name = "FILE", value_delimiter = ',')]
    pub env_files: Vec<PathBuf>,
    /// Profile to enable (default: `COMPOSE_PROFILES`)
    #[arg(long = "profile", value_name = "NAME", value_delimiter = ',')]
    pub profiles: Vec<String>,
    /// Directory that relative paths of the spec start from (default: that of the first file)
    #[arg(long, value_name = "DIR")]
    pub project_directory: Option<PathBuf>,
    /// Let the spec reach the host: privileges, devices, host namespaces, paths outside its repository
    #[arg(long)]
    pub allow_host_access: bool,
}

impl SpecOptions {
    /// What these options say about host access.
    pub(in crate::cli) fn host_access(&self) -> HostAccess {
        if self.allow_host_access { HostAccess::Allowed } else { HostAccess::Refused }
    }

    /// Merges these options, given before the verb, with those given after it.
    #[must_use]
    pub fn with(&self, verb: &Self) -> Self {
        let joined = |before: &[PathBuf], after: &[PathBuf]| [before, after].concat();
        Self {
            files: joined(&self.files, &verb.files),
            env_files: joined(&self.env_files, &verb.env_files),
            profiles: [&self.profiles[..], &verb.profiles[..]].concat(),
            project_directory: verb.project_directory.clone().or_else(|| self.project_directory.clone()),
            allow_host_access: self.allow_host_access || verb.allow_host_access,
        }
    }
}

/// Options that are accepted only before the verb.
#[derive(Debug, Clone, Default, Args)]
pub struct LeadingOptions {
    #[command(flatten)]
    pub spec: SpecOptions,
    /// When colours are used
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto", hide = true)]
    pub ansi: Ansi,
    /// Accepted for Compose
    #[arg(long, hide = true)]
    pub compatibility: bool,
    /// Accepted for Compose
    #[arg(long, hide = true, value_name = "NUMBER", allow_negative_numbers = true)]
    pub parallel: Option<i64>,
    /// Accepted for Compose
    #[arg(long, hide = true)]
    pub verbose: bool,
}

/// When colours are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Ansi {
    /// On a terminal
    #[default]
    Auto,
    /// Never
    Never,
    /// Always
    Always,
}

impl From<Ansi> for report::style::Colours {
    fn from(ansi: Ansi) -> Self {
        match ansi {
            Ansi::Auto => Self::Detected,
            Ansi::Never => Self::Never,
            Ansi::Always => Self::Always,
        }
    }
}
