//! The keeper as a detached process of this machine, for engines whose socket may not be mounted.
//!
//! Its socket is in the user's runtime directory, one for each engine and scope. Whoever finds nobody listening starts
//! one; of several, the first to lock the socket's neighbour stays and the others end at once. Its records are in the
//! user's state directory. The engine's volumes may be out of its reach (another user's, another machine's): the storage
//! is served by a container of ours, the [`super::StorageServer`].

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};
use tokio::net::UnixStream;

use super::KeeperError;
use super::start::{Greeted, LAST_LINES, Starter, Step, retire};
use super::wire::Wire;
use crate::agent::image;
use crate::engine::identity::Scope;

impl Starter {
    pub(super) async fn by_process(&self) -> Result<Step, KeeperError> {
        let places = self.places().await?;
        let Ok(socket) = UnixStream::connect(&places.socket).await else {
            if is_taken(&places.socket) {
                return Ok(Step::Again("its process does not listen yet".to_owned()));
            }
            let keeper = self.options.scope.keeper();
            self.alone(&keeper, "a keeper in a container serves this engine: unset it").await?;
            self.spawn(&places).await?;
            return Ok(Step::Again("it was just started".to_owned()));
        };
        match self.greet(Wire::of_socket(socket)).await? {
            Greeted::Well(reached) => Ok(Step::Reached(reached)),
            Greeted::Not(cause) => Ok(Step::Again(cause)),
            Greeted::Replace(wire) => {
                retire(*wire).await;
                Ok(Step::Replaced)
            }
        }
    }

    /// Whether a keeper's process listens.
    pub(super) async fn has_process(&self) -> Result<bool, KeeperError> {
        Ok(UnixStream::connect(&self.places().await?.socket).await.is_ok())
    }

    /// Ends the keeper's process, if there is one.
    pub(super) async fn dismiss_process(&self) -> Result<(), KeeperError> {
        if let Ok(socket) = UnixStream::connect(&self.places().await?.socket).await {
            retire(Wire::of_socket(socket)).await;
        }
        Ok(())
    }

    async fn spawn(&self, places: &Places) -> Result<(), KeeperError> {
        let (_, payload) = self.ready().await?;
        // What it makes the storage server from: on a slow line that takes longer than a keeper is waited for.
        image::ensure(&*self.engine, payload).await?;
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| KeeperError::Process { doing, path, source }
        };
        fs::create_dir_all(&places.state).map_err(failed("make", &places.state))?;
        let mut command = Command::new(payload.binary());
        command
            .args(["agent", "keeper", "--detach"])
            .args(self.arguments(
                payload.build(),
                &places.socket.display().to_string(),
                &places.state.display().to_string(),
                None,
            ))
            .env(Scope::VARIABLE, self.options.scope.as_str())
            // What a test does to this process is not meant for the keeper.
            .env_remove("SANDBOX_FAULT")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(places.log()).map_or_else(|_| Stdio::null(), Stdio::from));
        let mut child = command.spawn().map_err(failed("start", payload.binary()))?;
        // Nobody waits for it for as long as this process lives, but one that ends at once is no zombie.
        tokio::task::spawn_blocking(move || child.wait());
        Ok(())
    }

    /// What the keeper's process wrote last.
    pub(super) async fn last_lines(&self) -> Option<String> {
        let text = fs::read_to_string(self.places().await.ok()?.log()).ok()?;
        let lines: Vec<&str> = text.lines().collect();
        Some(lines[lines.len().saturating_sub(LAST_LINES)..].join("\n"))
    }

    async fn places(&self) -> Result<Places, KeeperError> {
        let (info, _) = self.ready().await?;
        let engine = hex::encode(Sha256::digest(info.location.to_string().as_bytes()));
        let name = format!("{}-{}", self.options.scope.keeper(), &engine[..12]);
        let runtime = runtime_folder()?;
        let home = std::env::home_dir().unwrap_or_else(|| runtime.clone());
        let state =
            std::env::var_os("XDG_STATE_HOME").map_or_else(|| home.join(".local/state"), PathBuf::from);
        Ok(Places { socket: runtime.join(format!("{name}.sock")), state: state.join("sandbox").join(name) })
    }
}

struct Places {
    socket: PathBuf,
    /// Where its records go.
    state: PathBuf,
}

impl Places {
    /// Where what it tells goes.
    fn log(&self) -> PathBuf {
        self.socket.with_extension("log")
    }
}

/// The user's own folder for sockets; made, and refused if it is somebody else's.
fn runtime_folder() -> Result<PathBuf, KeeperError> {
    let own = rustix::process::getuid().as_raw();
    let folder = match std::env::var_os("XDG_RUNTIME_DIR").filter(|it| !it.is_empty()) {
        Some(folder) => PathBuf::from(folder).join("sandbox"),
        None => std::env::temp_dir().join(format!("sandbox-{own}")),
    };
    let failed = |doing| {
        let path = folder.clone();
        move |source| KeeperError::Process { doing, path, source }
    };
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed("make")(error)),
        _ => {}
    }
    let meta = fs::symlink_metadata(&folder).map_err(failed("look at"))?;
    if !meta.is_dir() || meta.uid() != own || meta.mode() & 0o077 != 0 {
        let source = io::Error::other("it is not a folder that only this user can enter");
        return Err(failed("use")(source));
    }
    Ok(folder)
}

/// Whether a keeper's process has locked the place at this socket, though it need not listen yet.
fn is_taken(socket: &Path) -> bool {
    let lock = fs::File::open(lock_beside(socket)).map(|file| file.try_lock());
    matches!(lock, Ok(Err(fs::TryLockError::WouldBlock)))
}

/// The file whose lock says that somebody keeps at this socket.
pub fn lock_beside(socket: &Path) -> PathBuf {
    socket.with_extension("lock")
}
