//! Options that several verbs share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCandidates;

use super::Failure;
use crate::report;
use crate::spec::SandboxName;

/// What every verb takes.
#[derive(Debug, Clone, Default, Args)]
pub struct Globals {
    /// The sandbox to act on (default: that of SANDBOX_NAME, else the folder's).
    #[arg(long, short = 'n', global = true, value_name = "NAME",
          add = ArgValueCandidates::new(super::complete::sandboxes))]
    pub name: Option<SandboxName>,
    /// How progress is shown.
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "HOW")]
    pub progress: Progress,
    /// Print data as JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Globals {
    /// The same with what the environment says where the command line does not. An empty variable says nothing.
    ///
    /// # Errors
    /// When `SANDBOX_NAME` cannot be a sandbox's name.
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
    /// A live board on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// A live board.
    Tty,
    /// One line per fact.
    Plain,
    /// One JSON object per line.
    Json,
    /// Errors only.
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

/// Which spec, and how it is read. For verbs that read one.
#[derive(Debug, Clone, Default, Args)]
pub struct SpecOptions {
    /// The spec's file, `-` for standard input; several are merged in order (default: those of `COMPOSE_FILE`, else
    /// sandbox.yaml or compose.yaml, here or above).
    #[arg(long = "file", short = 'f', value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// A file with variables (default: .env beside the spec).
    #[arg(long = "env-file", value_name = "FILE", env = "COMPOSE_ENV_FILES", value_delimiter = ',')]
    pub env_files: Vec<PathBuf>,
    /// A profile that is active (default: those of `COMPOSE_PROFILES`).
    #[arg(long = "profile", value_name = "NAME", value_delimiter = ',')]
    pub profiles: Vec<String>,
    /// Let the spec reach the host: privileges, devices, host namespaces, paths outside its repository.
    #[arg(long)]
    pub allow_host_access: bool,
}
