//! What is asked of [`super::load`], and what it gives.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use super::model::{ConfigName, SandboxName, SecretName, SecretSource, Spec, SpecOrigin};
use super::problem::Warning;
use super::scope::ScopedValues;

/// What to load, and under which circumstances. Nothing else is looked at: not the process's environment, not its
/// working folder.
#[derive(Debug, Clone, Default)]
pub struct LoadRequest {
    /// The spec's files, in the order of merging; `-` is [`LoadRequest::input`]. Empty: those that `COMPOSE_FILE` names
    /// (in the environment, the files of variables or `.env`), else the default names are looked for in `folder`, then
    /// in the folders above it.
    pub files: Vec<PathBuf>,
    /// What stands for the file `-`: what was read from standard input.
    pub input: Option<Vec<u8>>,
    /// Where relative paths of this request begin: the user's working folder, absolute.
    pub folder: PathBuf,
    /// The folder that relative paths of the spec are resolved against, if not the first file's.
    pub project_folder: Option<PathBuf>,
    /// The process's environment.
    pub env: BTreeMap<String, String>,
    /// Files with more variables (`--env-file`). Empty: `.env` beside the spec, if there is one.
    pub env_files: Vec<PathBuf>,
    /// Active profiles; `*` for all. Empty: those of `COMPOSE_PROFILES`, in the environment or the files of variables.
    pub profiles: Vec<String>,
    /// Services asked for by name: they are active whatever their profiles, as in Compose.
    pub services: Vec<String>,
    /// The spec's name, if not the one written or the folder's.
    pub name: Option<String>,
    /// Whether the spec may reach the host.
    pub allow_host_access: HostAccess,
    /// Where the spec came from.
    pub origin: SpecOrigin,
    /// What happens to what sandbox refuses.
    pub refusals: Refusals,
}

/// Whether a spec may reach the host: privileges, devices, the host's namespaces, paths outside its repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostAccess {
    /// It may not.
    #[default]
    Refused,
    /// `--allow-host-access`.
    Allowed,
}

/// What happens to what sandbox refuses (host access, external networks, …).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Refusals {
    /// It is a problem: the spec is to be built.
    #[default]
    Fail,
    /// It is a warning: the spec is only to be shown.
    Warn,
}

/// A spec that was loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The spec.
    pub spec: Spec,
    /// What is odd about it.
    pub warnings: Vec<Warning>,
    /// The variables it was interpolated with: the environment over `.env` or the given files.
    pub variables: Variables,
    /// The name its sandbox has unless another is asked for: the spec's name and the git branch.
    pub sandbox: SandboxName,
    /// The files that it was read from: its own, and those of variables (`.env`, `env_file`).
    pub read: BTreeSet<PathBuf>,
}

/// Variables with their values, which its `Debug` does not show.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables {
    pub(super) by_name: BTreeMap<String, String>,
    /// What secrets and configs of included files take from variables of those files.
    pub(super) scoped: ScopedValues,
}

impl Variables {
    /// A variable's value, if it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(String::as_str)
    }

    /// The value of a secret that comes from a variable.
    pub fn of_secret(&self, secret: &SecretName, variable: &str) -> Option<&str> {
        self.of("secrets", secret.as_str(), variable)
    }

    /// The value of a config that comes from a variable.
    pub fn of_config(&self, config: &ConfigName, variable: &str) -> Option<&str> {
        self.of("configs", config.as_str(), variable)
    }

    fn of(&self, section: &str, name: &str, variable: &str) -> Option<&str> {
        let scoped = self.scoped.get(&(section.to_owned(), name.to_owned()));
        scoped.map(String::as_str).or_else(|| self.get(variable))
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.by_name.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

impl Loaded {
    /// The value of a secret that comes from the environment. `None` for other kinds, and where the variable is
    /// not set.
    pub fn secret_from_environment(&self, secret: &SecretName) -> Option<secrecy::SecretString> {
        match &self.spec.secrets.get(secret)?.source {
            SecretSource::Environment(name) => {
                self.variables.of_secret(secret, name).map(secrecy::SecretString::from)
            }
            SecretSource::File(_) | SecretSource::Generate(_) | SecretSource::External => None,
        }
    }
}
