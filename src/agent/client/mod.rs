//! The client of the keeper: connects to it (and starts it if needed), holds leases, sends requests, reaches the
//! storage.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::io::{StreamReader, SyncIoBridge};

mod cleanup;
mod connection;
mod error;
mod in_container;
#[cfg(test)]
mod in_memory;
mod lease;
mod options;
mod start;
mod storage_server;
mod trial;
mod wire;

pub use cleanup::{keeper_state, remove_everything, sweep_expired};
pub use error::{KeeperError, in_full};
pub use in_container::storage_inside;
#[cfg(test)]
pub use in_memory::ByPipe;
pub use lease::Lease;
pub use options::{KeeperPlacement, Limiting, Options};
pub use start::{ENGINE_SOCKET, SOCKET, VOLUME, lock_beside};
pub use storage_server::StorageServer;
pub use trial::{Trial, trial};
#[cfg(test)]
pub use wire::Wire;

use self::start::Starter;
use super::cgroup;
use super::image::{self, Payload};
use super::protocol::{
    Declared, Destroyed, Extension, Greeting, LeaseRequest, Leftovers, Reason, Record, RequestKind, Standing,
};
#[cfg(debug_assertions)]
use crate::engine::docker::fault;
use crate::engine::identity::{SandboxId, SandboxName};
use crate::engine::{ContainerState, Engine, EngineInfo};
use crate::host_files::{self, Folder, Links, Unpack};
use crate::spec::Limits;
use crate::storage::{self, RemoteStorage, Storage, StorageError, StorageKind, Transport};
use connection::{Command, Dial, Link};

/// A connection to an engine's keeper. Clones share it; it closes when the last one is dropped.
#[derive(Clone)]
pub struct Keeper {
    starter: Arc<Starter>,
    commands: mpsc::UnboundedSender<Command>,
    greeting: Arc<Greeting>,
}

impl Keeper {
    /// Connects to the keeper of an engine; starts one if there is none, and replaces one of an older build.
    pub async fn ensure(engine: &Arc<dyn Engine>, options: Options) -> Result<Self, KeeperError> {
        let starter = Arc::new(Starter::new(Arc::clone(engine), options));
        let dial = Arc::clone(&starter) as Arc<dyn Dial>;
        Self::reach(starter, dial).await
    }

    async fn reach(starter: Arc<Starter>, dial: Arc<dyn Dial>) -> Result<Self, KeeperError> {
        let (wire, greeting) = dial.dial().await?;
        let commands = Link::start(dial, wire);
        Ok(Self { starter, commands, greeting: Arc::new(greeting) })
    }

    /// Connects to the keeper if it may have any records; `None` if not even its volume exists.
    pub async fn standing(engine: &Arc<dyn Engine>, options: Options) -> Result<Option<Self>, KeeperError> {
        let volume = engine.volume(&options.scope.pool()).await;
        if volume.map_err(KeeperError::engine("look for the keeper's volume"))?.is_none() {
            return Ok(None);
        }
        Self::ensure(engine, options).await.map(Some)
    }

    /// Returns the container of a running keeper of this very build, for a caller that only runs a process in it. That
    /// process connects to the keeper itself, so this saves the exec for a greeting. Returns `None` if the keeper has
    /// to be created, started or replaced first.
    pub async fn container_at_hand(
        engine: &Arc<dyn Engine>,
        options: Options,
    ) -> Result<Option<String>, KeeperError> {
        let named = image::named_image().is_some();
        if options.place == KeeperPlacement::Process || options.storage.is_some() || named {
            return Ok(None);
        }
        // An engine on another architecture has another image, so the engine has to be asked.
        let Ok(payload) = Payload::for_this_machine(options.binary.as_deref()) else { return Ok(None) };
        let Some(container) = Starter::new(Arc::clone(engine), options).container().await? else {
            return Ok(None);
        };
        let ours = container.state == ContainerState::Running && container.image == payload.reference();
        Ok(ours.then_some(container.name))
    }

    /// Returns what the keeper reported about itself.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Returns what the connection found out about the engine.
    ///
    /// # Errors
    /// Fails if the engine does not answer, or if this binary cannot run on its machine.
    pub async fn engine_info(&self) -> Result<&EngineInfo, KeeperError> {
        Ok(&self.starter.ready().await?.0)
    }

    /// Takes a lease: the sandbox lives as long as this process holds it. Call this before you create the first object.
    pub async fn lease(&self, terms: LeaseRequest) -> Result<Lease, KeeperError> {
        let (told, hears) = mpsc::unbounded_channel();
        let (answer, answered) = oneshot::channel();
        self.command(Command::Hold(terms, told, answer))?;
        let standing: Standing = serde_json::from_value(answered.await.map_err(|_| given_up())??)?;
        Ok(Lease::new(self.clone(), standing, hears))
    }

    /// Subscribes to the notices about a sandbox without keeping it alive.
    pub async fn watch(&self, sandbox: &SandboxId) -> Result<Lease, KeeperError> {
        let (told, hears) = mpsc::unbounded_channel();
        let standing = self.watch_by(sandbox, Some(told)).await?;
        Ok(Lease::new(self.clone(), standing, hears))
    }

    async fn watch_by(
        &self,
        sandbox: &SandboxId,
        told: Option<mpsc::UnboundedSender<connection::LeaseNews>>,
    ) -> Result<Standing, KeeperError> {
        let (answer, answered) = oneshot::channel();
        self.command(Command::Watch(sandbox.clone(), told, answer))?;
        Ok(serde_json::from_value(answered.await.map_err(|_| given_up())??)?)
    }

    /// Announces that this client is about to destroy a sandbox. If it disconnects before that is done, the keeper
    /// finishes.
    pub async fn begin_destroy(&self, sandbox: &SandboxId, reason: Reason) -> Result<(), KeeperError> {
        self.ask(RequestKind::BeginDestroy { sandbox: sandbox.clone(), reason }).await
    }

    /// Records the desired state of a sandbox.
    ///
    /// # Errors
    /// Fails if there is no such sandbox, or if the record cannot be written.
    pub async fn declare(&self, sandbox: &SandboxId, declared: Declared) -> Result<(), KeeperError> {
        self.ask(RequestKind::Declare { sandbox: sandbox.clone(), declared: Box::new(declared) }).await
    }

    /// Returns the recorded desired state of a sandbox; `None` if it was never brought up completely.
    pub async fn declared(&self, sandbox: &SandboxId) -> Result<Option<Declared>, KeeperError> {
        self.ask(RequestKind::Declared { sandbox: sandbox.clone() }).await
    }

    /// Moves a sandbox's deadline.
    pub async fn extend(&self, name: &SandboxName, how: Extension) -> Result<Standing, KeeperError> {
        self.ask(RequestKind::Extend { name: name.clone(), how }).await
    }

    /// Reports that a sandbox is being used.
    pub async fn touch(&self, name: &SandboxName) -> Result<(), KeeperError> {
        self.ask(RequestKind::Touch { name: name.clone() }).await
    }

    /// Lists all sandboxes that the keeper knows.
    pub async fn sandboxes(&self) -> Result<Vec<Standing>, KeeperError> {
        self.ask(RequestKind::Sandboxes).await
    }

    /// Asks the keeper to destroy a sandbox, after it has collected its logs and artifacts, and waits until that is
    /// done.
    pub async fn destroy(&self, name: &SandboxName, reason: Reason) -> Result<Destroyed, KeeperError> {
        self.ask(RequestKind::Destroy { name: name.clone(), reason }).await
    }

    /// Reports that this client has destroyed a sandbox; the keeper removes whatever is left of it. For a session that
    /// holds the lease, see [`Lease::release`].
    pub async fn release(&self, sandbox: &SandboxId, reason: Reason) -> Result<Destroyed, KeeperError> {
        self.ask(RequestKind::Release { sandbox: sandbox.clone(), reason }).await
    }

    /// Suppresses the restart of these containers, by name, which are stopped on purpose, until a user starts them.
    /// Returns those that were about to be restarted.
    pub async fn rest(&self, containers: Vec<String>) -> Result<Vec<String>, KeeperError> {
        self.ask(RequestKind::SuppressRestart { containers }).await
    }

    /// Sets the containers, by name, that this client pauses or stops for a moment. If this process dies meanwhile, the
    /// keeper resumes them. Returns whether the client held the set without interruption.
    pub async fn still(&self, containers: Vec<String>) -> Result<bool, KeeperError> {
        self.ask(RequestKind::Still { containers, again: false }).await
    }

    /// Gives a sandbox its own control group, or changes the limits of the one it has.
    ///
    /// # Errors
    /// Fails if there is no such sandbox, or if it cannot be limited in this way.
    pub async fn limit(&self, sandbox: &SandboxId, limits: &Limits) -> Result<(), KeeperError> {
        self.ask(RequestKind::Limit { sandbox: sandbox.clone(), limits: limits.clone() }).await
    }

    /// Stops the engine's machine from accepting packets from the sandbox's current networks.
    ///
    /// # Errors
    /// Fails with [`KeeperError::is_of_host_firewall`] if this engine does not allow it.
    pub async fn filter_host_firewall(&self, sandbox: &SandboxId) -> Result<(), KeeperError> {
        self.ask(RequestKind::ProtectHost { sandbox: sandbox.clone() }).await
    }

    /// Sends a control group operation to a storage server.
    async fn group(&self, request: cgroup::Request) -> Result<Result<cgroup::Reply, String>, KeeperError> {
        self.ask(RequestKind::Group { request }).await
    }

    /// Lists the event log of the last 24 hours.
    pub async fn events(&self, since: Option<Timestamp>) -> Result<Vec<Record>, KeeperError> {
        self.ask(RequestKind::Events { since }).await
    }

    /// Lists what destroyed sandboxes left in the last 24 hours, latest first.
    pub async fn left(&self, name: Option<&SandboxName>) -> Result<Vec<Leftovers>, KeeperError> {
        self.ask(RequestKind::Left { name: name.cloned() }).await
    }

    /// Copies what a sandbox left into a folder of this machine. Never writes through a symbolic link below it.
    pub async fn bring(&self, left: &Leftovers, into: Folder) -> Result<(), KeeperError> {
        let path = into.path().to_owned();
        let failed = |source| KeeperError::Process { doing: "write to", path, source };
        let how = Unpack::plain(1, Links::LeftOut);
        let copied = match self.starter.options.place {
            KeeperPlacement::Process => {
                let from = PathBuf::from(&left.folder);
                tokio::task::spawn_blocking(move || copy_folder(&from, &into)).await
            }
            KeeperPlacement::Container => {
                let name = self.starter.options.scope.keeper();
                let archive = self.starter.engine.download(&name, &left.folder).await;
                let archive = archive.map_err(KeeperError::engine("read what the sandbox left"))?;
                let reader = SyncIoBridge::new(StreamReader::new(archive.map_err(std::io::Error::other)));
                tokio::task::spawn_blocking(move || host_files::unpack(reader, &into, &how)).await
            }
        };
        copied.map_err(std::io::Error::other).and_then(|it| it).map_err(failed)
    }

    /// Returns the container that has the storage's files, in which snapshot files are written and read.
    pub fn storage_container(&self) -> String {
        self.starter.options.storage_container()
    }

    /// Whether the connection was given up: then a new one is needed.
    fn is_given_up(&self) -> bool {
        self.commands.is_closed()
    }

    /// Returns the storage that the keeper serves.
    ///
    /// # Errors
    /// Fails if the keeper serves none, or another kind than `SANDBOX_STORAGE` requests.
    pub fn storage(&self) -> Result<Arc<dyn Storage>, KeeperError> {
        let kind = served_storage(self.starter.options.storage, &self.greeting)?;
        Ok(Arc::new(RemoteStorage::new(kind, self.clone())))
    }

    /// Returns how this client wants limits to be enforced.
    pub fn limiting(&self) -> Limiting {
        self.starter.options.limiting
    }

    /// Returns the kind of storage that the keeper serves, if any.
    pub fn storage_kind(&self) -> Option<StorageKind> {
        self.greeting.storage
    }

    async fn ask<T: DeserializeOwned>(&self, ask: RequestKind) -> Result<T, KeeperError> {
        let (answer, answered) = oneshot::channel();
        self.command(Command::Ask(ask, answer))?;
        let value: Value = answered.await.map_err(|_| given_up())??;
        Ok(serde_json::from_value(value)?)
    }

    fn command(&self, command: Command) -> Result<(), KeeperError> {
        self.commands.send(command).map_err(|_| given_up())
    }
}

#[async_trait]
impl Transport for Keeper {
    async fn carry(&self, request: storage::Request) -> storage::Result<storage::Reply> {
        #[cfg(debug_assertions)]
        let number = request.changes().then(fault::before_change).flatten();
        let answer: Result<storage::Result<storage::Reply>, _> =
            self.ask(RequestKind::Storage { request }).await;
        #[cfg(debug_assertions)]
        fault::after(number);
        answer.unwrap_or_else(|error| Err(StorageError::Link { cause: in_full(&error) }))
    }
}

fn served_storage(requested: Option<StorageKind>, greeting: &Greeting) -> Result<StorageKind, KeeperError> {
    let cause = match greeting.storage {
        Some(served) if requested.is_none_or(|kind| kind == served) => return Ok(served),
        Some(served) => format!("sandboxes of this engine use the storage `{served}`"),
        None => {
            let causes = greeting.storage_refused.iter().map(|(_, cause)| cause.as_str());
            causes.collect::<Vec<_>>().join("; ")
        }
    };
    Err(KeeperError::Storage { requested, served: greeting.storage, cause })
}

fn given_up() -> KeeperError {
    KeeperError::Lost { cause: "the connection was given up".to_owned() }
}

fn copy_folder(from: &Path, into: &Folder) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let (entry, kind) = entry.and_then(|entry| entry.file_type().map(|kind| (entry, kind)))?;
        let name = entry.file_name();
        if kind.is_dir() {
            copy_folder(&entry.path(), &into.make_below(Path::new(&name))?)?;
        } else if kind.is_file() && !is_tag(Path::new(&name)) {
            std::io::copy(&mut std::fs::File::open(entry.path())?, &mut into.write(&name)?)?;
        }
    }
    Ok(())
}

fn is_tag(path: &Path) -> bool {
    path == Path::new(super::keeper::store::TAG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::protocol::Build;

    #[test]
    fn a_storage_setting_that_cannot_be_kept_is_reported_with_its_cause() {
        let mut greeting = Greeting {
            build: Build::default(),
            storage: None,
            storage_refused: vec![(StorageKind::Pool, "no Btrfs".to_owned())],
            sandboxes: 0,
            groups: None,
            groups_refused: None,
            disk: None,
        };
        for kind in [StorageKind::Pool, StorageKind::Reflink, StorageKind::Copy] {
            let error = served_storage(Some(kind), &greeting).unwrap_err();
            assert_eq!(error.to_string(), format!("SANDBOX_STORAGE=`{kind}` does not work: no Btrfs"));
            assert!(error.hint().unwrap().starts_with("unset SANDBOX_STORAGE"));
        }
        assert_eq!(served_storage(None, &greeting).unwrap_err().to_string(), "no storage works: no Btrfs");
        greeting.storage = Some(StorageKind::Copy);
        assert_eq!(served_storage(None, &greeting).unwrap(), StorageKind::Copy);
        let error = served_storage(Some(StorageKind::Pool), &greeting).unwrap_err();
        assert!(error.to_string().ends_with("sandboxes of this engine use the storage `copy`"), "{error}");
    }
}
