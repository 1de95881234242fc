//! The Unix socket of `lend`, which only its user may open.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::connection;
use crate::cli::Failure;
use crate::report::Output;
use crate::session::lend::server::Inbound;

/// A socket that exists as long as this value.
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Creates the socket. One that a killed `lend` left is replaced.
    ///
    /// # Errors
    /// Fails if another process listens at this path, if there is another file, or if the directory does not exist.
    pub fn bind(path: &Path) -> Result<Self, Failure> {
        let path = std::path::absolute(path)?;
        if UnixStream::connect(&path).is_ok() {
            let hint = "use it, end that process, or choose another path".to_owned();
            return Err(Failure::usage(format!("another process serves `{}`", path.display()), Some(hint)));
        }
        check_replaceable(&path)?;
        let failed = |error: std::io::Error| {
            let hint = "its directory must exist and be yours; a path has at most 107 bytes".to_owned();
            Failure::failed(format!("cannot create the socket `{}`: {error}", path.display()), Some(hint))
        };
        // It gets its name only when nobody else can open it.
        let mut new = path.clone().into_os_string();
        new.push(format!(".{}", std::process::id()));
        let new = PathBuf::from(new);
        let listener = UnixListener::bind(&new).map_err(failed)?;
        let named =
            fs::set_permissions(&new, Permissions::from_mode(0o600)).and_then(|()| fs::rename(&new, &path));
        if let Err(error) = named {
            let _ = fs::remove_file(&new);
            return Err(failed(error));
        }
        Ok(Self { listener, path })
    }

    /// Serves clients for as long as it is not cancelled. The first line of the protocol is printed, too, so that whoever
    /// started this process knows when to go on.
    pub async fn serve(self, requests: mpsc::Sender<Inbound>) {
        let (replies, mut first) = mpsc::channel(1);
        // Nobody hears clients once the session ends.
        let _ = requests.send(Inbound::Joined(0, replies)).await;
        let mut clients = JoinSet::new();
        let mut number = 0;
        loop {
            tokio::select! {
                Some(reply) = first.recv() => Output::stdout().json_line(&reply),
                Some(_) = clients.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        number += 1;
                        let (input, output) = stream.into_split();
                        clients.spawn(connection::serve(number, input, output, requests.clone()));
                    }
                    // Too many open files: the clients that leave free some.
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
                },
            }
        }
    }
}

/// Only a socket is replaced.
fn check_replaceable(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::FileTypeExt;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let message = format!("`{}` exists and is no socket", path.display());
            Err(Failure::usage(message, Some("choose another path".to_owned())))
        }
        _ => Ok(()),
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // It may have been removed by hand.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_its_user_may_open_it_and_it_goes_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lend.sock");
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Socket::bind(&path).is_err_and(|error| error.to_string().contains("another process")));
        drop(socket);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_replaced_but_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lend.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(Socket::bind(&path).is_ok());
        fs::write(&path, "precious").unwrap();
        assert!(Socket::bind(&path).is_err());
        assert!(Socket::bind(&folder.path().join("none/lend.sock")).is_err());
    }
}
