//! Finds the engine's socket on the engine's own machine, where it may have another path than on the client's.
//!
//! Only a container that mounts a path shows whether the engine is behind it. So the keeper is created with one path
//! after the other, until it reaches its engine. The mounts never create a path.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Starter;
use super::container::{ContainerRole, ENGINE_SOCKET};
use crate::agent::client::KeeperError;
use crate::agent::protocol::WRONG_SOCKET;
use crate::engine::{Container, ContainerState, EngineInfo, EngineKind, Location};

/// The usual paths, in order of preference.
const USUAL: [&str; 2] = [ENGINE_SOCKET, "/run/docker.sock"];
const PODMANS: [&str; 2] = ["/run/podman/podman.sock", "/var/run/podman/podman.sock"];
/// How long the engine's first answer to a keeper may take.
const PATIENCE: Duration = Duration::from_millis(1500);
/// The same when no socket has answered sooner.
const LONG_PATIENCE: Duration = Duration::from_secs(20);
/// What the keeper logs of an engine that does not answer in time.
const SILENT: &str = "no answer";

/// The sockets that were tried in vain.
#[derive(Default)]
pub(in crate::agent::client) struct SocketTrials(Mutex<Trials>);

#[derive(Default)]
struct Trials {
    /// Each path with the cause.
    failed: Vec<(String, String)>,
    /// Whether those that did not answer in time have been given more.
    again: bool,
}

impl SocketTrials {
    fn with<T>(&self, act: impl FnOnce(&mut Trials) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long the next keeper is to wait for its engine's first answer.
    pub(super) fn patience(&self) -> Duration {
        self.with(|trials| if trials.again { LONG_PATIENCE } else { PATIENCE })
    }

    pub(super) fn record(&self, socket: String, cause: String) {
        self.with(|trials| {
            trials.failed.retain(|(known, _)| *known != socket);
            trials.failed.push((socket, cause));
        });
    }

    /// Returns the paths that are still to be tried.
    fn remaining(&self, all: &[String]) -> Vec<String> {
        self.with(|trials| {
            let left = |trials: &Trials| -> Vec<String> {
                let failed = |path: &&String| trials.failed.iter().any(|(known, _)| known == *path);
                all.iter().filter(|path| !failed(path)).cloned().collect()
            };
            let remaining = left(trials);
            if !remaining.is_empty() || trials.again {
                return remaining;
            }
            trials.again = true;
            trials.failed.retain(|(_, cause)| !cause.contains(SILENT));
            left(trials)
        })
    }

    /// The error once no path is left.
    pub(super) fn error(&self) -> KeeperError {
        KeeperError::EngineSocket { tried: self.with(|trials| trials.failed.clone()) }
    }

    /// Whether any path was tried in vain.
    pub(super) fn any(&self) -> bool {
        self.with(|trials| !trials.failed.is_empty())
    }
}

impl Starter {
    /// Returns the paths that the keeper is created with, one after the other. A storage server gets no socket.
    pub(super) fn engine_sockets(&self, info: &EngineInfo) -> Vec<Option<String>> {
        if self.post == ContainerRole::StorageServer {
            return vec![None];
        }
        let all = match &self.options.socket {
            Some(told) => vec![told.clone()],
            None => candidates(info),
        };
        self.sockets.remaining(&all).into_iter().map(Some).collect()
    }

    /// Removes a keeper whose socket does not lead to its engine. Returns whether this is one.
    pub(super) async fn has_wrong_socket(&self, container: &Container) -> Result<bool, KeeperError> {
        let ended = !matches!(container.state, ContainerState::Running | ContainerState::Created);
        if self.post != ContainerRole::Keeper || !ended || container.exit_code != Some(WRONG_SOCKET.into()) {
            return Ok(false);
        }
        let cause = self.logged().await.unwrap_or_default();
        let cause = cause.trim().lines().next_back().unwrap_or("it does not lead to the engine").to_owned();
        let mounted = container.mounts.iter().find(|mount| mount.target == ENGINE_SOCKET);
        if let Some(mounted) = mounted {
            tracing::debug!(socket = mounted.source, cause, "not the engine's socket on its machine");
            self.sockets.record(mounted.source.clone(), cause);
        }
        self.remove(&container.id).await?;
        Ok(true)
    }
}

/// Where the engine's socket may be on the engine's machine, most likely first.
fn candidates(info: &EngineInfo) -> Vec<String> {
    let mut paths = Vec::new();
    // Docker Desktop's engine runs in its own virtual machine, where the socket has its usual path.
    if let Location::Unix(path) = &info.location
        && !info.distribution.contains("Docker Desktop")
    {
        paths.push(path.display().to_string());
    }
    let usual =
        if info.kind == EngineKind::Podman { PODMANS.iter().chain(&USUAL) } else { USUAL.iter().chain(&[]) };
    for path in usual {
        if !paths.iter().any(|known| known == path) {
            paths.push((*path).to_owned());
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn each_path_is_tried_once_and_a_silent_one_twice() {
        let trials = SocketTrials::default();
        let all = paths(&["/a", "/b"]);
        assert_eq!(trials.remaining(&all), all);
        trials.record("/a".to_owned(), "cannot connect: no answer to the first question".to_owned());
        assert_eq!(trials.remaining(&all), paths(&["/b"]));
        trials.record("/b".to_owned(), "connection refused".to_owned());
        let short = trials.patience();
        assert_eq!(trials.remaining(&all), paths(&["/a"]));
        assert!(trials.patience() > short);
        trials.record("/a".to_owned(), "no answer".to_owned());
        assert!(trials.remaining(&all).is_empty());
        let error = trials.error().to_string();
        assert!(error.contains("`/a`: no answer") && error.contains("`/b`: connection refused"), "{error}");
    }
}
