//! Tracks what each client has begun to create in the storage. It is deleted if the client disconnects before it is
//! done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use super::state::ConnectionId;
use crate::storage::{self, Reply, Request, SetPath, Storage};

/// The unfinished sets of each open connection.
#[derive(Debug, Clone, Default)]
pub struct Unfinished {
    clients: Arc<Mutex<BTreeMap<ConnectionId, Client>>>,
}

#[derive(Debug, Default)]
struct Client {
    sets: BTreeSet<SetPath>,
    /// Each operation in progress holds a read lock.
    under_way: Arc<RwLock<()>>,
}

/// The unfinished sets of a closed connection.
#[derive(Debug)]
pub struct Leftover(Client);

impl Leftover {
    /// Deletes the sets, after the client's last operation is done.
    pub async fn delete(self, storage: &dyn Storage) {
        drop(self.0.under_way.write().await);
        for set in self.0.sets {
            if let Err(error) = storage.delete_set(&set).await {
                tracing::warn!(%error, "cannot delete what a client has left half-made");
            }
        }
    }
}

impl Unfinished {
    fn clients(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a connection.
    pub fn opened(&self, client: ConnectionId) {
        self.clients().entry(client).or_default();
    }

    /// Removes a connection and returns its unfinished sets.
    pub fn closed(&self, client: ConnectionId) -> Leftover {
        Leftover(self.clients().remove(&client).unwrap_or_default())
    }

    /// Marks an operation of a connection as in progress while the returned guard lives.
    fn enter(&self, client: ConnectionId) -> Option<OwnedRwLockReadGuard<()>> {
        let under_way = self.clients().get(&client).map(|it| Arc::clone(&it.under_way))?;
        under_way.try_read_owned().ok()
    }

    /// Performs a request and records what it began or completed. It counts as in progress from this call on.
    pub fn perform(
        &self,
        storage: Arc<dyn Storage>,
        client: ConnectionId,
        request: Request,
    ) -> impl Future<Output = storage::Result<Reply>> + Send + use<> {
        let (this, under_way) = (self.clone(), self.enter(client));
        async move {
            let outcome = this.do_perform(&*storage, client, request).await;
            drop(under_way);
            outcome
        }
    }

    async fn do_perform(
        &self,
        storage: &dyn Storage,
        client: ConnectionId,
        request: Request,
    ) -> storage::Result<Reply> {
        let completed = match &request {
            Request::Publish { making: set, .. } | Request::DeleteSet { set } => Some(set.clone()),
            _ => None,
        };
        let reply = storage::perform(storage, request).await?;
        if let Some(set) = completed
            && let Some(client) = self.clients().get_mut(&client)
        {
            client.sets.remove(&set);
        }
        if let Reply::Begin(begun) = &reply
            && !self.note(client, begun)
        {
            storage.delete_set(begun).await?;
        }
        Ok(reply)
    }

    /// Records a set that was begun; returns whether the connection is still open, so that it can complete the set.
    fn note(&self, client: ConnectionId, begun: &SetPath) -> bool {
        self.clients().get_mut(&client).map(|it| it.sets.insert(begun.clone())).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Namespace, Settings, StorageKind, open_local};

    const CLIENT: ConnectionId = ConnectionId(7);

    async fn begun(half_made: &Unfinished, storage: Arc<dyn Storage>) -> SetPath {
        match half_made.perform(storage, CLIENT, Request::Begin {}).await.unwrap() {
            Reply::Begin(set) => set,
            other => panic!("{other:?}"),
        }
    }

    fn storage() -> (tempfile::TempDir, Arc<dyn Storage>) {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { kind: Some(StorageKind::Copy), budget: None };
        let (storage, _) = open_local(folder.path(), folder.path(), &settings).unwrap();
        (folder, Arc::new(storage))
    }

    #[tokio::test]
    async fn a_connection_that_closes_leaves_what_it_has_not_published() {
        let (_folder, storage) = storage();
        let half_made = Unfinished::default();
        half_made.opened(CLIENT);
        begun(&half_made, Arc::clone(&storage)).await;
        let published = begun(&half_made, Arc::clone(&storage)).await;
        let to = SetPath::snapshot("kept").unwrap();
        let request = Request::Publish { making: published, to, manifest: serde_json::json!({}) };
        half_made.perform(Arc::clone(&storage), CLIENT, request).await.unwrap();
        assert_eq!(storage.list(Namespace::Making).await.unwrap().len(), 1);

        half_made.closed(CLIENT).delete(&*storage).await;
        assert!(storage.list(Namespace::Making).await.unwrap().is_empty());
        assert_eq!(storage.list(Namespace::Snapshot).await.unwrap().len(), 1);

        // A set that was begun after its client had disconnected is deleted too.
        begun(&half_made, Arc::clone(&storage)).await;
        assert!(storage.list(Namespace::Making).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_a_lost_client_has_asked_for_last_is_waited_for() {
        let (_folder, storage) = storage();
        let half_made = Unfinished::default();
        half_made.opened(CLIENT);
        let asked = half_made.perform(Arc::clone(&storage), CLIENT, Request::Begin {});

        let mut deleted = std::pin::pin!(half_made.closed(CLIENT).delete(&*storage));
        assert!(futures_util::poll!(&mut deleted).is_pending());
        asked.await.unwrap();
        deleted.await;
        assert!(storage.list(Namespace::Making).await.unwrap().is_empty());
    }
}
