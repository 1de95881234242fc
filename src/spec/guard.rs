//! The host-access guard: finds everything in a spec that gives a sandbox access to the host.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::canonical::real;
use super::capabilities::is_harmless;
use super::find;
use super::hints;
use super::host_access::HostAccessPath;
use super::host_paths::{self, HostPath};
use super::model::{
    At, ConfigSource, Mount, MountKind, NetworkMode, SecretSource, Service, Spec, SpecOrigin,
};
use super::planted;
use super::problem::{Problem, ProblemKind, Problems};
use super::request::HostAccess;
use super::security_opt;

/// Runtimes that isolate at least as well as the engine's default.
const RUNTIMES: [&str; 6] = ["runc", "crun", "io.containerd.runc.v2", "runsc", "kata", "kata-runtime"];

/// The hint that tells how to allow host access.
pub(super) const WAY_OUT: &str = "if you trust this spec with your machine, add `--allow-host-access`";

/// Checks that a spec, whatever its origin, does not access the host, unless that is allowed.
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

/// All forms of host access in a spec.
pub(super) fn reaches(spec: &Spec) -> Vec<HostAccessPath> {
    let folder = spec.folder.clone();
    let mut guard = Guard { root: root(spec), folder, origin: spec.origin, found: Vec::new() };
    for service in spec.services.values() {
        guard.service(spec, service);
    }
    guard.data(spec);
    guard.found.extend(hints::of_networks(spec));
    guard.found
}

struct Guard {
    /// The git root of the spec's folder, or the folder itself: paths below it are allowed.
    root: PathBuf,
    /// The base folder of its relative paths.
    folder: PathBuf,
    origin: SpecOrigin,
    found: Vec<HostAccessPath>,
}

impl Guard {
    fn push(&mut self, at: &At, message: String) {
        self.found.push(HostAccessPath { at: at.clone(), message, key: None });
    }

    fn service(&mut self, spec: &Spec, service: &Service) {
        let what = format!("service `{}`", service.name);
        let mut words: Vec<(&'static str, String)> = Vec::new();
        if service.settings.privileged {
            words.push(("privileged", "`privileged`, which is every right on the host".to_owned()));
        }
        if service.network_mode == Some(NetworkMode::Host) {
            words.push(("network_mode", "`network_mode: host`, the host's own network".to_owned()));
        }
        words.extend(namespaces(service));
        if let Some(runtime) = service.settings.runtime.as_deref().filter(|name| !RUNTIMES.contains(name)) {
            words.push(("runtime", format!("the runtime `{runtime}`, a program of the host")));
        }
        for capability in &service.settings.cap_add {
            if !is_harmless(capability) {
                words.push(("cap_add", format!("the capability `{capability}`")));
            }
        }
        let options =
            security_opt::weakening(&service.settings.security_opt, &self.folder, self.is_foreign());
        words.extend(options.into_iter().map(|word| ("security_opt", word)));
        if !service.settings.device_cgroup_rules.is_empty() {
            words.push(("device_cgroup_rules", "`device_cgroup_rules`, devices of the host".to_owned()));
        }
        if service.settings.cgroup_parent.is_some() {
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
        words.extend(hints::of_service(spec, service));
        for device in &service.devices {
            let message = format!("{what} asks for the device `{}` of the host", device.source);
            self.push(&device.at, message);
        }
        for (key, word) in words {
            let message = format!("{what} asks for {word}");
            let key = Some((service.name.to_string(), key));
            self.found.push(HostAccessPath { at: service.at.clone(), message, key });
        }
        for mount in &service.mounts {
            self.mount(&what, mount);
        }
        for rule in &service.watch {
            self.watched(&what, &service.at, &rule.path);
            if rule.exec.as_ref().is_some_and(|hook| hook.privileged) {
                self.push(&service.at, format!("{what} asks for a privileged command after a change"));
            }
        }
        self.build(&what, service);
    }

    /// Checks a path that `--watch` copies into a service: it must be in the spec's repository.
    fn watched(&mut self, what: &str, at: &At, path: &Path) {
        let asked = if self.is_without_files() {
            format!("{what}, which came out of a snapshot file, watches `{}` of this host", path.display())
        } else if !real(path).starts_with(&self.root) {
            format!("{what} watches `{}`, which is outside of `{}`", path.display(), self.root.display())
        } else {
            return;
        };
        self.push(at, asked);
    }

    fn is_foreign(&self) -> bool {
        self.origin != SpecOrigin::Local
    }

    /// Whether the spec came without files, so that all paths in it are those of this machine.
    fn is_without_files(&self) -> bool {
        self.origin == SpecOrigin::SnapshotFile
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
        } else if self.is_without_files() {
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
            (build.privileged, "a privileged build".to_owned()),
            (!build.entitlements.is_empty(), "entitlements for its build".to_owned()),
            (
                build.extra_hosts.values().flatten().any(|address| address == "host-gateway"),
                "a build that is told where the engine's machine is (`host-gateway`)".to_owned(),
            ),
        ];
        let network = build.network.as_deref().unwrap_or("default");
        let network = match network {
            "host" => Some("a build on the host's network".to_owned()),
            // `build_check` rejects all other networks.
            _ => None,
        };
        let asks = asks.into_iter().filter_map(|(asked, word)| asked.then_some(word)).chain(network);
        for word in asks.collect::<Vec<_>>() {
            self.push(&build.at, format!("{what} asks for {word}"));
        }
        for path in build.cache_to.iter().chain(&build.cache_from).filter_map(|cache| local_cache(cache)) {
            let path = self.folder.join(path);
            if self.is_without_files() || !real(&path).starts_with(&self.root) {
                let message = format!(
                    "{what} keeps layers in `{}`, which is outside of `{}`",
                    path.display(),
                    self.root.display()
                );
                self.push(&build.at, message);
            }
        }
        if self.is_without_files() {
            let from = build.additional_contexts.values().filter(|context| !context.starts_with("service:"));
            for context in std::iter::once(&build.context).chain(from) {
                let message = format!("{what}, which came out of a snapshot file, is built from `{context}`");
                self.push(&build.at, message);
            }
        }
        if self.is_foreign() {
            let came = self.origin.came();
            for id in build.ssh.keys() {
                let message = format!("{what}, which {came}, asks for the SSH agent or key `{id}`");
                self.push(&build.at, message);
            }
        }
    }

    /// Finds stored data that a foreign spec names: it belongs to someone else.
    fn stored(&mut self, spec: &Spec) {
        for seed in spec.volumes.values().flat_map(|volume| &volume.seed) {
            if let Some(name) = seed.kind().stored_snapshot() {
                let came = self.origin.came();
                let message = format!("the spec, which {came}, takes data of the snapshot `{name}`");
                self.push(seed.kind().at(), message);
            }
        }
    }

    /// Finds the user's variables that a foreign spec reads.
    fn variables(&mut self, spec: &Spec) {
        let secrets = spec.secrets.iter().filter_map(|(name, secret)| match &secret.source {
            SecretSource::Environment(variable) => Some((&secret.at, format!("secret `{name}`"), variable)),
            _ => None,
        });
        let configs = spec.configs.iter().filter_map(|(name, config)| match &config.source {
            ConfigSource::Environment(variable) => Some((&config.at, format!("config `{name}`"), variable)),
            _ => None,
        });
        for (at, what, variable) in secrets.chain(configs).collect::<Vec<_>>() {
            let came = self.origin.came();
            let message =
                format!("{what}, which {came}, reads the variable `{variable}` of your environment");
            self.push(at, message);
        }
    }

    /// Finds volumes that are folders or devices of the host, and data that come from files of the host.
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
                if !inside || self.is_without_files() {
                    let message = format!(
                        "volume `{name}` is `{device}`, which is outside of `{}`",
                        self.root.display()
                    );
                    self.push(&volume.at, message);
                }
            }
        }
        self.contents(spec);
        if self.is_foreign() {
            self.stored(spec);
            self.variables(spec);
        }
    }

    /// Finds files and folders outside of the repository whose content would get into the sandbox, and from a foreign
    /// spec any. (What a foreign spec builds from is found with its other builds.)
    fn contents(&mut self, spec: &Spec) {
        let root = self.root.clone();
        let is_outside = |named: &HostPath| !real(&named.path).starts_with(&root);
        let data = host_paths::of_data(spec).into_iter();
        if self.is_without_files() {
            for HostPath { at, what, path } in data {
                let path = path.display();
                self.push(
                    &at,
                    format!("{what}, which came out of a snapshot file, reads `{path}` of this host"),
                );
            }
            return;
        }
        for HostPath { at, what, path } in data.chain(host_paths::of_builds(spec)).filter(is_outside) {
            let (path, root) = (path.display(), root.display());
            self.push(&at, format!("{what} reads `{path}`, which is outside of `{root}`"));
        }
    }
}

/// Files of variables and labels outside of the repository, of which the spec would hold the values.
pub(super) fn outside(spec: &Spec, read: &[(PathBuf, Arc<str>)], chosen: &BTreeSet<PathBuf>) -> Vec<String> {
    let root = root(spec);
    let outside = read.iter().map(|(path, _)| path).filter(|path| !chosen.contains(*path));
    let outside: BTreeSet<&PathBuf> = outside.filter(|path| !real(path).starts_with(&root)).collect();
    let message = |path: &PathBuf| {
        format!("the spec reads `{}`, which is outside of `{}`", path.display(), root.display())
    };
    outside.into_iter().map(message).collect()
}

/// The folder whose files a spec may use: the repository that it is in, or its own folder.
fn root(spec: &Spec) -> PathBuf {
    real(&find::git_root(&spec.folder).unwrap_or_else(|| spec.folder.clone()))
}

/// Finds namespaces that are neither the service's own nor another service's.
fn namespaces(service: &Service) -> Vec<(&'static str, String)> {
    let modes: [(&'static str, &Option<String>, &[&str]); 5] = [
        ("pid", &service.pid, &["private"]),
        ("ipc", &service.ipc, &["private", "shareable", "none"]),
        ("uts", &service.settings.uts, &["private"]),
        ("cgroup", &service.cgroup, &["private"]),
        ("userns_mode", &service.settings.userns_mode, &["private", "auto", "keep-id", "nomap"]),
    ];
    let foreign = modes.into_iter().filter_map(|(key, mode, own)| {
        let mode = mode.as_deref().filter(|mode| !mode.is_empty())?;
        // Podman's modes may have options: `keep-id:uid=0`.
        let word = mode.split(':').next().unwrap_or(mode);
        (!own.contains(&word) && word != "service").then_some((key, mode))
    });
    foreign
        .map(|(key, mode)| match mode {
            "host" => (key, format!("`{key}: host`, a namespace of the host")),
            _ => (key, format!("`{key}: {mode}`, a namespace that is not the sandbox's")),
        })
        .collect()
}

/// The folder of a layer cache on the host: `type=local,dest=PATH`.
pub(super) fn local_cache(cache: &str) -> Option<&str> {
    let fields = || cache.split(',').filter_map(|field| field.trim().split_once('='));
    let is_local = fields().any(|(key, value)| key.eq_ignore_ascii_case("type") && value == "local");
    is_local.then(|| {
        let path = fields().find(|(key, _)| matches!(key.to_ascii_lowercase().as_str(), "dest" | "src"));
        path.map_or("/", |(_, path)| path)
    })
}
