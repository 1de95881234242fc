//! Takes, lists, restores and copies sets of volumes, on any storage.
//!
//! The caller stops or pauses the services that use the volumes; the data is taken as it lies in the storage.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::join_bounded;

use super::budget::StoredSet;
use super::manifest::Manifest;
use crate::engine::identity::SandboxId;
use crate::storage::{
    Namespace, Published, Result, SetInfo, SetPath, Storage, StorageError, Usage, VolumeName, VolumePath,
};

/// Clones volumes of a sandbox and atomically publishes them as a baseline or a snapshot. The set is invisible until
/// it is published, and nothing remains after an error. After the copy, `undisturbed` returns whether nothing wrote
/// meanwhile.
pub async fn take<E: From<StorageError>>(
    storage: &dyn Storage,
    live: &SetPath,
    volumes: &[VolumeName],
    to: &SetPath,
    mut manifest: Manifest,
    undisturbed: impl Future<Output = Result<(), E>>,
) -> Result<Published, E> {
    let making = clone_unpublished(storage, live, volumes, undisturbed).await?;
    manifest.volumes = volumes.to_vec();
    manifest.volumes.sort();
    Ok(publish(storage, &making, to, &manifest).await?)
}

/// The first half of [`take`]: the clone has no name yet, and is deleted when the connection to the keeper ends.
pub async fn clone_unpublished<E: From<StorageError>>(
    storage: &dyn Storage,
    live: &SetPath,
    volumes: &[VolumeName],
    undisturbed: impl Future<Output = Result<(), E>>,
) -> Result<SetPath, E> {
    let making = storage.begin().await?;
    let outcome = async {
        copy_set(storage, live, &making, volumes).await?;
        undisturbed.await
    }
    .await;
    discard_unless(outcome, storage, &making).await.map(|()| making)
}

/// The second half of [`take`].
pub async fn publish(
    storage: &dyn Storage,
    making: &SetPath,
    to: &SetPath,
    manifest: &Manifest,
) -> Result<Published> {
    let published = storage.publish(making, to, &manifest.to_json()).await;
    discard_unless(published, storage, making).await
}

/// Deletes an unpublished set after an error.
async fn discard_unless<T, E>(
    outcome: Result<T, E>,
    storage: &dyn Storage,
    making: &SetPath,
) -> Result<T, E> {
    if outcome.is_err() {
        // The first error is reported; leftovers are removed when the keeper starts next.
        let _ = storage.delete_set(making).await;
    }
    outcome
}

/// Clones volumes of a set into another set, concurrently.
pub async fn copy_set(
    storage: &dyn Storage,
    from: &SetPath,
    to: &SetPath,
    volumes: &[VolumeName],
) -> Result<()> {
    let clones = volumes.iter().map(|volume| async move {
        storage.clone_volume(&from.volume(volume.clone()), &to.volume(volume.clone())).await
    });
    join_bounded(clones).await.into_iter().collect()
}

/// Restores volumes of a sandbox, each atomically. They must not be mounted.
pub async fn restore(
    storage: &dyn Storage,
    live: &SetPath,
    sources: &BTreeMap<VolumeName, VolumePath>,
) -> Result<()> {
    let resets = sources
        .iter()
        .map(|(volume, source)| async move { storage.replace(source, &live.volume(volume.clone())).await });
    // Waits for all resets even if one fails, so that none keeps running.
    join_bounded(resets).await.into_iter().collect::<Result<Vec<()>>>()?;
    let sets: BTreeSet<&SetPath> = sources.values().map(|source| &source.set).collect();
    for set in sets.into_iter().filter(|set| set.shelf != live.shelf) {
        storage.touch(set).await?;
    }
    Ok(())
}

/// The stored sets with the properties that the budget's selection needs; `usage` has their sizes.
pub async fn kept(storage: &dyn Storage, usage: &Usage) -> Result<Vec<StoredSet>> {
    let mut kept = Vec::new();
    for shelf in [Namespace::Baseline, Namespace::Snapshot] {
        for info in storage.list(shelf).await? {
            let size = usage.sets.iter().find(|(set, _)| *set == info.path).map(|(_, size)| *size);
            kept.push(StoredSet {
                path: info.path,
                last_used: info.last_used,
                size: size.unwrap_or_default(),
            });
        }
    }
    Ok(kept)
}

/// Returns a stored set, or an error if it does not exist.
pub async fn existing(storage: &dyn Storage, set: &SetPath) -> Result<SetInfo> {
    let found = storage.inspect(set).await?;
    found.ok_or_else(|| StorageError::NotFound { path: set.to_string() })
}

/// Deletes the snapshots whose owners are gone.
pub async fn delete_owned(storage: &dyn Storage, is_gone: impl Fn(&SandboxId) -> bool + Send) -> Result<()> {
    let owned = storage.list(Namespace::Snapshot).await?.into_iter().filter(|info| {
        let owner = Manifest::of(info).and_then(|manifest| manifest.owner);
        owner.is_some_and(|owner| is_gone(&owner))
    });
    let owned: Vec<SetPath> = owned.map(|info| info.path).collect();
    // Deletes all even if one fails.
    join_bounded(owned.iter().map(|set| storage.delete_set(set))).await.into_iter().collect()
}

/// A value that distinguishes a stored set from a later one with the same name.
pub async fn identity(storage: &dyn Storage, set: &SetPath) -> Result<String> {
    let info = existing(storage, set).await?;
    Ok(Manifest::of(&info).map(|manifest| manifest.created.to_string()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::manifest::Consistency;
    use crate::data::testing::TestStorage;

    fn live(id: &str) -> SetPath {
        SetPath::live(id).unwrap()
    }

    fn name(volume: &str) -> VolumeName {
        VolumeName::new(volume).unwrap()
    }

    fn manifest() -> Manifest {
        Manifest::new("amd64", Consistency::Clean)
    }

    fn in_peace() -> impl Future<Output = Result<()>> {
        std::future::ready(Ok(()))
    }

    #[tokio::test]
    async fn what_was_taken_is_put_back_and_what_it_lacks_is_left_alone() {
        let storage = TestStorage::new();
        let (sandbox, kept) = (live("0a"), SetPath::snapshot("s").unwrap());
        storage.write(&sandbox, "data", "row", "one").await;
        take(&storage.local, &sandbox, &[name("data")], &kept, manifest(), in_peace()).await.unwrap();
        storage.write(&sandbox, "data", "row", "two").await;
        storage.write(&sandbox, "cache", "key", "x").await;

        let from = |volume: &str| (name(volume), kept.volume(name(volume)));
        restore(&storage.local, &sandbox, &[from("data")].into()).await.unwrap();
        assert_eq!(storage.read(&sandbox.volume(name("data")), "row"), "one");
        let lacking = restore(&storage.local, &sandbox, &[from("cache")].into()).await;
        assert!(matches!(lacking, Err(StorageError::NotFound { .. })));
        assert!(storage.has(&sandbox.volume(name("cache")), "key"));
    }

    #[tokio::test]
    async fn a_copy_of_a_sandbox_is_apart_from_it() {
        let storage = TestStorage::new();
        storage.write(&live("0a"), "data", "row", "one").await;
        copy_set(&storage.local, &live("0a"), &live("0b"), &[name("data")]).await.unwrap();
        storage.write(&live("0b"), "data", "row", "two").await;
        assert_eq!(storage.read(&live("0a").volume(name("data")), "row"), "one");
    }

    #[tokio::test]
    async fn what_cannot_be_taken_whole_is_not_published() {
        let storage = TestStorage::new();
        storage.write(&live("0a"), "data", "row", "one").await;
        let kept = SetPath::baseline("k").unwrap();
        let volumes = [name("data"), name("missing")];
        assert!(take(&storage.local, &live("0a"), &volumes, &kept, manifest(), in_peace()).await.is_err());
        assert!(storage.local.inspect(&kept).await.unwrap().is_none());
        assert!(storage.local.list(Namespace::Making).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_volume_that_was_written_meanwhile_is_not_published() {
        let storage = TestStorage::new();
        storage.write(&live("0a"), "data", "row", "one").await;
        let kept = SetPath::baseline("k").unwrap();
        let disturbed = async { Err(StorageError::Refused { reason: "it was written to".to_owned() }) };
        let taken = take(&storage.local, &live("0a"), &[name("data")], &kept, manifest(), disturbed).await;
        assert!(matches!(taken, Err(StorageError::Refused { .. })));
        assert!(storage.local.inspect(&kept).await.unwrap().is_none());
        assert!(storage.local.list(Namespace::Making).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_snapshot_with_an_owner_goes_with_it_and_no_other_does() {
        let storage = TestStorage::new();
        let (mine, other) = (SandboxId::random(), SandboxId::random());
        storage.write(&live("0a"), "data", "row", "one").await;
        for (to, owner) in [("mine", Some(&mine)), ("other", Some(&other)), ("kept", None)] {
            let manifest = Manifest { owner: owner.cloned(), ..manifest() };
            let to = SetPath::snapshot(to).unwrap();
            take(&storage.local, &live("0a"), &[name("data")], &to, manifest, in_peace()).await.unwrap();
        }

        delete_owned(&storage.local, |owner| *owner == mine).await.unwrap();

        let left = storage.local.list(Namespace::Snapshot).await.unwrap();
        let left: Vec<&str> = left.iter().map(|info| info.path.name.as_str()).collect();
        assert_eq!(left, ["kept", "other"]);
    }

    #[tokio::test]
    async fn a_snapshot_made_again_under_its_name_is_another() {
        let storage = TestStorage::new();
        storage.write(&live("0a"), "data", "row", "one").await;
        let kept = SetPath::snapshot("s").unwrap();
        let mut seen = Vec::new();
        for _ in 0..2 {
            take(&storage.local, &live("0a"), &[name("data")], &kept, manifest(), in_peace()).await.unwrap();
            seen.push(identity(&storage.local, &kept).await.unwrap());
            storage.local.delete_set(&kept).await.unwrap();
        }
        assert_ne!(seen[0], seen[1]);
        assert!(identity(&storage.local, &kept).await.is_err());
    }
}
