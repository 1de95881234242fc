//! Lists everything on an engine, regardless of its creator, to compare it with an earlier list.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::engine::{Engine, FirstProcesses, shelved};
use super::loops;

/// Every container, network, volume and image; incomplete and live sets in the pools; loop devices on files of
/// volumes; the parent control groups of containers. One line each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing(BTreeSet<String>);

impl Listing {
    /// Lists an engine whose data root is a separate file system, mounted at this path, and whose containers have this
    /// parent control group.
    pub fn of(engine: &Engine, root: &Path, parent: &str) -> Self {
        let mut lines = BTreeSet::new();
        let mut list = |arguments: &[&str]| lines.extend(rows(engine, arguments));
        list(&["ps", "-a", "--no-trunc", "--format", "container {{.Names}} {{.ID}}"]);
        list(&["volume", "ls", "--format", "volume {{.Name}}"]);
        list(&["images", "-a", "--no-trunc", "--format", "image {{.Repository}}:{{.Tag}} {{.ID}}"]);
        // Without the engine's own networks, which it recreates when it starts.
        let custom = ["--no-trunc", "--filter", "type=custom", "--format", "network {{.Name}} {{.ID}}"];
        list(&[&["network", "ls"][..], &custom].concat());
        list(&["network", "ls", "--filter", "type=builtin", "--format", "network {{.Name}}"]);
        lines.extend(data(engine, root));
        lines.extend(loop_devices(root));
        lines.extend(groups(parent));
        Self(lines)
    }

    /// What is new since `before`, except the objects of these scopes that outlive sandboxes; and what is missing.
    pub fn since(&self, before: &Self, scopes: &[&str]) -> Vec<String> {
        let new =
            self.0.difference(&before.0).filter(|line| !scopes.iter().any(|scope| outlasts(line, scope)));
        let (agents, new): (Vec<_>, Vec<_>) = new.partition(|line| line.starts_with("image sandbox-agent:"));
        // There is one agent image per build.
        let agents = agents.into_iter().skip(usize::from(!scopes.is_empty()));
        let missing = before.0.difference(&self.0).map(|line| format!("missing: {line}"));
        new.into_iter().chain(agents).map(|line| format!("new: {line}")).chain(missing).collect()
    }
}

/// Whether a line is about a keeper, its volume, or the edge network.
fn outlasts(line: &str, scope: &str) -> bool {
    let pool = format!("sandbox-pool-{scope}");
    let mut words = line.splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some("container"), Some(name), _) => ["keeper", "host-firewall", "storage-server"]
            .iter()
            .any(|what| name == format!("sandbox-{what}-{scope}")),
        (Some("network"), Some(name), _) => name == format!("sandbox-edge-{scope}"),
        (Some("volume"), Some(name), _) => name == pool,
        (Some("loop"), Some(file), None) => file == format!("{pool}/pool.btrfs"),
        _ => false,
    }
}

fn rows(engine: &Engine, arguments: &[&str]) -> Vec<String> {
    engine.docker(arguments).success().stdout.lines().map(str::to_owned).collect()
}

/// Sets that must not exist without a sandbox: live and incomplete ones.
fn data(engine: &Engine, root: &Path) -> Vec<String> {
    let first = FirstProcesses::look();
    let containers = rows(engine, &["ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.ID}}"]);
    let mut lines = Vec::new();
    for pool in rows(engine, &["volume", "ls", "-q"]) {
        let Some(scope) = pool.strip_prefix("sandbox-pool-") else { continue };
        let serving = ["keeper", "storage-server"].map(|what| format!("sandbox-{what}-{scope} "));
        let server = containers.iter().find_map(|it| serving.iter().find_map(|name| it.strip_prefix(name)));
        let volume = root.join("volumes").join(&pool).join("_data");
        let seen = match server {
            Some(container) => match first.of(container) {
                Some(pid) => Ok(Volume::seen(format!("/proc/{pid}/root/pool").into())),
                None if volume.join("pool.btrfs").exists() => {
                    Err(std::io::Error::other("its server is down"))
                }
                None => Ok(Volume::seen(volume)),
            },
            None => Volume::unattended(volume),
        };
        match seen {
            Ok(volume) => lines.extend(["live", "making"].into_iter().flat_map(|shelf| {
                let sets = shelved(&volume.path, shelf).into_iter();
                sets.map(|set| format!("data {shelf}/{set} in {pool}")).collect::<Vec<_>>()
            })),
            Err(error) => lines.push(format!("data in {pool} that cannot be read: {error}")),
        }
    }
    lines
}

/// A keeper's volume with its pool.
struct Volume {
    path: PathBuf,
    own: Option<tempfile::TempDir>,
}

impl Volume {
    /// As the process that serves it sees it.
    fn seen(path: PathBuf) -> Self {
        Self { path, own: None }
    }

    /// A volume that no process serves or will serve; its pool is mounted here.
    fn unattended(volume: PathBuf) -> std::io::Result<Self> {
        let file = volume.join("pool.btrfs");
        if !file.exists() {
            return Ok(Self::seen(volume));
        }
        let own = tempfile::tempdir()?;
        let place = own.path().join("pool");
        std::fs::create_dir(&place)?;
        let mount = Command::new("mount").args(["-o", "ro,loop"]).args([&file, &place]).output()?;
        if !mount.status.success() {
            return Err(std::io::Error::other(String::from_utf8_lossy(&mount.stderr).trim().to_owned()));
        }
        Ok(Self { path: own.path().to_owned(), own: Some(own) })
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            let _ = Command::new("umount").arg(own.path().join("pool")).status();
        }
    }
}

/// `loop VOLUME/FILE` for each loop device on a file of a volume; from the second one on, with a number.
fn loop_devices(root: &Path) -> Vec<String> {
    let Ok(device) = std::fs::metadata(root).map(|root| root.dev()) else { return Vec::new() };
    let mut lines: Vec<String> = Vec::new();
    for used in loops::in_use().iter().map(loops::LoopDevice::file).filter(|file| file.0 == device) {
        let name = named(root, used).unwrap_or_else(|| format!("a file that is gone, inode {}", used.1));
        let same = lines.iter().filter(|line| line.split(' ').nth(1) == name.split(' ').next()).count();
        lines.push(if same == 0 { format!("loop {name}") } else { format!("loop {name} once more: {same}") });
    }
    lines
}

fn named(root: &Path, file: (u64, u64)) -> Option<String> {
    for volume in std::fs::read_dir(root.join("volumes")).ok()?.flatten() {
        for entry in std::fs::read_dir(volume.path().join("_data")).into_iter().flatten().flatten() {
            if entry.metadata().is_ok_and(|meta| (meta.dev(), meta.ino()) == file) {
                let volume = volume.file_name();
                return Some(format!("{}/{}", volume.to_string_lossy(), entry.file_name().to_string_lossy()));
            }
        }
    }
    None
}

/// `group HIERARCHY/NAME` for each control group in the engine's own that is not a container's.
fn groups(parent: &str) -> Vec<String> {
    let tree = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(tree).into_iter().flatten().flatten().map(|one| one.path());
    let bases = hierarchies.chain([tree.to_owned()]).map(|root| root.join(parent));
    let inside = bases.flat_map(|base| std::fs::read_dir(base).into_iter().flatten().flatten());
    let folders = inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let is_ours = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("sandbox");
    folders.filter(is_ours).map(|entry| format!("group {}", entry.path().display())).collect()
}
