//! Runs the keeper as a detached process on this machine, for engines whose socket cannot be mounted.
//!
//! Its socket is in the user's runtime directory, one per engine and scope. A client that finds no listener starts a
//! keeper; if several start, the first one to lock the file next to the socket stays and the others exit. Its records
//! are in the user's state directory. It may have no access to the engine's volumes (another user's, another
//! machine's), so a container of ours serves the storage, the [`crate::agent::client::StorageServer`].

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use sha2::{Digest, Sha256};
use tokio::net::UnixStream;

use super::{Greeted, LAST_LINES, Starter, Step, retire};
use crate::agent::client::KeeperError;
use crate::agent::client::wire::Wire;
use crate::agent::image;
use crate::engine::Location;
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
            self.started.store(true, Ordering::Relaxed);
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

    /// Whether a keeper process is listening.
    pub(in crate::agent::client) async fn has_process(&self) -> Result<bool, KeeperError> {
        Ok(UnixStream::connect(&self.places().await?.socket).await.is_ok())
    }

    /// Stops the keeper process, if there is one.
    pub(super) async fn dismiss_process(&self) -> Result<(), KeeperError> {
        if let Ok(socket) = UnixStream::connect(&self.places().await?.socket).await {
            retire(Wire::of_socket(socket)).await;
        }
        Ok(())
    }

    async fn spawn(&self, places: &Places) -> Result<(), KeeperError> {
        let (info, payload) = self.ready().await?;
        // The storage server is made from this image. Over a slow connection, loading it takes longer than we wait for
        // a keeper.
        image::ensure(&*self.engine, payload).await?;
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| KeeperError::Process { doing, path, source }
        };
        fs::create_dir_all(&places.state).map_err(failed("make", &places.state))?;
        // The program for the engine's machine may be one that this machine cannot run.
        let program = if payload.runs_here() {
            payload.binary().to_owned()
        } else {
            std::env::current_exe().map_err(failed("find", Path::new("sandbox")))?
        };
        let mut command = Command::new(&program);
        command
            .args(["agent", "keeper", "--detach"])
            .args(self.arguments(
                payload.build(),
                &places.socket.display().to_string(),
                &places.state.display().to_string(),
                None,
            ))
            .env(Scope::VARIABLE, self.options.scope.as_str())
            // A fault that a test injects into this process must not reach the keeper.
            .env_remove("SANDBOX_FAULT")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(places.log()).map_or_else(|_| Stdio::null(), Stdio::from));
        if let Location::Unix(_) = info.location {
            // The keeper would otherwise look for an engine itself, and might find another one.
            command.env("DOCKER_HOST", info.location.to_string());
        }
        let mut child = command.spawn().map_err(failed("start", &program))?;
        // This process never waits for the keeper, but a keeper that exits early must not stay a zombie.
        tokio::task::spawn_blocking(move || child.wait());
        Ok(())
    }

    /// Returns the last lines that the keeper process logged.
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
    /// The folder of its records.
    state: PathBuf,
}

impl Places {
    /// The path of its log file.
    fn log(&self) -> PathBuf {
        self.socket.with_extension("log")
    }
}

/// Creates the user's own folder for sockets, and fails if it belongs to another user.
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

/// Whether a keeper process has locked this socket, even if it does not listen yet.
fn is_taken(socket: &Path) -> bool {
    let lock = fs::File::open(lock_beside(socket)).map(|file| file.try_lock());
    matches!(lock, Ok(Err(fs::TryLockError::WouldBlock)))
}

/// Returns the lock file of this socket.
pub fn lock_beside(socket: &Path) -> PathBuf {
    socket.with_extension("lock")
}
