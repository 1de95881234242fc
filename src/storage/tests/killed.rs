//! A keeper killed at any moment leaves neither incomplete data that looks usable nor orphaned data.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

const INSIDE: &str = "storage::tests::killed::one_who_works_until_killed";
const FILES: usize = 40;

fn set(name: &str) -> SetPath {
    SetPath::snapshot(name).unwrap()
}

/// Clones, publishes, resets and deletes in an endless loop. The test below is its counterpart.
#[tokio::test]
#[ignore = "runs only as the process that the test below kills"]
async fn one_who_works_until_killed() {
    let Ok(root) = std::env::var("POOL_ROOT") else { return };
    let kind: StorageKind = std::env::var("POOL_KIND").unwrap().parse().unwrap();
    let settings = Settings { kind: Some(kind), budget: Some(400 << 20) };
    let (storage, _) = open_local(Path::new(&root), Path::new("/host"), &settings).unwrap();
    let source = volume(&SetPath::live("0000aaaa0000").unwrap(), "data");
    for round in 0.. {
        let making = storage.begin().await.unwrap();
        for name in ["one", "two"] {
            storage.clone_volume(&source, &volume(&making, name)).await.unwrap();
        }
        let name = format!("s{}", round % 3);
        storage.delete_set(&set(&name)).await.unwrap();
        storage.publish(&making, &set(&name), &json!({"round": round})).await.unwrap();
        let live = volume(&SetPath::live("0000bbbb0000").unwrap(), "data");
        storage.replace(&volume(&set(&name), "one"), &live).await.unwrap();
    }
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

async fn survives_kills(ground: &Ground, kind: StorageKind) {
    {
        let storage = ground.open(kind);
        let source = volume(&SetPath::live("0000aaaa0000").unwrap(), "data");
        storage.create(&source).await.unwrap();
        for file in 0..FILES {
            fs::write(storage.store().join(source.relative()).join(format!("f{file}")), vec![1; 5000])
                .unwrap();
        }
        storage.sync().await.unwrap();
    }
    for kill in 0..12u64 {
        let mut worker = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", INSIDE])
            .env("POOL_ROOT", ground.root())
            .env("POOL_KIND", kind.as_str())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(60 + kill * 37));
        assert!(worker.try_wait().unwrap().is_none(), "the worker ended by itself");
        worker.kill().unwrap();
        worker.wait().unwrap();

        // Everything that is visible is complete, even before the recovery.
        let storage = ground.open(kind);
        for info in storage.list(Namespace::Snapshot).await.unwrap() {
            assert!(info.manifest.is_some() && info.volumes.len() == 2, "{info:?}");
            for name in &info.volumes {
                let folder = storage.store().join(info.path.volume(name.clone()).relative());
                assert_eq!(count(&folder), FILES, "{name} of {}", info.path);
            }
        }
        let live = storage.store().join("live/0000bbbb0000/data");
        if live.exists() {
            assert_eq!(count(&live), FILES);
        }
        storage.recover().await.unwrap();
        assert_eq!(count(&storage.store().join("making")), 0);
    }
    let storage = ground.open(kind);
    for shelf in [Namespace::Live, Namespace::Snapshot] {
        for info in storage.list(shelf).await.unwrap() {
            storage.delete_set(&info.path).await.unwrap();
        }
    }
    if kind == StorageKind::Pool {
        let left = Command::new("btrfs").args(["subvolume", "list"]).arg(storage.store()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&left.stdout), "", "orphan subvolumes");
    }
}

#[tokio::test]
async fn a_killed_keeper_leaves_a_pool_whole() {
    let Some(ground) = Ground::new(None) else { return };
    survives_kills(&ground, StorageKind::Pool).await;
}

#[tokio::test]
async fn a_killed_keeper_leaves_copies_whole() {
    let Some(ground) = Ground::new(None) else { return };
    survives_kills(&ground, StorageKind::Copy).await;
}
