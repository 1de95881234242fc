//! Prepares a service's own seccomp profile: the engine wants its content, and data that need not be durable want the
//! rule that makes syncs a no-op. A spec that was loaded to be built holds the content already, as it was checked; one
//! that came with data may still name a file of this machine.

use std::path::Path;

use crate::data::fsync_profile;
use crate::session::error::SessionError;
use crate::spec::Durability;

const OPTION: &str = "seccomp=";

/// Replaces the paths of profiles, relative to `folder`, with their content. Where data need not be durable, also adds
/// the rule that makes syncs a no-op. What a profile denies stays denied.
///
/// # Errors
/// Names a file that cannot be read, or that is not a profile.
pub(crate) fn read(
    options: &mut [String],
    folder: &Path,
    durability: Durability,
) -> Result<(), SessionError> {
    for option in options {
        let Some(value) = option.strip_prefix(OPTION) else { continue };
        let (what, text) = match value {
            "unconfined" | "builtin" => continue,
            text if text.starts_with('{') => ("the seccomp profile".to_owned(), text.to_owned()),
            name => {
                let path = folder.join(name);
                let text = std::fs::read_to_string(&path).map_err(|source| SessionError::File {
                    what: "the seccomp profile".to_owned(),
                    path: path.clone(),
                    source,
                })?;
                (path.display().to_string(), text)
            }
        };
        let profile = match durability {
            Durability::Throwaway => fsync_profile::added_to(&text)
                .map_err(|error| SessionError::Invalid { what: format!("{what}: {error}"), hint: None })?,
            Durability::Durable => text,
        };
        *option = format!("{OPTION}{profile}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}"#;

    #[test]
    fn a_path_becomes_what_is_in_its_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("own.json"), PROFILE).unwrap();
        let read_as = |option: &str, durability| {
            let mut options = [option.to_owned()];
            read(&mut options, folder.path(), durability).map(|()| options[0].clone())
        };

        assert_eq!(read_as("seccomp=own.json", Durability::Durable).unwrap(), format!("seccomp={PROFILE}"));
        assert!(read_as("seccomp=own.json", Durability::Throwaway).unwrap().contains("fsync"));
        assert!(read_as(&format!("seccomp={PROFILE}"), Durability::Throwaway).unwrap().contains("fsync"));
        assert_eq!(read_as("seccomp=unconfined", Durability::Throwaway).unwrap(), "seccomp=unconfined");
        assert_eq!(read_as("label=disable", Durability::Throwaway).unwrap(), "label=disable");
        assert!(read_as("seccomp=none.json", Durability::Durable).is_err());
    }
}
