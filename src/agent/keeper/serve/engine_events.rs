//! The keeper's connection to the engine's events, and its scans of all objects.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{KeeperHome, Serving};
use crate::agent::client::in_full;
use crate::agent::fault_injector;
use crate::agent::keeper::engine_watch::Watch;
use crate::agent::keeper::observe;
use crate::agent::keeper::state::Event;
use crate::engine::{EventStream, Filter, identity};

impl Serving {
    pub(super) fn look(&self) {
        let (engine, scope, store) = (Arc::clone(&self.engine), self.scope.clone(), self.store.clone());
        self.spawn(async move {
            let mut pause = Duration::from_millis(100);
            loop {
                match observe::look(&engine, &scope, &store).await {
                    Ok(found) => return Event::Found(found),
                    Err(error) => tracing::warn!(error = in_full(&error), "cannot look at the engine"),
                }
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(30));
            }
        });
    }

    /// Starts a [`Watch`] that knows the faults that exist already.
    pub(super) async fn watch(&self) -> Watch {
        let faults = fault_injector::container::find(&*self.engine, self.scope.narrow(Filter::all())).await;
        let faults = faults.unwrap_or_default();
        Watch::with_faults_of(faults.iter().map(|imposed| imposed.target().to_owned()))
    }

    pub(in crate::agent::keeper) async fn subscribe(&self) -> Result<EventStream, String> {
        let filter = self.scope.narrow(Filter::all().has_label(identity::ID));
        // `since` is inclusive, so this skips the last event that was handled.
        let since = self.heard.and_then(|heard| heard.checked_add(Duration::from_nanos(1)).ok());
        self.engine.events(&filter, since).await.map_err(|error| in_full(&error))
    }

    /// Resubscribes after the event stream has ended. In a container it gives up after about a second.
    pub(super) async fn subscribe_again(&self) -> Result<EventStream, String> {
        let mut pause = Duration::from_millis(100);
        loop {
            match self.subscribe().await {
                Ok(stream) => {
                    observe::recount_mounts(&self.engine, &self.scope).await;
                    return Ok(stream);
                }
                Err(cause) if self.home == KeeperHome::Container && pause > Duration::from_secs(1) => {
                    return Err(cause);
                }
                // The socket is gone, so no client can connect, and there is nothing to keep.
                Err(cause) if !self.state.has_sandboxes() && !self.socket.exists() => return Err(cause),
                Err(cause) => tracing::warn!(cause, "the engine does not answer"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }
}
