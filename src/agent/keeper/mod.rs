//! The keeper: holds the leases and deadlines of all sandboxes of an engine's scope, destroys sandboxes whose lease is
//! lost or whose time is over, restarts services, and serves the storage.
//!
//! [`state`] decides, [`store`] persists, [`serve`] runs the loop and performs the actions.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

mod budget_eviction;
mod cgroups;
mod clients;
mod clock;
mod destroy;
mod disk_pressure;
pub mod engine_watch;
#[cfg(test)]
pub mod in_memory;
mod observe;
mod quiesced;
pub mod restart;
pub mod serve;
pub mod state;
pub mod storage_server;
pub mod store;
mod unfinished;

use self::serve::{End, KeeperHome, Parts};
use self::store::Store;
use super::host_firewall::container::HostFirewall;
use super::protocol::{Build, DiskSpace, Greeting, WRONG_SOCKET};
use crate::agent::client::{ENGINE_SOCKET, Limiting, Options, StorageServer, in_full, lock_beside};
use crate::engine::docker::{ConnectRequest, Docker};
use crate::engine::identity::{self, Scope};
use crate::engine::{Engine, EngineError};
use crate::storage::{self, Storage, StorageKind};
use cgroups::{GroupReport, Opened};

/// How long before its end a keeper may have missed engine events.
const UNHEARD: Duration = Duration::from_secs(2);

/// The keeper's command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    socket: PathBuf,
    volume: PathBuf,
    /// The volume's path on the engine's machine; `None` if the volume is a plain folder of a keeper process.
    host_root: Option<PathBuf>,
    storage: Option<StorageKind>,
    /// Bytes that stored data may take.
    budget: Option<u64>,
    linger: Duration,
    /// How long a new keeper waits for the engine's first answer, while there may be another socket to try.
    patience: Option<Duration>,
    /// Whether the engine's cgroup tree is mounted.
    groups: GroupReport,
    home: KeeperHome,
    /// The build of the client that started it.
    build: Build,
}

impl Arguments {
    /// Reads `--NAME=VALUE` arguments.
    pub fn parse(args: &[String]) -> Result<Self, String> {
        let mut read = Self {
            socket: PathBuf::from(super::client::SOCKET),
            volume: PathBuf::from(super::client::VOLUME),
            host_root: None,
            storage: None,
            budget: None,
            linger: state::LINGER,
            patience: None,
            groups: GroupReport::Refused("the engine's control groups are not mounted".to_owned()),
            home: KeeperHome::Container,
            build: Build::default(),
        };
        for arg in args {
            match arg.split_once('=').unwrap_or((arg, "")) {
                ("--socket", value) => read.socket = value.into(),
                ("--volume", value) => read.volume = value.into(),
                ("--host-root", value) => read.host_root = Some(value.into()),
                ("--storage", value) => read.storage = Some(value.parse()?),
                ("--budget", value) => {
                    read.budget = Some(value.parse().map_err(|error| format!("{arg}: {error}"))?);
                }
                ("--linger", value) => {
                    read.linger =
                        Duration::from_millis(value.parse().map_err(|error| format!("{arg}: {error}"))?);
                }
                ("--patience", value) => {
                    read.patience = Some(Duration::from_millis(
                        value.parse().map_err(|error| format!("{arg}: {error}"))?,
                    ));
                }
                ("--build", value) => {
                    read.build = serde_json::from_str(value).map_err(|error| format!("{arg}: {error}"))?;
                }
                ("--groups", value) => read.groups = GroupReport::Mounted(value.parse()?),
                ("--no-groups", value) => read.groups = GroupReport::Refused(value.to_owned()),
                ("--detach", _) => read.home = KeeperHome::Process,
                _ => return Err(format!("`{arg}` is not an argument of the keeper")),
            }
        }
        Ok(read)
    }
}

/// Why a keeper could not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{0}")]
    Arguments(String),
    #[error("cannot use `{}`", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot reach the engine")]
    Engine(#[from] EngineError),
    #[error("the engine's socket in the container `{own}` is that of another engine")]
    AnotherEngine { own: String },
    #[error("the keeper failed")]
    Loop(#[from] io::Error),
}

/// `sandbox agent keeper …`
pub fn run(args: &[String]) -> ExitCode {
    match start(args) {
        Ok(End::Left | End::Stopped) => ExitCode::SUCCESS,
        Ok(End::EngineGone(cause)) => {
            let _ = writeln!(io::stderr(), "the engine is gone: {cause}");
            ExitCode::FAILURE
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}", in_full(&error));
            match error {
                StartError::Engine(_) | StartError::AnotherEngine { .. } => WRONG_SOCKET.into(),
                StartError::Arguments(_) | StartError::Folder { .. } | StartError::Loop(_) => {
                    ExitCode::FAILURE
                }
            }
        }
    }
}

fn start(args: &[String]) -> Result<End, StartError> {
    let arguments = Arguments::parse(args).map_err(StartError::Arguments)?;
    let _lock = match arguments.home {
        KeeperHome::Process => match detach(&arguments.socket)? {
            Some(lock) => Some(lock),
            None => return Ok(End::Stopped),
        },
        KeeperHome::Container => None,
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(4).build()?.block_on(run_with(arguments))
}

/// Starts a session of its own and locks the socket; returns `None` if another keeper has locked it.
fn detach(socket: &Path) -> io::Result<Option<std::fs::File>> {
    // This fails for a process group leader; then the terminal cannot signal the process anyway.
    let _ = rustix::process::setsid();
    let lock =
        std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(lock_beside(socket))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

async fn run_with(arguments: Arguments) -> Result<End, StartError> {
    let scope = Scope::from_env().map_err(|error| StartError::Arguments(error.to_string()))?;
    let store = Store::open(&arguments.volume)
        .map_err(|source| StartError::Folder { path: arguments.volume.clone(), source })?;
    let (engine, heard) = match arguments.home {
        KeeperHome::Container => reach_own_engine(&arguments, &store).await?,
        KeeperHome::Process => (Docker::connect_from_env().await?, None),
    };
    let (storage, refused, storage_server, groups) = match arguments.home {
        KeeperHome::Container => {
            let (storage, refused) = open_local(&arguments).await;
            (storage, refused, None, cgroups::open_local(&arguments, &scope).await)
        }
        KeeperHome::Process => open_far(&engine, &scope, &arguments).await,
    };
    let greeting = Greeting {
        build: arguments.build.clone(),
        storage: storage.as_ref().map(|it| it.kind()),
        storage_refused: refused,
        groups: groups.as_ref().ok().map(|it| it.grouping().clone()),
        groups_refused: groups.as_ref().err().cloned(),
        sandboxes: 0,
        disk: disk(&arguments, storage_server.as_ref()),
    };
    let image = identity::agent_image(&arguments.build.digest);
    let parts = Parts {
        home: arguments.home,
        host_firewall: Some(Arc::new(HostFirewall::new(Arc::clone(&engine), scope.clone(), image))),
        engine,
        scope,
        store,
        storage,
        groups: groups.ok(),
        greeting,
        linger: arguments.linger,
        socket: arguments.socket,
        heard,
    };
    let end = serve::serve(parts).await?;
    if let (End::Left, Some(storage_server)) = (&end, storage_server)
        && let Err(error) = storage_server.dismiss().await
    {
        tracing::warn!(error = in_full(&error), "cannot remove the container that serves the storage");
    }
    Ok(end)
}

/// Returns the space on the engine's disk: that of the volume here, or of the storage server's.
fn disk(arguments: &Arguments, storage_server: Option<&StorageServer>) -> Option<DiskSpace> {
    match arguments.home {
        KeeperHome::Container => DiskSpace::of(&arguments.volume),
        KeeperHome::Process => storage_server?.greeting().disk,
    }
}

/// Connects by the mounted socket and checks that it belongs to the engine that runs this container: on another engine
/// the keeper would destroy other sandboxes and never find ours. Also returns until when the previous run of this
/// container has surely seen all events.
async fn reach_own_engine(
    arguments: &Arguments,
    store: &Store,
) -> Result<(Arc<dyn Engine>, Option<Timestamp>), StartError> {
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // An engine that is starting answers late, but only a container's first start can have a wrong socket.
    let patience = arguments.patience.filter(|_| !store.engine_was_found(&own));
    let request = ConnectRequest { patience, ..ConnectRequest::at_socket(ENGINE_SOCKET) };
    let engine = Docker::connect(&request).await?;
    let Some(container) = engine.container(&own).await? else {
        return Err(StartError::AnotherEngine { own });
    };
    if let Err(error) = store.save_engine_found(&own) {
        tracing::debug!(%error, "cannot record that the engine was found");
    }
    // The previous run may have missed events just before its end.
    let heard = container.finished_at.and_then(|ended| ended.checked_sub(UNHEARD).ok());
    Ok((engine, heard))
}

type Refusals = Vec<(StorageKind, String)>;

/// Opens the storage of a storage server, for a keeper process that may have no access to the volumes. If that fails,
/// the keeper still runs, without storage.
async fn open_far(
    engine: &Arc<dyn Engine>,
    scope: &Scope,
    arguments: &Arguments,
) -> (Option<Arc<dyn Storage>>, Refusals, Option<StorageServer>, Opened) {
    let options = Options {
        scope: scope.clone(),
        storage: arguments.storage,
        budget: arguments.budget,
        limiting: Limiting::from_env().unwrap_or_default(),
        ..Options::default()
    };
    match StorageServer::open(engine, options).await {
        Ok(storage_server) => {
            let refused = storage_server.greeting().storage_refused.clone();
            let groups = cgroups::far(&storage_server);
            (storage_server.storage(), refused, Some(storage_server), groups)
        }
        Err(error) => {
            let why = match error.hint() {
                Some(hint) => format!("{} ({hint})", in_full(&error)),
                None => in_full(&error),
            };
            (None, vec![(arguments.storage.unwrap_or(StorageKind::Copy), why.clone())], None, Err(why))
        }
    }
}

/// Opens the storage in the volume that is mounted here. If that fails, the keeper still runs, without storage.
async fn open_local(arguments: &Arguments) -> (Option<Arc<dyn Storage>>, Refusals) {
    let Some(host_root) = arguments.host_root.clone() else {
        let why = "the place of the keeper's volume on the engine's machine was not told".to_owned();
        return (None, vec![(StorageKind::Copy, why)]);
    };
    let volume = arguments.volume.clone();
    let settings = storage::Settings { kind: arguments.storage, budget: arguments.budget };
    let opened =
        tokio::task::spawn_blocking(move || storage::open_local(&volume, &host_root, &settings)).await;
    match opened {
        Ok(Ok((local, probe))) => {
            let local: Arc<dyn Storage> = Arc::new(local);
            if let Err(error) = local.recover().await {
                tracing::warn!(%error, "cannot remove what was half-made");
            }
            (Some(local), probe.refused)
        }
        Ok(Err(error)) => (None, vec![(arguments.storage.unwrap_or(StorageKind::Copy), error.to_string())]),
        Err(error) => (None, vec![(StorageKind::Copy, error.to_string())]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_and_unknown_ones_refused() {
        let args = ["--socket=/s", "--volume=/v", "--linger=250", "--storage=copy", "--detach"];
        let read = Arguments::parse(&args.map(str::to_owned)).unwrap();
        assert_eq!((read.linger, read.home), (Duration::from_millis(250), KeeperHome::Process));
        assert_eq!(read.storage, Some(StorageKind::Copy));
        assert!(Arguments::parse(&["--colour".to_owned()]).is_err());
    }
}
