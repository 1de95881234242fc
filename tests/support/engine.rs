//! Inspects the engine through its own client, never through the code under test.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::Record;
use super::process::{Outcome, Run};

/// Root of the control groups.
const TREE: &str = "/sys/fs/cgroup";

/// The objects of one scope on the engine.
pub struct Engine {
    scope: String,
    host: Option<String>,
}

impl Engine {
    pub(super) fn new(scope: &str, host: Option<String>) -> Self {
        Self { scope: scope.to_owned(), host }
    }

    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// Runs `docker ARGS…`.
    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new("docker");
        command.args(arguments).stdin(Stdio::null());
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host);
        }
        Run::new(command, Record::default()).limit(Duration::from_mins(2)).run()
    }

    fn lines(&self, arguments: &[&str]) -> Vec<String> {
        self.docker(arguments).stdout.lines().map(str::to_owned).collect()
    }

    fn listed(&self, listing: &[&str], filter: &str) -> Vec<String> {
        let label = format!("label=dev.sandbox.scope={}", self.scope);
        let mut arguments = listing.to_vec();
        arguments.extend(["--filter", &label]);
        if !filter.is_empty() {
            arguments.extend(["--filter", filter]);
        }
        let mut names = self.lines(&arguments);
        names.sort();
        names
    }

    /// The names of the containers of this scope.
    pub fn containers(&self) -> Vec<String> {
        self.listed(&["ps", "-a", "--format", "{{.Names}}"], "")
    }

    /// The names of the networks of this scope.
    pub fn networks(&self) -> Vec<String> {
        self.listed(&["network", "ls", "--format", "{{.Name}}"], "")
    }

    /// The names of the volumes of this scope.
    pub fn volumes(&self) -> Vec<String> {
        self.listed(&["volume", "ls", "--format", "{{.Name}}"], "")
    }

    /// The names of the running services' containers.
    pub fn running_services(&self) -> Vec<String> {
        let mut listing = vec!["ps", "--format", "{{.Names}}", "--filter", "status=running"];
        listing.extend(["--filter", "label=dev.sandbox.role=service"]);
        self.listed(&listing, "")
    }

    /// The control groups of this scope's sandboxes, in every hierarchy of this machine, on which the engine runs.
    pub fn groups(&self) -> Vec<PathBuf> {
        let inside = |folder: PathBuf| {
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
        };
        let hierarchies = inside(TREE.into()).chain([TREE.into()]);
        let ours = format!("sandbox_{}_", self.scope);
        let mut groups: Vec<PathBuf> = hierarchies.flat_map(inside).flat_map(inside).collect();
        groups.retain(|group| group.to_string_lossy().contains(&ours));
        groups.sort();
        groups
    }

    /// All remains of sandboxes in this scope: each object that is not the keeper, edge network, pool or an image, and
    /// each control group, with its kind.
    ///
    /// Objects are found by label and by name, so that objects without labels are found too.
    pub fn remains(&self) -> Vec<String> {
        let mut found = Vec::new();
        let kinds: [(&str, &[&str]); 3] = [
            ("container", &["ps", "-a", "--format", "{{.Names}}"]),
            ("network", &["network", "ls", "--format", "{{.Name}}"]),
            ("volume", &["volume", "ls", "--format", "{{.Name}}"]),
        ];
        for (kind, listing) in kinds {
            let ours = self.listed(listing, "");
            let by_name = format!("name=sbx-{}", self.scope);
            let mut by_name_listing = listing.to_vec();
            by_name_listing.extend(["--filter", &by_name]);
            let mut names: Vec<String> = ours.into_iter().chain(self.lines(&by_name_listing)).collect();
            names.sort();
            names.dedup();
            let lasting = ["keeper", "host-firewall", "storage-server", "edge", "pool"]
                .map(|what| format!("sandbox-{what}-{}", self.scope));
            found.extend(
                names.into_iter().filter(|name| !lasting.contains(name)).map(|name| format!("{kind} {name}")),
            );
        }
        found.extend(self.groups().into_iter().map(|group| format!("group {}", group.display())));
        found
    }

    /// Fails the test if anything of a sandbox of this scope exists.
    #[track_caller]
    pub fn is_clean(&self) {
        let remains = self.remains();
        assert!(remains.is_empty(), "the engine still has {remains:#?}");
    }

    /// Waits until nothing of any sandbox of this scope exists.
    #[track_caller]
    pub fn becomes_clean(&self) {
        let start = std::time::Instant::now();
        loop {
            let remains = self.remains();
            if remains.is_empty() {
                return;
            }
            assert!(start.elapsed() < super::PATIENCE, "the engine still has {remains:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// `docker inspect` of one object.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        self.docker(&["inspect", name]).success().json()[0].clone()
    }

    /// Whether a container is running.
    pub fn runs(&self, container: &str) -> bool {
        self.docker(&["inspect", "-f", "{{.State.Running}}", container]).text() == "true"
    }

    pub fn exists(&self, object: &str) -> bool {
        self.docker(&["inspect", object]).code == Some(0)
    }

    /// The process id of a container on this machine. An engine in its own process namespace reports another number.
    pub fn pid(&self, container: &str) -> u32 {
        let id = self.docker(&["inspect", "-f", "{{.Id}}", container]).text().to_owned();
        if id.is_empty() { 0 } else { FirstProcesses::look().of(&id).unwrap_or(0) }
    }

    /// Lists the sets in a namespace of the keeper's storage: `live`, `baseline`, `snapshot`, `making`. Reads through
    /// the process that has the pool mounted, the keeper or the storage server; needs root.
    pub fn stored(&self, shelf: &str) -> Vec<String> {
        let serving =
            ["keeper", "storage-server"].map(|what| self.pid(&format!("sandbox-{what}-{}", self.scope)));
        let pid = serving.into_iter().max().unwrap_or_default();
        shelved(Path::new(&format!("/proc/{pid}/root/pool")), shelf)
    }

    /// Process ids of this scope's keepers that are processes of this machine.
    pub fn keeper_processes(&self) -> Vec<libc::pid_t> {
        let scope = format!("SANDBOX_SCOPE={}", self.scope);
        let is_one = |pid: &u32| {
            let words = |file: &str| -> Vec<Vec<u8>> {
                let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
            };
            words("cmdline").get(1..3).is_some_and(|verb| verb == [&b"agent"[..], &b"keeper"[..]])
                && words("environ").iter().any(|variable| variable == scope.as_bytes())
        };
        processes().filter(is_one).map(u32::cast_signed).collect()
    }

    /// A dump of this scope's objects, for the analysis of a failure.
    pub(super) fn portrait(&self) -> String {
        let mut text = String::new();
        let label = format!("label=dev.sandbox.scope={}", self.scope);
        for listing in [&["ps", "-a", "--no-trunc"][..], &["network", "ls"], &["volume", "ls"]] {
            let arguments: Vec<&str> = listing.iter().copied().chain(["--filter", &label]).collect();
            let _ = writeln!(text, "$ docker {}\n{}", listing.join(" "), self.docker(&arguments).stdout);
        }
        for container in self.containers() {
            let logs = self.docker(&["logs", "--tail", "200", &container]);
            let _ = writeln!(text, "--- logs of {container}\n{}{}", logs.stdout, logs.stderr);
        }
        text
    }
}

/// The first process of each container on this machine, for all engines.
pub(super) struct FirstProcesses(Vec<(u32, String)>);

impl FirstProcesses {
    pub(super) fn look() -> Self {
        let first = |pid: u32| {
            let says = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
            let status = says("status").unwrap_or_default();
            let is_first = status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"));
            is_first.then(|| (pid, says("cgroup").unwrap_or_default()))
        };
        Self(processes().filter_map(first).collect())
    }

    /// The first process of the container with this id.
    pub(super) fn of(&self, container: &str) -> Option<u32> {
        self.0.iter().find(|(_, groups)| groups.contains(container)).map(|(pid, _)| *pid)
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Lists the sets in a namespace of the storage in a keeper's volume, for any kind of storage.
pub(super) fn shelved(volume: &Path, shelf: &str) -> Vec<String> {
    let places = ["pool", "store"].map(|kind| volume.join(kind).join(shelf));
    let found = places.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten().flatten();
    let mut names: Vec<String> =
        found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
