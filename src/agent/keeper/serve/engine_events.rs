//! What the keeper hears and sees of the engine: its events, and looks at all that is there.

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

    /// What is remembered of the engine's events, with the faults that are there already.
    pub(super) async fn watch(&self) -> Watch {
        let faults = fault_injector::container::find(&*self.engine, self.scope.narrow(Filter::all())).await;
        let faults = faults.unwrap_or_default();
        Watch::with_faults_of(faults.iter().map(|imposed| imposed.target().to_owned()))
    }

    pub(in crate::agent::keeper) async fn subscribe(&self) -> Result<EventStream, String> {
        let filter = self.scope.narrow(Filter::all().has_label(identity::ID));
        // The engine tells the event of that very moment, too.
        let since = self.heard.and_then(|heard| heard.checked_add(Duration::from_nanos(1)).ok());
        self.engine.events(&filter, since).await.map_err(|error| in_full(&error))
    }

    /// After the stream of events has ended: in a container only what can be had again at once.
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
                // Nobody can reach it any more, and it has nothing to keep.
                Err(cause) if !self.state.has_sandboxes() && !self.socket.exists() => return Err(cause),
                Err(cause) => tracing::warn!(cause, "the engine does not answer"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }
}
