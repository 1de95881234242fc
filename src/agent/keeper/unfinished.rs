//! What clients have begun to make in the storage: it goes with the connection that began it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use super::state::ConnectionId;
use crate::storage::{self, Reply, Request, SetPath, Storage};

/// The half-made sets of each connection that is open.
#[derive(Debug, Clone, Default)]
pub struct Unfinished {
    clients: Arc<Mutex<BTreeMap<ConnectionId, Client>>>,
}

#[derive(Debug, Default)]
struct Client {
    sets: BTreeSet<SetPath>,
    /// Read by each operation that is under way.
    under_way: Arc<RwLock<()>>,
}

/// What a connection that is gone leaves.
#[derive(Debug)]
pub struct Leftover(Client);

impl Leftover {
    /// Deletes it, once what the client has asked for last is done.
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

    /// A connection is there.
    pub fn opened(&self, client: ConnectionId) {
        self.clients().entry(client).or_default();
    }

    /// A connection is gone.
    pub fn closed(&self, client: ConnectionId) -> Leftover {
        Leftover(self.clients().remove(&client).unwrap_or_default())
    }

    /// An operation for a connection is under way for as long as this is kept.
    fn enter(&self, client: ConnectionId) -> Option<OwnedRwLockReadGuard<()>> {
        let under_way = self.clients().get(&client).map(|it| Arc::clone(&it.under_way))?;
        under_way.try_read_owned().ok()
    }

    /// Performs a request and notes what it began or completed. From the call on it is under way.
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
        if let Reply::Set(begun) = &reply
            && !self.note(client, begun)
        {
            storage.delete_set(begun).await?;
        }
        Ok(reply)
    }

    /// Whether the connection is still there to complete it.
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
        match half_made.perform(storage, CLIENT, Request::Begin).await.unwrap() {
            Reply::Set(set) => set,
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

        // What was begun when nobody waited for it any more is not kept either.
        begun(&half_made, Arc::clone(&storage)).await;
        assert!(storage.list(Namespace::Making).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_a_lost_client_has_asked_for_last_is_waited_for() {
        let (_folder, storage) = storage();
        let half_made = Unfinished::default();
        half_made.opened(CLIENT);
        let asked = half_made.perform(Arc::clone(&storage), CLIENT, Request::Begin);

        let mut deleted = std::pin::pin!(half_made.closed(CLIENT).delete(&*storage));
        assert!(futures_util::poll!(&mut deleted).is_pending());
        asked.await.unwrap();
        deleted.await;
        assert!(storage.list(Namespace::Making).await.unwrap().is_empty());
    }
}
