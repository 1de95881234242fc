//! Reads the values of build secrets and finds the sockets of SSH agents.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::session::LARGEST_SECRET;
use crate::engine::{BuildSecret, SecretSource};
use crate::host_files::WritableFolders;

/// The environment variable with the socket of the user's SSH agent.
const AGENT: &str = "SSH_AUTH_SOCK";

/// Reads the secrets' values, keyed by id.
pub(super) fn secrets(
    secrets: &[BuildSecret],
    writable: &WritableFolders,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let values = secrets.iter().map(|secret| {
        let id = &secret.id;
        let value = match &secret.source {
            SecretSource::File(path) => read(path, writable)
                .map_err(|error| format!("secret `{id}`: `{}`: {error}", path.display()))?,
            SecretSource::Environment(name) => std::env::var(name)
                .map_err(|_| format!("secret `{id}`: the variable `{name}` is not set"))?
                .into_bytes(),
        };
        if value.len() > LARGEST_SECRET {
            return Err(format!(
                "secret `{id}` is larger than {LARGEST_SECRET} bytes, the most that BuildKit takes"
            ));
        }
        Ok((id.clone(), value))
    });
    values.collect()
}

fn read(path: &Path, writable: &WritableFolders) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    writable.open(path)?.take(LARGEST_SECRET as u64 + 1).read_to_end(&mut value)?;
    Ok(value)
}

/// Parses agent sockets (`default`, `ID=SOCKET`), keyed by id.
pub(super) fn agents(agents: &[String]) -> Result<BTreeMap<String, PathBuf>, String> {
    let sockets = agents.iter().map(|agent| {
        let (id, socket) = if let Some((id, path)) = agent.split_once('=') { (id, PathBuf::from(path)) } else {
            let socket = std::env::var_os(AGENT).filter(|path| !path.is_empty());
            let socket = socket.ok_or_else(|| {
                format!("`ssh: {agent}` needs an SSH agent, and {AGENT} is not set: start one with `ssh-agent`")
            })?;
            (agent.as_str(), PathBuf::from(socket))
        };
        if is_socket(&socket) {
            Ok((id.to_owned(), socket))
        } else {
            Err(format!(
                "`ssh: {id}`: `{}` is not an agent's socket; add a key to your agent with `ssh-add FILE`, and write `default`",
                socket.display()
            ))
        }
    });
    sockets.collect()
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_not_there_and_a_key_that_is_no_agent_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("id_ed25519");
        fs::write(&key, "key").unwrap();
        let secret = |source| BuildSecret { id: "token".to_owned(), source };
        let read = secrets(&[secret(SecretSource::File(key.clone()))], &WritableFolders::default()).unwrap();
        assert_eq!(read["token"], b"key");
        let unset = secrets(
            &[secret(SecretSource::Environment("SANDBOX_TEST_UNSET".to_owned()))],
            &WritableFolders::default(),
        )
        .unwrap_err();
        assert!(unset.contains("`token`") && unset.contains("SANDBOX_TEST_UNSET"), "{unset}");
        let no_agent = agents(&[format!("default={}", key.display())]).unwrap_err();
        assert!(no_agent.contains("ssh-add"), "{no_agent}");
        let socket = folder.path().join("agent");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(agents(&[format!("work={}", socket.display())]).unwrap()["work"], socket);
    }
}
