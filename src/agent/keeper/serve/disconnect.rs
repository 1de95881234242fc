//! Cleans up after a connection: deletes what its client left half-made, resumes the containers it quiesced, and no
//! longer suppresses the restart of containers that it did not stop.

use std::sync::Arc;

use super::Serving;
use crate::agent::keeper::quiesced;
use crate::agent::keeper::state::{ConnectionId, Event};
use crate::engine::{Engine, join_bounded};

impl Serving {
    /// Handles the end of a connection. The client's last request finishes first, because it may use the data of the
    /// quiesced containers.
    pub(super) fn part(&mut self, client: ConnectionId, still: Vec<String>, rested: Vec<String>) {
        self.clients.remove(client);
        let left = self.half_made.closed(client);
        let (storage, engine) = (self.storage.clone(), Arc::clone(&self.engine));
        let events = self.events.clone();
        self.busy += 1;
        self.spawn(async move {
            if let Some(storage) = storage {
                left.delete(&*storage).await;
            }
            let awake = running(&*engine, rested).await;
            if !awake.is_empty() {
                // There is no receiver once the loop has ended.
                let _ = events.send(Event::Awake(awake)).await;
            }
            if !still.is_empty() {
                quiesced::go_on(&*engine, &still).await;
            }
            Event::WentOn(still)
        });
    }

    /// Resumes containers that no client quiesces any more.
    pub(super) fn go_on(&mut self, still: Vec<String>) {
        let engine = Arc::clone(&self.engine);
        self.busy += 1;
        self.spawn(async move {
            quiesced::go_on(&*engine, &still).await;
            Event::WentOn(still)
        });
    }
}

/// Returns those of the containers that run.
async fn running(engine: &dyn Engine, containers: Vec<String>) -> Vec<String> {
    let looks = containers.into_iter().map(async |name| {
        let found = engine.container(&name).await.ok().flatten();
        found.is_some_and(|found| found.state.is_alive()).then_some(name)
    });
    join_bounded(looks).await.into_iter().flatten().collect()
}
