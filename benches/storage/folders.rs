//! The storage and the snapshot file by themselves, on folders of this machine: no engine, no program between.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sandbox::data::archive::{Import, Limits, Packing, export};
use sandbox::data::manifest::{Consistency, Manifest};
use sandbox::storage::tree::Counter;
use sandbox::storage::{Local, SetPath, Settings, Storage, StorageKind, VolumeName, VolumePath, open_local};

type Failure = Box<dyn std::error::Error>;

fn path(set: &str, volume: &str) -> Result<VolumePath, Failure> {
    Ok(SetPath::live(set)?.volume(VolumeName::new(volume)?))
}

/// Files of a database's size: 16 MiB each, half noise and half text.
fn fill(folder: &Path, mebibytes: usize) -> Result<(), Failure> {
    let mut state = 0x9e37_79b9_u32;
    let mut block = vec![0u8; 1 << 20];
    for (number, chunk) in (0..mebibytes).collect::<Vec<_>>().chunks(16).enumerate() {
        let mut file = std::fs::File::create(folder.join(format!("base{number}")))?;
        for _ in chunk {
            for byte in &mut block[..1 << 19] {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = state.to_be_bytes()[0];
            }
            file.write_all(&block)?;
        }
    }
    Ok(())
}

/// The median of some runs.
async fn median(mut run: impl AsyncFnMut() -> Result<(), Failure>) -> Result<Duration, Failure> {
    let mut times = Vec::new();
    for _ in 0..9 {
        let begun = Instant::now();
        run().await?;
        times.push(begun.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

async fn storage_costs(storage: &Local, mebibytes: usize, out: &mut impl Write) -> Result<(), Failure> {
    let sizes = [("small", 1), ("large", mebibytes)];
    for (name, size) in sizes {
        let volume = path("bench00000000", name)?;
        storage.create(&volume).await?;
        fill(&storage.store().join(volume.relative()), size)?;
    }
    storage.sync().await?;
    let mut costs = Vec::new();
    for (name, _) in sizes {
        let from = path("bench00000000", name)?;
        let to = path("bench00000001", name)?;
        let clone = median(async || {
            storage.delete_volume(&to).await?;
            Ok(storage.clone_volume(&from, &to).await?)
        })
        .await?;
        let reset = median(async || Ok(storage.replace(&from, &to).await?)).await?;
        costs.push((clone, reset));
    }
    let kind = storage.kind();
    let ratio = |a: Duration, b: Duration| b.as_secs_f64() / a.as_secs_f64();
    let [(clone, reset), (large_clone, large_reset)] = costs[..] else { return Err("two sizes".into()) };
    writeln!(
        out,
        "{kind}: clone 1 MiB {clone:?}, {mebibytes} MiB {large_clone:?}: {:.2}",
        ratio(clone, large_clone)
    )?;
    writeln!(
        out,
        "{kind}: reset 1 MiB {reset:?}, {mebibytes} MiB {large_reset:?}: {:.2}",
        ratio(reset, large_reset)
    )?;
    Ok(())
}

fn archive_costs(
    folder: PathBuf,
    scratch: &Path,
    mebibytes: usize,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let name = VolumeName::new("data")?;
    let (ours, theirs) = (scratch.join("ours"), scratch.join("theirs"));
    let begun = Instant::now();
    let manifest = Manifest::new("amd64", Consistency::Clean);
    let file = std::fs::File::create(&ours)?;
    export(file, Packing::Zstd, &manifest, &[(name.clone(), folder.clone())], None, &Counter::default())?;
    let export = begun.elapsed();

    let begun = Instant::now();
    let script = "tar -c -C \"$1\" . | zstd -q -T0 > \"$2\"";
    let status = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(&folder)
        .arg(&theirs)
        .stdin(Stdio::null())
        .status()?;
    let tar = begun.elapsed();
    if !status.success() {
        writeln!(out, "export {mebibytes} MiB {export:?}; no `tar | zstd` to compare with")?;
        return Ok(());
    }
    let place = scratch.join("place");
    std::fs::create_dir(&place)?;
    let begun = Instant::now();
    let places = std::collections::BTreeMap::from([(name, place)]);
    Import::open(std::fs::File::open(&ours)?, Limits::default())?.unpack(
        &places,
        None,
        &Counter::default(),
    )?;
    let import = begun.elapsed();

    let other = scratch.join("other");
    std::fs::create_dir(&other)?;
    let begun = Instant::now();
    let script = "zstd -q -d -c \"$1\" | tar -x -C \"$2\"";
    Command::new("sh").args(["-c", script, "sh"]).arg(&theirs).arg(&other).status()?;
    let untar = begun.elapsed();
    let rate = |ours: Duration, theirs: Duration| theirs.as_secs_f64() / ours.as_secs_f64();
    writeln!(
        out,
        "export {mebibytes} MiB {export:?}, tar|zstd {tar:?}: {:.2} of its rate",
        rate(export, tar)
    )?;
    writeln!(
        out,
        "import {mebibytes} MiB {import:?}, zstd|tar {untar:?}: {:.2} of its rate",
        rate(import, untar)
    )?;
    Ok(())
}

async fn measured(mebibytes: usize) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    let base = std::env::var_os("SANDBOX_BENCH_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    let scratch = tempfile::tempdir_in(base)?;
    for kind in [StorageKind::Pool, StorageKind::Copy] {
        let root = scratch.path().join(kind.as_str());
        std::fs::create_dir(&root)?;
        let settings = Settings { kind: Some(kind), budget: None };
        let storage = match open_local(&root, &root, &settings) {
            Ok((storage, _)) => storage,
            Err(error) => {
                writeln!(out, "{kind}: left out: {error}")?;
                continue;
            }
        };
        let outcome = storage_costs(&storage, mebibytes, &mut out).await;
        if kind == StorageKind::Copy {
            let folder = storage.store().join(path("bench00000000", "large")?.relative());
            archive_costs(folder, scratch.path(), mebibytes, &mut out)?;
        }
        let _ = Command::new("umount").args(["-q", "-l"]).arg(root.join("pool")).status();
        outcome?;
    }
    Ok(())
}

pub fn run(mebibytes: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measured(mebibytes)).unwrap();
}
