//! The input and output of [`super::load`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use super::model::{ConfigName, SandboxName, SecretName, Spec, SpecOrigin};
use super::problem::Warning;
use super::scope::ScopedValues;

/// What to load, with all its inputs: `load` reads neither the process's environment nor its working folder.
#[derive(Debug, Clone, Default)]
pub struct LoadRequest {
    /// The spec's files, in the order of merging; `-` is [`LoadRequest::input`]. If empty: the files in `COMPOSE_FILE`
    /// (from the environment, the files of variables or `.env`), otherwise the default names in `folder` and then in
    /// its parent folders.
    pub files: Vec<PathBuf>,
    /// The content of standard input, for the file `-`.
    pub input: Option<Vec<u8>>,
    /// The base folder of relative paths in this request: the user's working folder, absolute.
    pub folder: PathBuf,
    /// The base folder of relative paths in the spec, if not the first file's folder.
    pub project_folder: Option<PathBuf>,
    /// The process's environment.
    pub env: BTreeMap<String, String>,
    /// Files of variables (`--env-file`). If empty: `.env` beside the spec, if it exists.
    pub env_files: Vec<PathBuf>,
    /// Active profiles; `*` for all. If empty: those in `COMPOSE_PROFILES`, from the environment or the files of
    /// variables.
    pub profiles: Vec<String>,
    /// Services selected by name: they are active whatever their profiles, as in Compose.
    pub services: Vec<String>,
    /// The project name; overrides the one in the spec and the folder's.
    pub name: Option<String>,
    /// Whether to allow host access.
    pub allow_host_access: HostAccess,
    /// The folder that the spec may not leave: no file outside is read, and a path outside is host access, as is the
    /// user's SSH agent and any snapshot that is not in `snapshots`. `None`: the spec's repository bounds only mounts.
    pub boundary: Option<Boundary>,
    /// The origin of the spec.
    pub origin: SpecOrigin,
    /// How rejections are reported.
    pub refusals: Refusals,
}

/// What of this machine a spec may use.
#[derive(Debug, Clone, Default)]
pub struct Boundary {
    /// The folder with all its files, without links in its path.
    pub folder: PathBuf,
    /// The stored snapshots that it may take data from.
    pub snapshots: BTreeSet<String>,
}

/// Whether a spec may access the host: privileges, devices, the host's namespaces, paths outside its repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostAccess {
    /// Host access is an error.
    #[default]
    Refused,
    /// Host access is allowed (`--allow-host-access`).
    Allowed,
}

/// How rejected features (host access, external networks, …) are reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Refusals {
    /// As problems: the spec is going to be built.
    #[default]
    Fail,
    /// As warnings: the spec is only displayed.
    Warn,
}

/// The result of loading a spec.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The resolved spec.
    pub spec: Spec,
    /// All warnings about the spec.
    pub warnings: Vec<Warning>,
    /// The variables for interpolation: the environment, which takes precedence over `.env` or the given files.
    pub variables: Variables,
    /// The default name of its sandbox: the project name and the git branch.
    pub sandbox: SandboxName,
    /// All files that were read: the spec's own, and files of variables (`.env`, `env_file`).
    pub read: BTreeSet<PathBuf>,
}

/// Variables with their values; `Debug` does not print the values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables {
    pub(super) by_name: BTreeMap<String, String>,
    /// Values of secrets and configs that come from variables of included files.
    pub(super) scoped: ScopedValues,
}

impl Variables {
    /// A variable's value, if it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(String::as_str)
    }

    /// The value of a secret whose source is a variable.
    pub fn of_secret(&self, secret: &SecretName, variable: &str) -> Option<&str> {
        self.of("secrets", secret.as_str(), variable)
    }

    /// The value of a config whose source is a variable.
    pub fn of_config(&self, config: &ConfigName, variable: &str) -> Option<&str> {
        self.of("configs", config.as_str(), variable)
    }

    fn of(&self, section: &str, name: &str, variable: &str) -> Option<&str> {
        let scoped = self.scoped.get(&(section.to_owned(), name.to_owned()));
        scoped.map(String::as_str).or_else(|| self.get(variable))
    }

    /// All variables, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.by_name.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}
