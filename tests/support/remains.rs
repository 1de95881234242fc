//! Removes everything of a scope, whatever state the test left it in.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Engine;

/// Removes the scope's containers, networks, volumes, and images, and lets go of the loop devices on its pool.
pub(super) fn remove(engine: &Engine) {
    let pool = format!("sandbox-pool-{}", engine.scope());
    // The keeper first: it would take the removal of the others for work of its own.
    end_processes(engine);
    engine.docker(&["rm", "-fv", &format!("sandbox-keeper-{}", engine.scope())]);
    engine.docker(&["rm", "-fv", &format!("sandbox-storehouse-{}", engine.scope())]);
    let files = pool_files(engine, &pool);
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
    // One may have been on its way when what asked for it was killed.
    engine.docker(&["rm", "-fv", &format!("sandbox-storehouse-{}", engine.scope())]);
    engine.docker(&["volume", "rm", "-f", &pool]);
    let label = format!("label=dev.sandbox.scope={}", engine.scope());
    let images = engine.docker(&["images", "-q", "--filter", &label]);
    batch(engine, &["rmi", "-f"], &images.stdout.lines().map(str::to_owned).collect::<Vec<_>>());
}

/// Kills keepers of the scope that are processes of this machine.
fn end_processes(engine: &Engine) {
    let scope = format!("SANDBOX_SCOPE={}", engine.scope());
    let Ok(processes) = std::fs::read_dir("/proc") else { return };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<libc::pid_t>().ok()) else {
            continue;
        };
        let words = |file: &str| -> Vec<Vec<u8>> {
            let bytes = std::fs::read(process.path().join(file)).unwrap_or_default();
            bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
        };
        let is_keeper =
            words("cmdline").get(1..3).is_some_and(|verb| verb == [&b"agent"[..], &b"keeper"[..]]);
        if is_keeper && words("environ").iter().any(|variable| variable == scope.as_bytes()) {
            // SAFETY: a plain system call.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
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

/// The files in the pool's volume that a loop device may stand on, as device and inode.
fn pool_files(engine: &Engine, pool: &str) -> Vec<(u64, u64)> {
    let place = engine.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", pool]);
    let Ok(entries) = std::fs::read_dir(place.text()) else { return Vec::new() };
    let files = entries.flatten().filter_map(|entry| entry.metadata().ok());
    files.filter(std::fs::Metadata::is_file).map(|file| (file.dev(), file.ino())).collect()
}

/// The kernel's `struct loop_info64`: where a loop device stands.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rest: [u8; 216],
}

const LOOP_CLR_FD: libc::c_ulong = 0x4C01;
const LOOP_GET_STATUS64: libc::c_ulong = 0x4C05;

/// Detaches the loop devices that stand on one of these files. The nodes are made here, for `/dev` may not have them.
fn release_loop_devices(files: &[(u64, u64)]) {
    let Ok(devices) = std::fs::read_dir("/sys/block") else { return };
    let Ok(folder) = tempfile::tempdir() else { return };
    for device in devices.flatten().filter(|entry| entry.path().join("loop/backing_file").exists()) {
        let node = folder.path().join(device.file_name());
        let Some(file) = open_node(&device.path().join("dev"), &node) else { continue };
        let mut info = LoopInfo { device: 0, inode: 0, rest: [0; 216] };
        // SAFETY: the descriptor is open and the structure is as long as the kernel's.
        let known = unsafe { libc::ioctl(file.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) } == 0;
        if known && files.contains(&(info.device, info.inode)) {
            // SAFETY: the descriptor is open; the call takes no argument.
            unsafe { libc::ioctl(file.as_raw_fd(), LOOP_CLR_FD, 0) };
        }
    }
}

fn open_node(numbers: &Path, node: &Path) -> Option<File> {
    let text = std::fs::read_to_string(numbers).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    let path = std::ffi::CString::new(node.as_os_str().as_bytes()).ok()?;
    let device = libc::makedev(major.parse().ok()?, minor.parse().ok()?);
    // SAFETY: the path is a C string that lives through the call.
    let made = unsafe { libc::mknod(path.as_ptr(), libc::S_IFBLK | 0o600, device) } == 0;
    made.then(|| File::open(node).ok())?
}
