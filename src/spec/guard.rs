//! The host-access guard: what would let a sandbox touch the machine it runs on.

use std::path::{Path, PathBuf};

use super::canonical;
use super::find;
use super::model::{
    At, ConfigSource, Mount, MountKind, NetworkMode, SecretSource, Seed, Service, SnapshotRef, Spec,
    SpecOrigin,
};
use super::planted;
use super::problem::{Problem, ProblemKind, Problems};
use super::request::HostAccess;
use super::ways_out;

/// One way in which a spec reaches the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reach {
    pub at: At,
    pub message: String,
    /// The service and its key, where it is one key.
    pub key: Option<(String, &'static str)>,
}

/// As much of an option as is shown: a profile may stand in it.
const SHOWN: usize = 80;
/// The largest seccomp profile that is looked into, bytes. The engine's own is 20 KiB.
const PROFILE: u64 = 4 << 20;

/// How such access is allowed.
pub(super) const WAY_OUT: &str = "if you trust this spec with your machine, add `--allow-host-access`";

/// Checks that a spec, wherever it came from, does not reach the host, unless that is allowed.
pub fn guard(spec: &Spec, access: HostAccess) -> Result<(), Problems> {
    let planted = planted::links(spec);
    if !planted.is_empty() {
        return Err(Problems::new(planted.into_iter().map(|(_, problem)| problem).collect()));
    }
    if access == HostAccess::Allowed {
        return Ok(());
    }
    let problems: Vec<Problem> = reaches(spec)
        .into_iter()
        .map(|reach| Problem::new(ProblemKind::HostAccess, reach.message).hint(WAY_OUT))
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(Problems::new(problems)) }
}

/// Every way in which a spec reaches the host.
pub(super) fn reaches(spec: &Spec) -> Vec<Reach> {
    let root = find::git_root(&spec.folder).unwrap_or_else(|| spec.folder.clone());
    let folder = spec.folder.clone();
    let mut guard = Guard { root: real(&root), folder, origin: spec.origin, found: Vec::new() };
    for service in spec.services.values() {
        guard.service(spec, service);
    }
    guard.data(spec);
    guard.found.extend(ways_out::of_networks(spec));
    guard.found
}

struct Guard {
    /// The spec's own ground.
    root: PathBuf,
    /// Where its paths begin.
    folder: PathBuf,
    origin: SpecOrigin,
    found: Vec<Reach>,
}

/// Capabilities that do not reach beyond a container: those the engine gives, less `NET_RAW`, and a few that
/// databases and debuggers ask for.
const HARMLESS: [&str; 18] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
    "IPC_LOCK",
    "IPC_OWNER",
    "LEASE",
    "SYS_NICE",
    "SYS_PTRACE",
];

impl Guard {
    fn push(&mut self, at: &At, message: String) {
        self.found.push(Reach { at: at.clone(), message, key: None });
    }

    fn service(&mut self, spec: &Spec, service: &Service) {
        let what = format!("service `{}`", service.name);
        let mut words: Vec<(&'static str, String)> = Vec::new();
        if service.privileged {
            words.push(("privileged", "`privileged`, which is every right on the host".to_owned()));
        }
        if service.network_mode == Some(NetworkMode::Host) {
            words.push(("network_mode", "`network_mode: host`, the host's own network".to_owned()));
        }
        let modes = [
            ("pid", &service.pid),
            ("ipc", &service.ipc),
            ("uts", &service.uts),
            ("cgroup", &service.cgroup),
            ("userns_mode", &service.userns_mode),
        ];
        for (key, _) in modes.iter().filter(|(_, mode)| mode.as_deref() == Some("host")) {
            words.push((key, format!("`{key}: host`, a namespace of the host")));
        }
        for capability in &service.cap_add {
            let name = capability.to_ascii_uppercase();
            let name = name.strip_prefix("CAP_").unwrap_or(&name);
            if !HARMLESS.contains(&name) {
                words.push(("cap_add", format!("the capability `{capability}`")));
            }
        }
        words.extend(self.walls(service).into_iter().map(|word| ("security_opt", word)));
        if !service.device_cgroup_rules.is_empty() {
            words.push(("device_cgroup_rules", "`device_cgroup_rules`, devices of the host".to_owned()));
        }
        if service.cgroup_parent.is_some() {
            words.push(("cgroup_parent", "`cgroup_parent`, a control group of the host".to_owned()));
        }
        let reserved = service.deploy.as_ref().and_then(|deploy| deploy.reservations.as_ref());
        if !service.resources.gpus.is_empty() || reserved.is_some_and(|bounds| !bounds.devices.is_empty()) {
            words.push(("gpus", "devices such as GPUs of the host".to_owned()));
        }
        let mut hooks = service.pre_start.iter().chain(&service.post_start).chain(&service.pre_stop);
        if hooks.any(|hook| hook.privileged) {
            words.push(("post_start", "a privileged hook".to_owned()));
        }
        words.extend(ways_out::of_service(spec, service));
        for device in &service.devices {
            let message = format!("{what} asks for the device `{}` of the host", device.source);
            self.push(&device.at, message);
        }
        for (key, word) in words {
            let message = format!("{what} asks for {word}");
            let key = Some((service.name.to_string(), key));
            self.found.push(Reach { at: service.at.clone(), message, key });
        }
        for mount in &service.mounts {
            self.mount(&what, mount);
        }
        self.build(&what, service);
    }

    /// Security options that take away what stands between a container and the kernel.
    ///
    /// A profile of the user's own is theirs to write, but one that lets every call through is none.
    /// A foreign spec has no say in this at all: it may only ask for what is so without it.
    fn walls(&self, service: &Service) -> Vec<String> {
        let mut found = Vec::new();
        for option in &service.security_opt {
            let (key, value) =
                option.split_once('=').or_else(|| option.split_once(':')).unwrap_or((option, ""));
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
            let plain = value.to_ascii_lowercase();
            let is_kept = match key.as_str() {
                "no-new-privileges" => matches!(plain.as_str(), "" | "true" | "t" | "1"),
                "seccomp" => plain == "builtin",
                _ => false,
            };
            if is_kept {
                continue;
            }
            let is_taken = match key.as_str() {
                "no-new-privileges" => true,
                "seccomp" => plain == "unconfined" || lets_through(value, &self.folder),
                "label" => matches!(plain.as_str(), "disable" | "type:spc_t"),
                _ => plain.ends_with("unconfined"),
            };
            let shown: String = option.chars().take(SHOWN).collect();
            if is_taken {
                found.push(format!("`security_opt: {shown}`, which takes a wall away"));
            } else if self.origin == SpecOrigin::SnapshotFile {
                found.push(format!("`security_opt: {shown}`, and came out of a snapshot file"));
            }
        }
        found
    }

    fn mount(&mut self, what: &str, mount: &Mount) {
        let MountKind::Bind { source, .. } = &mount.kind else { return };
        let real = real(source);
        let name = real.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if matches!(name, "docker.sock" | "podman.sock" | "containerd.sock") {
            let message = format!(
                "{what} mounts the engine's socket `{}`, which is the whole machine",
                source.display()
            );
            self.push(&mount.at, message);
        } else if self.origin == SpecOrigin::SnapshotFile {
            let message = format!(
                "{what}, which came out of a snapshot file, mounts `{}` of this host",
                source.display()
            );
            self.push(&mount.at, message);
        } else if !real.starts_with(&self.root) {
            let message = format!(
                "{what} mounts `{}`, which is outside of `{}`",
                source.display(),
                self.root.display()
            );
            self.push(&mount.at, message);
        }
    }

    fn build(&mut self, what: &str, service: &Service) {
        let Some(build) = service.build() else { return };
        let asks = [
            (build.privileged, "a privileged build"),
            (build.network.as_deref() == Some("host"), "a build on the host's network"),
            (!build.entitlements.is_empty(), "entitlements for its build"),
        ];
        for (_, word) in asks.iter().filter(|(asked, _)| *asked) {
            self.push(&build.at, format!("{what} asks for {word}"));
        }
        if self.origin == SpecOrigin::SnapshotFile && !canonical::is_remote(&build.context) {
            let message =
                format!("{what}, which came out of a snapshot file, is built from `{}`", build.context);
            self.push(&build.at, message);
        }
    }

    /// Volumes that are folders or devices of the host; in a foreign spec, every file of the host.
    fn data(&mut self, spec: &Spec) {
        for (name, volume) in &spec.volumes {
            let kind = volume.driver_opts.get("type").map(String::as_str).unwrap_or_default();
            let bind = volume
                .driver_opts
                .get("o")
                .is_some_and(|o| o.split(',').any(|o| matches!(o, "bind" | "rbind")));
            if let Some(device) = volume.driver_opts.get("device")
                && kind != "tmpfs"
            {
                let inside = bind && real(Path::new(device)).starts_with(&self.root);
                if !inside || self.origin == SpecOrigin::SnapshotFile {
                    let message = format!(
                        "volume `{name}` is `{device}`, which is outside of `{}`",
                        self.root.display()
                    );
                    self.push(&volume.at, message);
                }
            }
        }
        if self.origin == SpecOrigin::Local {
            return;
        }
        let mut files: Vec<(&At, String, &Path)> = Vec::new();
        for (name, secret) in &spec.secrets {
            if let SecretSource::File(file) = &secret.source {
                files.push((&secret.at, format!("secret `{name}`"), file));
            }
        }
        for (name, config) in &spec.configs {
            if let ConfigSource::File(file) = &config.source {
                files.push((&config.at, format!("config `{name}`"), file));
            }
        }
        let seeds =
            spec.services.values().map(|service| (format!("service `{}`", service.name), &service.seed));
        let seeds =
            seeds.chain(spec.volumes.iter().map(|(name, volume)| (format!("volume `{name}`"), &volume.seed)));
        for (what, seeds) in seeds {
            for seed in seeds {
                match seed {
                    Seed::Copy { source, at, .. } => files.push((at, what.clone(), source)),
                    Seed::Sql { files: sql, at, .. } => {
                        files.extend(sql.iter().map(|file| (at, what.clone(), file.as_path())));
                    }
                    Seed::Exec { stdin: Some(file), at, .. }
                    | Seed::Snapshot { snapshot: SnapshotRef::File(file), at, .. } => {
                        files.push((at, what.clone(), file));
                    }
                    Seed::Exec { .. } | Seed::Snapshot { .. } => {}
                }
            }
        }
        for (at, what, file) in files {
            let message =
                format!("{what}, which came out of a snapshot file, reads `{}` of this host", file.display());
            self.found.push(Reach { at: at.clone(), message, key: None });
        }
    }
}

/// Whether a seccomp profile, itself or the path of one, denies no call at all. One that cannot be
/// read is told of when it is used.
fn lets_through(profile: &str, folder: &Path) -> bool {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Profile {
        default_action: String,
        #[serde(default)]
        syscalls: Vec<Rule>,
    }
    #[derive(serde::Deserialize)]
    struct Rule {
        action: String,
    }
    let allows = |action: &str| matches!(action, "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG");
    let read = if profile.starts_with('{') {
        serde_json::from_str::<Profile>(profile).ok()
    } else {
        let path = folder.join(profile);
        let is_small = path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= PROFILE);
        is_small
            .then(|| std::fs::read(path).ok())
            .flatten()
            .and_then(|text| serde_json::from_slice(&text).ok())
    };
    read.is_some_and(|profile| {
        allows(&profile.default_action) && profile.syscalls.iter().all(|rule| allows(&rule.action))
    })
}

/// A path with its links followed, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let path = canonical::clean(path);
    for ancestor in path.ancestors() {
        if let Ok(real) = ancestor.canonicalize() {
            // Joining nothing would add a slash.
            let rest = path.strip_prefix(ancestor).unwrap_or(Path::new(""));
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path
}
