//! The storage of a keeper that is a process: a container of ours on the engine's volume, reached like a keeper.
//!
//! Such a keeper may be another user's than the engine's, or on another machine, so that it cannot read what lies in
//! volumes. What can is a container, and it needs no socket of the engine for that.

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

/// A way to the storage server that outlives its container and the engine's restarts. Clones share it.
#[derive(Clone)]
pub struct StorageServer {
    door: Arc<Door>,
    /// The connection in use; replaced once it was given up.
    connection: Arc<Mutex<Keeper>>,
    greeting: Arc<Greeting>,
}

/// The way in, which is shut once the storage server is to go: a connection that breaks for that must not make it anew.
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
    /// Reaches the storage server of an engine; starts one if there is none.
    ///
    /// # Errors
    /// When the engine refuses its image or its container, or it does not answer.
    pub async fn open(engine: &Arc<dyn Engine>, options: Options) -> Result<Self, KeeperError> {
        let starter = Arc::new(Starter::of_storage_server(Arc::clone(engine), options));
        let door = Arc::new(Door { starter, shut: AtomicBool::new(false) });
        let connection = reach(&door).await?;
        let greeting = Arc::clone(&connection.greeting);
        Ok(Self { door, connection: Arc::new(Mutex::new(connection)), greeting })
    }

    /// What it said of itself.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// The storage that it serves, if any.
    pub fn storage(&self) -> Option<Arc<dyn Storage>> {
        let kind = self.greeting.storage?;
        Some(Arc::new(RemoteStorage::new(kind, self.clone())))
    }

    /// The control groups that it makes, if it can.
    pub fn groups(&self) -> Option<Arc<dyn Groups>> {
        let grouping = self.greeting.groups.clone()?;
        Some(Arc::new(FarGroups { grouping, storage_server: self.clone() }))
    }

    /// Removes the container, for good.
    ///
    /// # Errors
    /// When the engine refuses.
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
