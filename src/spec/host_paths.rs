//! Lists the files and folders of this machine that a spec names, with what names them.

use std::path::{Path, PathBuf};

use super::canonical;
use super::model::{At, Build, ConfigSource, Dockerfile, MountKind, SecretSource, Service, Spec};
use super::seed::Seed;

/// A file or folder that a part of the spec names.
pub(super) struct HostPath {
    /// Where the spec names it.
    pub at: At,
    /// The part of the spec.
    pub what: String,
    /// The path, absolute and without `..`.
    pub path: PathBuf,
}

impl HostPath {
    fn new(at: &At, what: impl Into<String>, path: &Path) -> Self {
        Self { at: at.clone(), what: what.into(), path: canonical::clean(path) }
    }
}

/// Files and folders whose content becomes a secret, a config or data.
pub(super) fn of_data(spec: &Spec) -> Vec<HostPath> {
    let mut found = Vec::new();
    for (name, secret) in &spec.secrets {
        if let SecretSource::File(file) = &secret.source {
            found.push(HostPath::new(&secret.at, format!("secret `{name}`"), file));
        }
    }
    for (name, config) in &spec.configs {
        if let ConfigSource::File(file) = &config.source {
            found.push(HostPath::new(&config.at, format!("config `{name}`"), file));
        }
    }
    let of_services = spec.services.values().map(|it| (format!("service `{}`", it.name), &it.seed));
    let of_volumes = spec.volumes.iter().map(|(name, it)| (format!("volume `{name}`"), &it.seed));
    for (of, seeds) in of_services.chain(of_volumes) {
        seeds.iter().for_each(|seed| add_seed(&mut found, &format!("a seed of {of}"), seed));
    }
    found
}

fn add_seed(found: &mut Vec<HostPath>, what: &str, seed: &Seed) {
    let seed = seed.kind();
    found.extend(seed.files().into_iter().map(|file| HostPath::new(seed.at(), what, file)));
}

/// Folders and files that builds read.
pub(super) fn of_builds(spec: &Spec) -> Vec<HostPath> {
    let mut found = Vec::new();
    for service in spec.services.values() {
        if let Some(build) = service.build() {
            add_build(&mut found, &format!("the build of service `{}`", service.name), build);
        }
    }
    found
}

fn add_build(found: &mut Vec<HostPath>, what: &str, build: &Build) {
    let contexts = std::iter::once(&build.context).chain(build.additional_contexts.values());
    let folders = contexts.map(Path::new).filter(|context| context.is_absolute());
    found.extend(folders.map(|folder| HostPath::new(&build.at, what, folder)));
    let context = Path::new(&build.context);
    if let Dockerfile::File(file) = &build.dockerfile
        && context.is_absolute()
    {
        found.push(HostPath::new(&build.at, what, &context.join(file)));
    }
}

/// Folders and files that are mounted, followed by `--watch`, or hold a security profile.
pub(super) fn of_services(spec: &Spec) -> Vec<HostPath> {
    spec.services.values().flat_map(|service| of_service(spec, service)).collect()
}

fn of_service(spec: &Spec, service: &Service) -> Vec<HostPath> {
    let what = format!("service `{}`", service.name);
    let binds = service.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Bind { source, .. } => Some(HostPath::new(&mount.at, &*what, source)),
        _ => None,
    });
    let watched = service.watch.iter().map(|rule| HostPath::new(&service.at, &*what, &rule.path));
    let profiles =
        service.settings.security_opt.iter().filter_map(|option| super::security_opt::profile_path(option));
    let profiles = profiles.map(|name| HostPath::new(&service.at, &*what, &spec.folder.join(name)));
    binds.chain(watched).chain(profiles).collect()
}
