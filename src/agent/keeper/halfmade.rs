//! What clients have begun to make in the storage: it goes with the connection that began it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::state::ConnectionId;
use crate::pool::{self, Reply, Request, SetPath, Storage};

/// The half-made sets of each connection that is open.
#[derive(Debug, Clone, Default)]
pub struct HalfMade {
    sets: Arc<Mutex<BTreeMap<ConnectionId, BTreeSet<SetPath>>>>,
}

impl HalfMade {
    fn sets(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, BTreeSet<SetPath>>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection is there.
    pub fn opened(&self, client: ConnectionId) {
        self.sets().entry(client).or_default();
    }

    /// A connection is gone: what it leaves half-made.
    pub fn closed(&self, client: ConnectionId) -> BTreeSet<SetPath> {
        self.sets().remove(&client).unwrap_or_default()
    }

    /// Performs a request and notes what it began or completed.
    pub async fn perform(
        &self,
        storage: &dyn Storage,
        client: ConnectionId,
        request: Request,
    ) -> pool::Result<Reply> {
        let completed = match &request {
            Request::Publish { making: set, .. } | Request::DeleteSet { set } => Some(set.clone()),
            _ => None,
        };
        let reply = pool::perform(storage, request).await?;
        if let Some(set) = completed
            && let Some(sets) = self.sets().get_mut(&client)
        {
            sets.remove(&set);
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
        self.sets().get_mut(&client).map(|sets| sets.insert(begun.clone())).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{Settings, Shelf, StorageKind, open_local};

    const CLIENT: ConnectionId = ConnectionId(7);

    async fn begun(half_made: &HalfMade, storage: &dyn Storage) -> SetPath {
        match half_made.perform(storage, CLIENT, Request::Begin).await.unwrap() {
            Reply::Set(set) => set,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_connection_that_closes_leaves_what_it_has_not_published() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { kind: Some(StorageKind::Copy), budget: None };
        let (storage, _) = open_local(folder.path(), folder.path(), &settings).unwrap();
        let half_made = HalfMade::default();
        half_made.opened(CLIENT);

        let (left, published) = (begun(&half_made, &storage).await, begun(&half_made, &storage).await);
        let to = SetPath::snapshot("kept").unwrap();
        let request = Request::Publish { making: published, to, manifest: serde_json::json!({}) };
        half_made.perform(&storage, CLIENT, request).await.unwrap();

        assert_eq!(half_made.closed(CLIENT), BTreeSet::from([left.clone()]));
        storage.delete_set(&left).await.unwrap();

        // What was begun when nobody waited for it any more is not kept either.
        begun(&half_made, &storage).await;
        assert!(storage.list(Shelf::Making).await.unwrap().is_empty());
    }
}
