//! Options that several verbs share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCandidates;

use crate::report;
use crate::spec::SandboxName;

/// What every verb takes.
#[derive(Debug, Clone, Default, Args)]
pub struct Globals {
    /// The sandbox to act on (default: the folder's).
    #[arg(long, short = 'n', global = true, env = "SANDBOX_NAME", value_name = "NAME",
          add = ArgValueCandidates::new(super::complete::sandboxes))]
    pub name: Option<SandboxName>,
    /// How progress is shown.
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "HOW")]
    pub progress: Progress,
    /// Print data as JSON.
    #[arg(long, global = true)]
    pub json: bool,
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
