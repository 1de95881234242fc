//! The same requirements for every kind of storage, each on a real file system created for the test.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

mod engine;
mod killed;

/// A temporary folder, with its own file system if requested; all of it is removed on drop.
struct Ground {
    folder: tempfile::TempDir,
    mounted: bool,
}

impl Ground {
    fn new(file_system: Option<&str>) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can mount");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut ground = Self { folder, mounted: false };
        fs::create_dir(ground.root()).unwrap();
        if let Some(kind) = file_system {
            let image = ground.folder.path().join("image");
            fs::File::create(&image).unwrap().set_len(700 << 20).unwrap();
            let made = Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image).output();
            if !made.is_ok_and(|made| made.status.success()) {
                eprintln!("skipped: no mkfs.{kind}");
                return None;
            }
            let mount = Command::new("mount").args(["-o", "loop"]).arg(&image).arg(ground.root()).status();
            if !mount.is_ok_and(|status| status.success()) {
                eprintln!("skipped: {kind} cannot be mounted");
                return None;
            }
            ground.mounted = true;
        }
        Some(ground)
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn open(&self, kind: StorageKind) -> Local {
        let settings =
            Settings { kind: Some(kind), budget: (kind == StorageKind::Pool).then_some(400 << 20) };
        open_local(&self.root(), Path::new("/host"), &settings).unwrap().0
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .args(["-q", "-l"])
            .stderr(std::process::Stdio::null())
            .arg(self.root().join("pool"))
            .status();
        if self.mounted {
            let _ = Command::new("umount")
                .args(["-q", "-l"])
                .stderr(std::process::Stdio::null())
                .arg(self.root())
                .status();
        }
    }
}

fn volume(set: &SetPath, name: &str) -> VolumePath {
    set.volume(VolumeName::new(name).unwrap())
}

fn fill(folder: &Path) {
    fs::write(folder.join("plain"), b"one").unwrap();
    fs::create_dir(folder.join("dir")).unwrap();
    fs::write(folder.join("dir/tool"), vec![5u8; 300_000]).unwrap();
    fs::set_permissions(folder.join("dir/tool"), fs::Permissions::from_mode(0o4750)).unwrap();
    std::os::unix::fs::chown(folder.join("plain"), Some(999), Some(998)).unwrap();
    std::os::unix::fs::symlink("/nowhere/../x", folder.join("link")).unwrap();
    fs::hard_link(folder.join("plain"), folder.join("dir/again")).unwrap();
    let sparse = fs::File::create(folder.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", (64 << 20) - 4096).unwrap();
    xattr::set(folder.join("plain"), "user.note", b"kept").unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("fifo"), rustix::fs::Mode::RUSR).unwrap();
    let times = fs::FileTimes::new().set_modified(
        std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789),
    );
    fs::File::open(folder.join("dir")).unwrap().set_times(times).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o1777)).unwrap();
    std::os::unix::fs::chown(folder, Some(70), Some(70)).unwrap();
}

fn assert_same(from: &Path, to: &Path) {
    for name in ["", "plain", "dir", "dir/tool", "link", "dir/again", "sparse", "fifo"] {
        let (a, b) =
            (fs::symlink_metadata(from.join(name)).unwrap(), fs::symlink_metadata(to.join(name)).unwrap());
        assert_eq!((a.mode(), a.uid(), a.gid()), (b.mode(), b.uid(), b.gid()), "{name}");
        assert_eq!((a.mtime(), a.mtime_nsec()), (b.mtime(), b.mtime_nsec()), "{name}");
        if a.is_file() {
            assert_eq!((a.size(), a.nlink()), (b.size(), b.nlink()), "{name}");
            assert_eq!(fs::read(from.join(name)).unwrap(), fs::read(to.join(name)).unwrap(), "{name}");
        }
    }
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/nowhere/../x"));
    assert_eq!(xattr::get(to.join("plain"), "user.note").unwrap().unwrap(), b"kept");
    assert!(to.join("sparse").metadata().unwrap().blocks() < 1000, "the hole was filled");
    assert_eq!(to.join("plain").metadata().unwrap().ino(), to.join("dir/again").metadata().unwrap().ino());
}

/// The requirements for every kind of storage.
async fn keeps_its_promises(storage: &Local) {
    let store = storage.store();
    let live = SetPath::live("aaaa00000001").unwrap();
    let data = volume(&live, "data");

    storage.create(&data).await.unwrap();
    let folder = store.join(data.relative());
    assert!(matches!(storage.create(&data).await, Err(StorageError::Exists { .. })));
    fill(&folder);

    // A clone has the same contents and is independent.
    let other = volume(&SetPath::live("aaaa00000002").unwrap(), "data");
    storage.clone_volume(&data, &other).await.unwrap();
    assert!(storage.progress(&other).await.unwrap().is_none());
    assert_same(&folder, &store.join(other.relative()));
    fs::write(store.join(other.relative()).join("plain"), b"two").unwrap();
    assert_eq!(fs::read(folder.join("plain")).unwrap(), b"one");
    assert!(matches!(storage.clone_volume(&data, &other).await, Err(StorageError::Exists { .. })));
    let missing = volume(&live, "missing");
    assert!(matches!(storage.clone_volume(&missing, &data).await, Err(StorageError::Exists { .. })));
    let free = volume(&live, "free");
    assert!(matches!(storage.clone_volume(&missing, &free).await, Err(StorageError::NotFound { .. })));

    // A published set has a manifest, appears atomically, and can be published only once.
    let baseline = SetPath::baseline("k1").unwrap();
    let making = storage.begin().await.unwrap();
    storage.clone_volume(&data, &volume(&making, "data")).await.unwrap();
    assert!(storage.inspect(&baseline).await.unwrap().is_none());
    let manifest = json!({"made": 1});
    assert_eq!(storage.publish(&making, &baseline, &manifest).await.unwrap(), Published::New);
    let info = storage.inspect(&baseline).await.unwrap().unwrap();
    assert_eq!(info.manifest, Some(manifest.clone()));
    assert_eq!(info.volumes, vec![VolumeName::new("data").unwrap()]);
    let making = storage.begin().await.unwrap();
    storage.create(&volume(&making, "data")).await.unwrap();
    assert_eq!(storage.publish(&making, &baseline, &json!({})).await.unwrap(), Published::Existed);
    assert_same(&folder, &store.join(volume(&baseline, "data").relative()));
    let refused = storage.create(&volume(&baseline, "more")).await;
    assert!(matches!(refused, Err(StorageError::Refused { .. })), "{refused:?}");

    // A reset replaces the existing data by the baseline; emptying leaves an empty volume.
    storage.replace(&volume(&baseline, "data"), &other).await.unwrap();
    assert_same(&folder, &store.join(other.relative()));
    storage.replace(&volume(&baseline, "data"), &free).await.unwrap();
    storage.empty(&free).await.unwrap();
    assert_eq!(fs::read_dir(store.join(free.relative())).unwrap().count(), 0);

    // A note is deleted with its live set; published sets do not change.
    storage.note(&live, &json!({"first": 1})).await.unwrap();
    storage.note(&live, &manifest).await.unwrap();
    assert_eq!(storage.inspect(&live).await.unwrap().unwrap().manifest, Some(manifest.clone()));
    let refused = storage.note(&baseline, &manifest).await;
    assert!(matches!(refused, Err(StorageError::Refused { .. })), "{refused:?}");

    // Use is recorded.
    let before = storage.inspect(&baseline).await.unwrap().unwrap().last_used;
    let file = store.join(baseline.relative()).join("manifest.json");
    fs::File::options().append(true).open(file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    storage.touch(&baseline).await.unwrap();
    assert!(storage.inspect(&baseline).await.unwrap().unwrap().last_used >= before);

    storage.sync().await.unwrap();
    let usage = storage.usage(Detail::Sets).await.unwrap();
    assert!(usage.used > 0 && usage.budget > 0 && usage.host_free > 0);
    assert_eq!(usage.sets.len(), 3, "{usage:?}");
    let (_, size) = usage.sets.iter().find(|(path, _)| *path == baseline).unwrap();
    if storage.kind() == StorageKind::Copy {
        assert!(size.own >= 300_000 && size.shared == 0, "{size:?}");
    } else {
        assert!(size.shared >= 300_000 && size.own < 100_000, "{size:?}");
    }

    // Recovery removes incomplete data; deleting a missing set is not an error.
    let making = storage.begin().await.unwrap();
    storage.clone_volume(&data, &volume(&making, "data")).await.unwrap();
    storage.recover().await.unwrap();
    assert!(storage.list(Namespace::Making).await.unwrap().is_empty());
    for _ in 0..2 {
        storage.delete_volume(&data).await.unwrap();
        storage.delete_volume(&free).await.unwrap();
        storage.delete_set(&live).await.unwrap();
        storage.delete_set(&other.set).await.unwrap();
        storage.delete_set(&baseline).await.unwrap();
    }
    for shelf in Namespace::ALL {
        assert!(storage.list(shelf).await.unwrap().is_empty(), "{shelf:?}");
        assert_eq!(fs::read_dir(store.join(shelf.as_str())).unwrap().count(), 0, "{shelf:?}");
    }
    storage.check().await.unwrap();
}

#[tokio::test]
async fn copy_on_ext4_keeps_its_promises() {
    let Some(ground) = Ground::new(Some("ext4")) else { return };
    keeps_its_promises(&ground.open(StorageKind::Copy)).await;
}

#[tokio::test]
async fn reflink_on_xfs_keeps_its_promises() {
    let Some(ground) = Ground::new(Some("xfs")) else { return };
    keeps_its_promises(&ground.open(StorageKind::Reflink)).await;
}

#[tokio::test]
async fn reflink_on_btrfs_keeps_its_promises() {
    let Some(ground) = Ground::new(Some("btrfs")) else { return };
    keeps_its_promises(&ground.open(StorageKind::Reflink)).await;
}

#[tokio::test]
async fn a_pool_on_ext4_keeps_its_promises() {
    let Some(ground) = Ground::new(Some("ext4")) else { return };
    keeps_its_promises(&ground.open(StorageKind::Pool)).await;
}

#[tokio::test]
async fn a_pool_on_xfs_keeps_its_promises() {
    let Some(ground) = Ground::new(Some("xfs")) else { return };
    keeps_its_promises(&ground.open(StorageKind::Pool)).await;
}

#[tokio::test]
async fn reflink_where_files_cannot_be_cloned_is_refused_with_the_reason() {
    let Some(ground) = Ground::new(Some("ext4")) else { return };
    let settings = Settings { kind: Some(StorageKind::Reflink), budget: None };
    let refused = open_local(&ground.root(), Path::new("/host"), &settings).err();
    assert!(matches!(refused, Some(StorageError::Unavailable { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_pool_is_found_again_with_its_data_while_something_still_uses_its_device() {
    let Some(ground) = Ground::new(None) else { return };
    let data = volume(&SetPath::live("bbbb00000001").unwrap(), "data");
    let first = ground.open(StorageKind::Pool);
    first.create(&data).await.unwrap();
    fs::write(first.store().join(data.relative()).join("kept"), b"x").unwrap();

    // A volume of the pool stays mounted elsewhere while the keeper restarts.
    let elsewhere = ground.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "btrfs", "-o", "subvol=live/bbbb00000001/data"])
        .arg(ground.root().join("pool.node"))
        .arg(&elsewhere)
        .status()
        .unwrap();
    assert!(mounted.success());
    let number = fs::metadata(ground.root().join("pool.node")).unwrap().rdev();
    Command::new("umount").arg(ground.root().join("pool")).status().unwrap();
    drop(first);

    let again = ground.open(StorageKind::Pool);
    let found = fs::read(again.store().join(data.relative()).join("kept"));
    let same = fs::metadata(ground.root().join("pool.node")).unwrap().rdev();
    Command::new("umount").arg(&elsewhere).status().unwrap();
    assert_eq!(found.unwrap(), b"x");
    assert_eq!(number, same);
}

#[tokio::test]
async fn a_pool_grows_with_its_budget_and_gives_space_back() {
    let Some(ground) = Ground::new(None) else { return };
    let data = volume(&SetPath::live("cccc00000001").unwrap(), "data");
    {
        let small = ground.open(StorageKind::Pool);
        small.create(&data).await.unwrap();
        let blocks = vec![7u8; 100 << 20];
        fs::write(small.store().join(data.relative()).join("bulk"), blocks).unwrap();
        small.sync().await.unwrap();
        Command::new("umount").arg(ground.root().join("pool")).status().unwrap();
    }
    let settings = Settings { kind: Some(StorageKind::Pool), budget: Some(800 << 20) };
    let (grown, _) = open_local(&ground.root(), Path::new("/host"), &settings).unwrap();
    let fs = rustix::fs::statvfs(grown.store()).unwrap();
    assert_eq!(fs.f_blocks * fs.f_frsize, 800 << 20);

    let full = grown.usage(Detail::Totals).await.unwrap().used;
    assert!(full > 100 << 20, "{full}");
    grown.delete_volume(&data).await.unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    loop {
        grown.sync().await.unwrap();
        grown.check().await.unwrap();
        let left = grown.usage(Detail::Totals).await.unwrap().used;
        if left < full - (90 << 20) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{left} of {full} bytes are still held");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_refuses_new_work_and_gives_up_its_reserve() {
    let Some(ground) = Ground::new(Some("ext4")) else { return };
    let storage = ground.open(StorageKind::Copy);
    assert_eq!(storage.check().await.unwrap(), Pressure::Fine);
    let reserve = ground.root().join("reserve");
    assert!(reserve.exists());
    let free = storage.usage(Detail::Totals).await.unwrap().host_free;
    let bulk = fs::File::create(ground.root().join("bulk")).unwrap();
    rustix::fs::fallocate(&bulk, rustix::fs::FallocateFlags::empty(), 0, free - (30 << 20)).unwrap();
    let refused = storage.create(&volume(&SetPath::live("dddd00000001").unwrap(), "data")).await;
    assert!(matches!(refused, Err(StorageError::Short { .. })), "{refused:?}");
    assert_eq!(storage.check().await.unwrap(), Pressure::Short);
    rustix::fs::fallocate(&bulk, rustix::fs::FallocateFlags::empty(), 0, free - (5 << 20)).unwrap();
    assert_eq!(storage.check().await.unwrap(), Pressure::Critical);
    assert!(!reserve.exists());
    drop(bulk);
    fs::remove_file(ground.root().join("bulk")).unwrap();
    // A process started by another test may hold the file for a moment.
    let patience = Instant::now() + Duration::from_secs(10);
    while storage.check().await.unwrap() != Pressure::Fine {
        assert!(Instant::now() < patience, "the pressure stays: {:?}", storage.usage(Detail::Totals).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(reserve.exists());
}

#[tokio::test]
async fn subvolumes_that_a_container_made_go_with_their_volume() {
    let Some(ground) = Ground::new(None) else { return };
    let storage = ground.open(StorageKind::Pool);
    let data = volume(&SetPath::live("eeee00000001").unwrap(), "data");
    storage.create(&data).await.unwrap();
    let folder = storage.store().join(data.relative());
    let made = Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(folder.join("nested")).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no btrfs command");
        return;
    }
    fs::write(folder.join("nested/file"), b"x").unwrap();
    storage.delete_set(&data.set).await.unwrap();
    assert!(storage.list(Namespace::Live).await.unwrap().is_empty());
    assert_eq!(fs::read_dir(storage.store().join("making")).unwrap().count(), 0);
}

#[tokio::test]
async fn the_engine_is_told_the_path_that_its_host_sees() {
    let Some(ground) = Ground::new(None) else { return };
    let path = volume(&SetPath::live("ffff00000001").unwrap(), "data");
    let pool = ground.open(StorageKind::Pool).mount(&path).await.unwrap();
    assert_eq!(pool.options["device"], "/host/pool.node");
    assert_eq!(pool.options["o"], "noatime,subvol=live/ffff00000001/data");
    let copy = ground.open(StorageKind::Copy).mount(&path).await.unwrap();
    assert_eq!(copy.options["device"], "/host/store/live/ffff00000001/data");
}

#[tokio::test]
async fn a_pool_that_turned_read_only_on_a_full_disk_is_attached_again() {
    let Some(ground) = Ground::new(Some("ext4")) else { return };
    let storage = ground.open(StorageKind::Pool);
    let data = volume(&SetPath::live("abab00000001").unwrap(), "data");
    storage.create(&data).await.unwrap();
    let folder = storage.store().join(data.relative());
    fs::write(folder.join("kept"), b"x").unwrap();
    storage.sync().await.unwrap();

    // The host's disk fills outside the pool while a writer continues.
    let bulk = fs::File::create(ground.root().join("bulk")).unwrap();
    let free = storage.usage(Detail::Totals).await.unwrap().host_free;
    rustix::fs::fallocate(&bulk, rustix::fs::FallocateFlags::empty(), 0, free - (1 << 20)).unwrap();
    let noise: Vec<u8> = (0..64u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for round in 0..40 {
        let wrote = fs::write(folder.join(format!("bulk{round}")), &noise[..8 << 20]);
        if wrote.is_err()
            || storage.sync().await.is_err()
            || storage.check().await.unwrap() == Pressure::ReadOnly
        {
            break;
        }
    }
    if storage.check().await.unwrap() != Pressure::ReadOnly {
        eprintln!("skipped: this kernel kept the pool writable");
        return;
    }
    let other = volume(&SetPath::live("abab00000002").unwrap(), "data");
    assert_eq!(storage.create(&other).await, Err(StorageError::ReadOnly));

    drop(bulk);
    fs::remove_file(ground.root().join("bulk")).unwrap();
    storage.recover().await.unwrap();
    storage.create(&other).await.unwrap();
    assert_eq!(fs::read(folder.join("kept")).unwrap(), b"x");
}

#[tokio::test]
async fn a_pool_at_its_budget_refuses_new_work_and_says_so() {
    let Some(ground) = Ground::new(None) else { return };
    let storage = ground.open(StorageKind::Pool);
    let data = volume(&SetPath::live("acac00000001").unwrap(), "data");
    storage.create(&data).await.unwrap();
    let file = fs::File::create(storage.store().join(data.relative()).join("bulk")).unwrap();
    for step in 0u64..400 {
        if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), step << 20, 1 << 20).is_err() {
            break;
        }
    }
    let other = volume(&SetPath::live("acac00000002").unwrap(), "data");
    let refused = storage.create(&other).await;
    assert!(matches!(refused, Err(StorageError::OverBudget { .. })), "{refused:?}");
    storage.delete_volume(&data).await.unwrap();
}
