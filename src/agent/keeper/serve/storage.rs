//! Serves the storage to clients, keeps it within its budget, and deletes data that appears after a destruction.

use std::sync::Arc;

use jiff::Timestamp;

use super::Serving;
use crate::agent::keeper::budget_eviction;
use crate::agent::keeper::cgroups;
use crate::agent::keeper::state::{ConnectionId, Event};
use crate::agent::protocol::{Line, Outcome, Refusal, RefusalKind, Reply};
use crate::engine::identity::SandboxId;
use crate::storage::{self, SetPath};

impl Serving {
    pub(super) fn store_for(&mut self, client: ConnectionId, id: u64, request: storage::Request) {
        let Some(storage) = self.storage.clone() else {
            let message = "this keeper serves no storage".to_owned();
            let refusal = Refusal { kind: RefusalKind::Storage, message, hint: None };
            return self.clients.send(client, Line::Reply(Reply { id, outcome: Outcome::Error(refusal) }));
        };
        self.busy += 1;
        let Some(lines) = self.clients.sender(client) else { return self.busy -= 1 };
        let bound = matches!(request, storage::Request::Publish { .. }).then(|| self.bound());
        let work = self.half_made.perform(storage, client, request);
        self.spawn(async move {
            let value = serde_json::to_value(work.await).unwrap_or_default();
            // The client may have disconnected; its request has been performed all the same.
            let _ = lines.send(Line::Reply(Reply { id, outcome: Outcome::Ok(value) }));
            if let Some(bound) = bound {
                bound.await;
            }
            Event::Quiet
        });
    }

    /// Brings the stored data back within its budget.
    pub(super) fn bound(&self) -> impl Future<Output = ()> + Send + use<> {
        let (engine, scope, storage) = (Arc::clone(&self.engine), self.scope.clone(), self.storage.clone());
        async move {
            let Some(storage) = storage else { return };
            match budget_eviction::keep_within(&engine, &scope, &*storage, Timestamp::now().as_second()).await
            {
                Ok(went) if went.is_empty() => {}
                Ok(went) => tracing::info!(?went, "removed what was least recently used"),
                Err(error) => tracing::warn!(%error, "cannot keep within the budget"),
            }
        }
    }

    /// Deletes data of operations that finished only after their sandbox was destroyed.
    pub(super) fn delete_late(&mut self) {
        let (storage, groups) = (self.storage.clone(), self.groups.clone());
        let gone: Vec<SandboxId> = self.state.gone().cloned().collect();
        self.busy += 1;
        self.spawn(async move {
            if let Some(groups) = groups {
                cgroups::remove_late(&*groups, &gone).await;
            }
            let Some(storage) = storage else { return Event::Quiet };
            for set in gone.iter().filter_map(|id| SetPath::live(id.as_str()).ok()) {
                if let Err(error) = storage.delete_set(&set).await {
                    tracing::warn!(%error, "cannot delete the data of a sandbox that is gone");
                }
            }
            Event::Quiet
        });
    }
}
