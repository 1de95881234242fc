//! Scans the engine and the volume: which sandboxes there are, and when one was last used.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::StreamExt;
use jiff::Timestamp;

use super::state::Discovered;
use super::store::Store;
use crate::agent::gateway::stats::GatewayEvent;
use crate::data::snapshot;
use crate::engine::identity::{self, SandboxId, SandboxName, Scope};
use crate::engine::{Engine, EngineError, LogOptions, Tail, join_bounded};
use crate::storage::{Namespace, SetPath, Storage};
use crate::sweep::{self, Target};

/// Returns every sandbox that has an object on the engine or a record in the volume.
pub async fn look(
    engine: &Arc<dyn Engine>,
    scope: &Scope,
    store: &Store,
) -> Result<Vec<Discovered>, EngineError> {
    let found = sweep::sandboxes(&**engine, scope).await?;
    let mut found: BTreeMap<SandboxId, Discovered> = found
        .values()
        .filter_map(|found| found.labels().find_map(of_labels))
        .map(|found| (found.sandbox.clone(), found))
        .collect();
    for (sandbox, kept) in store.records() {
        let name = kept.terms.name.clone();
        let bare = Discovered { name, sandbox: sandbox.clone(), expires: None, kept: None, exists: false };
        found.entry(sandbox).or_insert(bare).kept = Some(kept);
    }
    Ok(found.into_values().collect())
}

fn of_labels(labels: &BTreeMap<String, String>) -> Option<Discovered> {
    Some(Discovered {
        name: labels.get(identity::NAME)?.parse().ok()?,
        sandbox: labels.get(identity::ID)?.parse().ok()?,
        expires: labels.get(identity::EXPIRES).and_then(|it| it.parse().ok()),
        kept: None,
        exists: true,
    })
}

/// Makes the engine correct its count of volume mounts after a restart that containers survived.
///
/// Engines up to 20.10 forget, when they restart under live-restore, that a surviving container has its volumes
/// mounted, but still count the unmount when it exits: the count falls below zero, and the volume "has active mounts"
/// forever. A stat of a path in the container mounts and unmounts once more, after which the exit is not counted again.
/// For a container that did not live through a restart, and on later engines, this changes nothing.
pub async fn recount_mounts(engine: &Arc<dyn Engine>, scope: &Scope) {
    if !engine.info().await.is_ok_and(|info| info.live_restore) {
        return;
    }
    let Ok(found) = sweep::find(&**engine, &Target::sandboxes(scope)).await else { return };
    let alive = found.containers.iter().filter(|it| it.state.is_alive());
    // The error does not matter: a container that has just exited does not need this.
    join_bounded(alive.map(|it| engine.stat_path(&it.id, "/"))).await;
}

/// Deletes live data of sandboxes that no longer exist, and the snapshots that belong to them.
pub async fn delete_orphans(storage: &dyn Storage, found: &[Discovered]) {
    let Ok(live) = storage.list(Namespace::Live).await else { return };
    let known: Vec<_> = found.iter().filter_map(|it| SetPath::live(it.sandbox.as_str()).ok()).collect();
    for set in live.into_iter().filter(|it| !known.contains(&it.path)) {
        if let Err(error) = storage.delete_set(&set.path).await {
            tracing::warn!(%error, "cannot delete the data of a sandbox that is gone");
        }
    }
    let is_gone = |owner: &SandboxId| !found.iter().any(|it| it.sandbox == *owner);
    if let Err(error) = snapshot::delete_owned(storage, is_gone).await {
        tracing::warn!(%error, "cannot delete the snapshots of a sandbox that is gone");
    }
}

/// Returns the last use of a sandbox that its gateway's log shows.
pub async fn last_use(engine: &Arc<dyn Engine>, name: &SandboxName) -> Option<Timestamp> {
    let options = LogOptions { tail: Tail::All, ..LogOptions::default() };
    let mut stream = engine.logs(&identity::gateway(name.as_str()), &options).await.ok()?;
    let mut last = None;
    let mut rest = BytesMut::new();
    while let Some(Ok(chunk)) = stream.next().await {
        rest.extend_from_slice(&chunk.bytes);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = rest.split_to(end + 1);
            last = use_told_by(&line, Timestamp::now()).or(last);
        }
    }
    last
}

/// Returns the time of the last use, if this log line reports connections; an open connection is a use.
fn use_told_by(line: &[u8], now: Timestamp) -> Option<Timestamp> {
    match serde_json::from_slice(line) {
        Ok(GatewayEvent::Connections(connections)) if connections.open > 0 => Some(now),
        Ok(GatewayEvent::Connections(connections)) => connections.last,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_connection_is_a_use_and_a_closed_one_was() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let open = br#"{"event":"connections","open":1,"total":3,"last":"2026-01-01T11:00:00Z"}"#;
        let closed = br#"{"event":"connections","open":0,"total":3,"last":"2026-01-01T11:00:00Z"}"#;
        assert_eq!(use_told_by(open, now), Some(now));
        assert_eq!(use_told_by(closed, now), "2026-01-01T11:00:00Z".parse().ok());
        assert_eq!(
            use_told_by(br#"{"event":"started","sandbox":"a","at":"2026-01-01T11:00:00Z"}"#, now),
            None
        );
    }
}
