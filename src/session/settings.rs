//! The user's settings.

use std::path::PathBuf;

use crate::plan::SubnetPool;
use crate::session::error::SessionError;
use crate::spec::Settings;

/// The environment variable that sets the subnet ranges; it overrides the user's settings.
const SUBNETS: &str = "SANDBOX_SUBNETS";

/// The path of `sandbox/config.yaml` in the user's configuration folder.
pub(crate) fn path() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    folder.unwrap_or_default().join("sandbox").join("config.yaml")
}

/// Loads the user's settings; the default if there is no file.
///
/// # Errors
/// Fails if the file cannot be read or has an invalid setting.
pub(crate) fn load() -> Result<Settings, SessionError> {
    let path = path();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Settings::default()),
        Err(source) => {
            return Err(SessionError::File { what: "the user's settings".to_owned(), path, source });
        }
    };
    Settings::parse(&text).map_err(|problem| SessionError::Invalid {
        what: format!("`{}`: {problem}", path.display()),
        hint: Some("its keys are max_sandboxes, max_memory and subnets".to_owned()),
    })
}

/// The ranges that subnets are allocated from: the environment's, else the user's, else the default.
///
/// # Errors
/// Fails if a range is invalid.
pub fn subnets() -> Result<SubnetPool, SessionError> {
    let (list, place) = match std::env::var(SUBNETS).ok().filter(|list| !list.trim().is_empty()) {
        Some(list) => (list, SUBNETS.to_owned()),
        None => match load()?.subnets {
            Some(ranges) => (ranges.join(","), format!("`subnets` in `{}`", path().display())),
            None => return Ok(SubnetPool::default()),
        },
    };
    SubnetPool::parse(&list).map_err(|error| SessionError::Invalid {
        what: format!("{place}: {error}"),
        hint: Some("give IPv4 networks such as 10.50.0.0/16".to_owned()),
    })
}
