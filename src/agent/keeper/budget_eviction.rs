//! Keeps the stored data within its budget: evicts baselines, least recently used first, never one in use.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::data::budget::{self, EvictionScope, StoredSet};
use crate::data::snapshot;
use crate::engine::identity::{self, Role, Scope};
use crate::engine::{Engine, Filter};
use crate::storage::{self, Detail, SetPath, Storage};

/// How long, in seconds, a new or just found baseline counts as in use: its client is about to clone it.
const RECENT: i64 = 60;

/// Evicts what exceeds nine tenths of the budget at `now` (seconds since the epoch); returns what was evicted.
pub async fn keep_within(
    engine: &Arc<dyn Engine>,
    scope: &Scope,
    storage: &dyn Storage,
    now: i64,
) -> storage::Result<Vec<SetPath>> {
    let usage = storage.usage(Detail::Totals).await?;
    let bound = budget::aim(usage.budget);
    if usage.used <= bound {
        return Ok(Vec::new());
    }
    // If the engine does not answer, every baseline might be in use.
    let filter = scope.narrow(Filter::all().label(identity::ROLE, Role::Volume.as_str()));
    let Ok(volumes) = engine.volumes(&filter).await else { return Ok(Vec::new()) };
    let cloned = volumes.iter().filter_map(|volume| volume.labels.get(identity::FROM)?.parse().ok());
    let kept = snapshot::kept(storage, &storage.usage(Detail::Sets).await?).await?;
    let recent =
        kept.iter().filter(|set: &&StoredSet| now - set.last_used < RECENT).map(|set| set.path.clone());
    let in_use: BTreeSet<SetPath> = cloned.chain(recent).collect();
    let choice = budget::choose(&kept, &in_use, usage.used, bound, EvictionScope::Baselines);
    for set in &choice.remove {
        storage.delete_set(set).await?;
    }
    Ok(choice.remove)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::recording::Recording;
    use crate::storage::{Settings, StorageKind, VolumeName, open_local};

    #[tokio::test]
    async fn the_oldest_baseline_that_nothing_uses_goes_when_there_is_too_much() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { kind: Some(StorageKind::Copy), budget: Some(3 << 20) };
        let (storage, _) = open_local(folder.path(), folder.path(), &settings).unwrap();
        for name in ["one", "two", "three"] {
            let making = storage.begin().await.unwrap();
            let volume = making.volume(VolumeName::new("data").unwrap());
            storage.create(&volume).await.unwrap();
            std::fs::write(storage.store().join(volume.relative()).join("rows"), vec![7; 1 << 20]).unwrap();
            let to = SetPath::baseline(name).unwrap();
            storage.publish(&making, &to, &serde_json::json!({})).await.unwrap();
            let manifest = storage.store().join(to.relative()).join("manifest.json");
            let age = if name == "two" { 3000 } else { 1000 };
            let used = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
            std::fs::File::options().append(true).open(manifest).unwrap().set_modified(used).unwrap();
        }
        let engine: Arc<dyn Engine> = Recording::new();
        let now = jiff::Timestamp::now().as_second();

        let soon = keep_within(&engine, &Scope::default(), &storage, now - 2990).await.unwrap();
        assert_eq!(soon, [], "all were used lately");
        let went = keep_within(&engine, &Scope::default(), &storage, now).await.unwrap();
        assert_eq!(went, [SetPath::baseline("two").unwrap()]);
        assert_eq!(keep_within(&engine, &Scope::default(), &storage, now).await.unwrap(), []);
    }
}
