//! What clients have frozen for a moment, to clone its data: it is thawed when the connection goes without a word.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::state::ConnectionId;
use crate::engine::Engine;

/// When it is thawed, counted from the loss: a freezing may have been on its way when its client went.
const TRIES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(4)];

/// The containers that each connection keeps frozen, or is about to freeze.
#[derive(Debug, Default)]
pub struct Frozen {
    containers: BTreeMap<ConnectionId, Vec<String>>,
}

impl Frozen {
    /// A connection keeps these frozen now, and nothing else.
    pub fn note(&mut self, client: ConnectionId, containers: Vec<String>) {
        if containers.is_empty() {
            self.containers.remove(&client);
        } else {
            self.containers.insert(client, containers);
        }
    }

    /// A connection is gone: what it leaves frozen.
    pub fn closed(&mut self, client: ConnectionId) -> Vec<String> {
        self.containers.remove(&client).unwrap_or_default()
    }

    /// All of them, for the next keeper.
    pub fn all(&self) -> Vec<&String> {
        self.containers.values().flatten().collect()
    }
}

/// Thaws containers. One that is gone, or that runs, needs nothing.
pub async fn thaw(engine: Arc<dyn Engine>, containers: Vec<String>) {
    let begin = tokio::time::Instant::now();
    for at in TRIES {
        sleep(at.saturating_sub(begin.elapsed())).await;
        let thawed = join_all(containers.iter().map(|id| engine.unpause_container(id))).await;
        let thawed = containers.iter().zip(thawed).filter(|(_, outcome)| outcome.is_ok());
        for (container, _) in thawed {
            tracing::info!(container, "thawed what a client had left frozen");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_lost_connection_kept_frozen_is_left() {
        let (one, other) = (ConnectionId(1), ConnectionId(2));
        let mut frozen = Frozen::default();
        frozen.note(one, vec!["db".to_owned()]);
        frozen.note(other, vec!["web".to_owned()]);
        assert_eq!(frozen.all(), ["db", "web"]);
        frozen.note(one, Vec::new());
        assert!(frozen.closed(one).is_empty());
        assert_eq!(frozen.closed(other), ["web"]);
        assert!(frozen.all().is_empty());
    }
}
