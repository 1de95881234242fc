//! Client of the storage server: the container that serves the storage for a keeper that runs as a process.
//!
//! Such a keeper may belong to another user than the engine, or run on another machine, so that it cannot read the
//! files in volumes. A container can, and it does not need the engine's socket for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::connection::Dial;
use super::start::Starter;
use super::wire::Wire;
use super::{Keeper, KeeperError, Options, in_full};
use crate::agent::cgroup::{self, GroupError, Grouping, Groups};
use crate::agent::protocol::Greeting;
use crate::engine::Engine;
use crate::storage::{self, RemoteStorage, Storage, StorageError, Transport};

/// A handle on the storage server. It survives restarts of the container and of the engine. Clones share it.
#[derive(Clone)]
pub struct StorageServer {
    door: Arc<Door>,
    /// The current connection; replaced once it has been given up.
    connection: Arc<Mutex<Keeper>>,
    greeting: Arc<Greeting>,
}

/// The dialer. It is closed before the storage server is removed, so that the broken connection does not start it
/// again.
struct Door {
    starter: Arc<Starter>,
    shut: AtomicBool,
}

#[async_trait]
impl Dial for Door {
    async fn dial(&self) -> Result<(Wire, Greeting), KeeperError> {
        if self.shut.load(Ordering::SeqCst) {
            return Err(KeeperError::Lost {
                cause: "the container that served the storage has gone".to_owned(),
            });
        }
        self.starter.dial().await
    }
}

impl StorageServer {
    /// Connects to the storage server of an engine; starts one if there is none.
    ///
    /// # Errors
    /// Fails if the engine refuses the image or the container, or if the storage server does not answer.
    pub async fn open(engine: &Arc<dyn Engine>, options: Options) -> Result<Self, KeeperError> {
        let starter = Arc::new(Starter::of_storage_server(Arc::clone(engine), options));
        let door = Arc::new(Door { starter, shut: AtomicBool::new(false) });
        let connection = reach(&door).await?;
        let greeting = Arc::clone(&connection.greeting);
        Ok(Self { door, connection: Arc::new(Mutex::new(connection)), greeting })
    }

    /// Returns what the storage server reported about itself.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Returns the storage that it serves, if any.
    pub fn storage(&self) -> Option<Arc<dyn Storage>> {
        let kind = self.greeting.storage?;
        Some(Arc::new(RemoteStorage::new(kind, self.clone())))
    }

    /// Returns its control group operations, if it can make control groups.
    pub fn groups(&self) -> Option<Arc<dyn Groups>> {
        let grouping = self.greeting.groups.clone()?;
        Some(Arc::new(FarGroups { grouping, storage_server: self.clone() }))
    }

    /// Removes the container.
    ///
    /// # Errors
    /// Fails if the engine refuses.
    pub async fn dismiss(&self) -> Result<(), KeeperError> {
        self.door.shut.store(true, Ordering::SeqCst);
        self.door.starter.dismiss().await
    }

    async fn connection(&self) -> Result<Keeper, KeeperError> {
        let mut connection = self.connection.lock().await;
        if connection.is_given_up() {
            *connection = reach(&self.door).await?;
        }
        Ok(connection.clone())
    }
}

async fn reach(door: &Arc<Door>) -> Result<Keeper, KeeperError> {
    Keeper::reach(Arc::clone(&door.starter), Arc::clone(door) as Arc<dyn Dial>).await
}

#[async_trait]
impl Transport for StorageServer {
    async fn carry(&self, request: storage::Request) -> storage::Result<storage::Reply> {
        match self.connection().await {
            Ok(connection) => connection.carry(request).await,
            Err(error) => Err(StorageError::Link { cause: in_full(&error) }),
        }
    }
}

/// Control groups that a storage server makes.
struct FarGroups {
    grouping: Grouping,
    storage_server: StorageServer,
}

#[async_trait]
impl Groups for FarGroups {
    fn grouping(&self) -> &Grouping {
        &self.grouping
    }

    async fn perform(&self, request: cgroup::Request) -> Result<cgroup::Reply, GroupError> {
        let far = |error: KeeperError| GroupError(in_full(&error));
        self.storage_server
            .connection()
            .await
            .map_err(far)?
            .group(request)
            .await
            .map_err(far)?
            .map_err(GroupError)
    }
}
