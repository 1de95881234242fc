//! Detects symbolic links that a service can have created. A path of the spec below a folder that one of its services
//! can write is not followed through links: code in the service could choose their targets.

use std::path::Path;

use super::canonical;
use super::model::{At, ConfigSource, MountKind, SecretSource, Spec};
use super::problem::{Problem, ProblemKind};
use super::seed::Seed;
use crate::host_files::WritableFolders;

/// The hint for such a link.
const WAY_OUT: &str = "name what the link points to, or let the service only read the folder";

impl Spec {
    /// The folders of this machine that the services can write.
    pub fn writable_folders(&self) -> WritableFolders {
        let mounts = self.services.values().flat_map(|service| &service.mounts);
        WritableFolders::new(mounts.filter(|mount| !mount.read_only).filter_map(|mount| match &mount.kind {
            MountKind::Bind { source, .. } => Some(canonical::clean(source)),
            _ => None,
        }))
    }
}

/// All paths of a spec that lead through such a link.
pub(super) fn links(spec: &Spec) -> Vec<(At, Problem)> {
    let writable = spec.writable_folders();
    let found = paths(spec).into_iter().filter_map(|(at, what, path)| {
        let link = writable.link_to(&canonical::clean(path))?;
        let message = format!(
            "{what} names `{}`, and `{}` is a symbolic link in `{}`, which a service can write",
            path.display(),
            link.link.display(),
            link.folder.display()
        );
        Some((at.clone(), Problem::new(ProblemKind::HostAccess, message).hint(WAY_OUT)))
    });
    found.collect()
}

/// The local paths that are mounted, read or sent.
fn paths(spec: &Spec) -> Vec<(&At, String, &Path)> {
    let mut paths: Vec<(&At, String, &Path)> = Vec::new();
    for service in spec.services.values() {
        let what = || format!("service `{}`", service.name);
        for mount in &service.mounts {
            if let MountKind::Bind { source, .. } = &mount.kind {
                paths.push((&mount.at, what(), source));
            }
        }
        if let Some(build) = service.build()
            && Path::new(&build.context).is_absolute()
        {
            paths.push((&build.at, format!("the build of {}", what()), Path::new(&build.context)));
        }
        service.seed.iter().for_each(|seed| add_seed(&mut paths, &what(), seed));
    }
    for (name, volume) in &spec.volumes {
        volume.seed.iter().for_each(|seed| add_seed(&mut paths, &format!("volume `{name}`"), seed));
    }
    for (name, secret) in &spec.secrets {
        if let SecretSource::File(file) = &secret.source {
            paths.push((&secret.at, format!("secret `{name}`"), file));
        }
    }
    for (name, config) in &spec.configs {
        if let ConfigSource::File(file) = &config.source {
            paths.push((&config.at, format!("config `{name}`"), file));
        }
    }
    paths
}

fn add_seed<'a>(paths: &mut Vec<(&'a At, String, &'a Path)>, what: &str, seed: &'a Seed) {
    let seed = seed.kind();
    paths.extend(seed.files().into_iter().map(|file| (seed.at(), format!("a seed of {what}"), file)));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::{HostAccess, LoadRequest, load};

    const SPEC: &str = r#"
services:
  web:
    image: x
    volumes: [".:/src"]
  db:
    image: x
    volumes: ["./data:/data"]
    secrets: [key]
secrets: { key: { file: ./inner/key } }
"#;

    #[test]
    fn a_link_below_what_a_service_can_write_is_not_followed_whatever_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::fs::write(dir.path().join("real/key"), "k").unwrap();
        symlink("real", dir.path().join("data")).unwrap();
        symlink("real", dir.path().join("inner")).unwrap();
        let read = |text: &str, access| {
            std::fs::write(dir.path().join("sandbox.yaml"), text).unwrap();
            let folder = dir.path().to_owned();
            load(&LoadRequest { folder, allow_host_access: access, ..LoadRequest::default() })
        };

        for access in [HostAccess::Refused, HostAccess::Allowed] {
            let problems = read(SPEC, access).unwrap_err();
            let told: Vec<String> = problems.into_iter().map(|problem| problem.message.clone()).collect();
            assert_eq!(told.len(), 2, "{told:?}");
            assert!(told.iter().any(|it| it.starts_with("service `db` names") && it.contains("data` is a symbolic link")), "{told:?}");
            assert!(told.iter().any(|it| it.starts_with("secret `key` names")), "{told:?}");
        }
        read(&SPEC.replace(".:/src", ".:/src:ro"), HostAccess::Refused).unwrap();
    }
}
