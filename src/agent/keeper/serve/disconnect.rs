//! What goes with a connection: what its client has half-made is deleted, what it kept still goes on, and what it wanted to
//! stop and has not is no longer at rest.

use std::sync::Arc;

use futures_util::future::join_all;

use super::Serving;
use crate::agent::keeper::quiesced;
use crate::agent::keeper::state::{ConnectionId, Event};
use crate::engine::Engine;

impl Serving {
    /// A connection is over. What its client asked for last is done first: it may concern the data of what goes on.
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
                // Nobody receives once the loop has ended.
                let _ = events.send(Event::Awake(awake)).await;
            }
            if !still.is_empty() {
                quiesced::go_on(&*engine, &still).await;
            }
            Event::WentOn(still)
        });
    }

    /// Has containers go on that nobody keeps still any more.
    pub(super) fn go_on(&mut self, still: Vec<String>) {
        let engine = Arc::clone(&self.engine);
        self.busy += 1;
        self.spawn(async move {
            quiesced::go_on(&*engine, &still).await;
            Event::WentOn(still)
        });
    }
}

/// Those of these containers that run.
async fn running(engine: &dyn Engine, containers: Vec<String>) -> Vec<String> {
    let looks = containers.into_iter().map(async |name| {
        let found = engine.container(&name).await.ok().flatten();
        found.is_some_and(|found| found.state.is_alive()).then_some(name)
    });
    join_all(looks).await.into_iter().flatten().collect()
}
