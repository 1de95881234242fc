//! Removes everything of a scope, whatever state the test left it in.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::{Engine, loops};

/// Removes the scope's containers, networks, volumes and images, and detaches the loop devices on its pool.
pub(super) fn remove(engine: &Engine) {
    let pool = format!("sandbox-pool-{}", engine.scope());
    // The keeper is removed first, because it would react to the removal of the others.
    end_processes(engine);
    engine.docker(&["rm", "-fv", &format!("sandbox-keeper-{}", engine.scope())]);
    engine.docker(&["rm", "-fv", &format!("sandbox-storage-server-{}", engine.scope())]);
    let files = pool_files(engine, &pool);
    remove_table(engine);
    for _ in 0..3 {
        let (containers, networks, volumes) = (all_containers(engine), engine.networks(), engine.volumes());
        if containers.is_empty() && networks.is_empty() && volumes.is_empty() {
            break;
        }
        batch(engine, &["rm", "-fv"], &containers);
        batch(engine, &["network", "rm"], &networks);
        let (pools, others): (Vec<_>, Vec<_>) = volumes.into_iter().partition(|name| *name == pool);
        batch(engine, &["volume", "rm", "-f"], &others);
        release_loop_devices(&files);
        batch(engine, &["volume", "rm", "-f"], &pools);
    }
    // A storage server may have been in creation when its client was killed.
    engine.docker(&["rm", "-fv", &format!("sandbox-storage-server-{}", engine.scope())]);
    engine.docker(&["volume", "rm", "-f", &pool]);
    for group in engine.groups() {
        let _ = std::fs::remove_dir(group);
    }
    remove_records(engine.scope());
    let label = format!("label=dev.sandbox.scope={}", engine.scope());
    let images = engine.docker(&["images", "-q", "--filter", &label]);
    batch(engine, &["rmi", "-f"], &images.stdout.lines().map(str::to_owned).collect::<Vec<_>>());
}

/// Removes the nftables table of the host firewall for this scope's gateways. It has the name of the bridge.
fn remove_table(engine: &Engine) {
    let name = format!("sandbox-edge-{}", engine.scope());
    engine.docker(&["rm", "-fv", &format!("sandbox-host-firewall-{}", engine.scope())]);
    let format = r#"{{index .Options "com.docker.network.bridge.name"}}"#;
    let bridge = engine.docker(&["network", "inspect", "-f", format, &name]);
    if bridge.code == Some(0) {
        // The engine may run on another machine, or there may be no table; both are ignored.
        let _ = std::process::Command::new("nft").args(["delete", "table", "ip", bridge.text()]).output();
    }
}

/// Kills the scope's keepers that are processes of this machine.
fn end_processes(engine: &Engine) {
    for pid in engine.keeper_processes() {
        // SAFETY: a plain system call.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

/// Removes the records of keepers that a test started as processes outside its world's HOME.
fn remove_records(scope: &str) {
    let of_variable = |name: &str| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let state = of_variable("XDG_STATE_HOME").or_else(|| Some(of_variable("HOME")?.join(".local/state")));
    // SAFETY: the call takes nothing and cannot fail.
    let user = unsafe { libc::getuid() };
    let runtime = of_variable("XDG_RUNTIME_DIR").map(|it| it.join("sandbox"));
    let runtime = runtime.unwrap_or_else(|| std::env::temp_dir().join(format!("sandbox-{user}")));
    let places = state.map(|it| it.join("sandbox")).into_iter().chain([runtime]);
    let kept = places.flat_map(|place| std::fs::read_dir(place).into_iter().flatten().flatten());
    let ours = format!("sandbox-keeper-{scope}-");
    for entry in kept.filter(|entry| entry.file_name().to_string_lossy().starts_with(&ours)) {
        let path = entry.path();
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
}

fn all_containers(engine: &Engine) -> Vec<String> {
    let mut containers = engine.containers();
    let by_name = engine.docker(&[
        "ps",
        "-a",
        "--format",
        "{{.Names}}",
        "--filter",
        &format!("name=sbx-{}", engine.scope()),
    ]);
    containers.extend(by_name.stdout.lines().map(str::to_owned));
    containers
}

fn batch(engine: &Engine, verb: &[&str], names: &[String]) {
    if !names.is_empty() {
        let arguments: Vec<&str> = verb.iter().copied().chain(names.iter().map(String::as_str)).collect();
        engine.docker(&arguments);
    }
}

/// The files in the pool's volume that a loop device may use, as device and inode.
fn pool_files(engine: &Engine, pool: &str) -> Vec<(u64, u64)> {
    let place = engine.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", pool]);
    let Ok(entries) = std::fs::read_dir(place.text()) else { return Vec::new() };
    let files = entries.flatten().filter_map(|entry| entry.metadata().ok());
    files.filter(std::fs::Metadata::is_file).map(|file| (file.dev(), file.ino())).collect()
}

/// Detaches the loop devices on these files.
fn release_loop_devices(files: &[(u64, u64)]) {
    for device in loops::in_use().iter().filter(|device| files.contains(&device.file())) {
        device.release();
    }
}
