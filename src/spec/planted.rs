//! Detects symbolic links that a service can have created. A path of the spec below a folder that one of its services
//! can write is not followed through links: code in the service could choose their targets.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::canonical;
use super::host_paths;
use super::model::{At, MountKind, Spec};
use super::problem::{Problem, ProblemKind};
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
    let paths = host_paths::of_services(spec).into_iter();
    let paths = paths.chain(host_paths::of_builds(spec)).chain(host_paths::of_data(spec));
    let found = paths.filter_map(|named| {
        let message = through_link(&writable, &named.what, &named.path)?;
        Some((named.at, Problem::new(ProblemKind::HostAccess, message).hint(WAY_OUT)))
    });
    found.collect()
}

fn through_link(writable: &WritableFolders, what: &str, path: &Path) -> Option<String> {
    let planted = writable.link_to(path)?;
    Some(format!(
        "{what} names `{}`, and `{}` is a symbolic link in `{}`, which a service can write",
        path.display(),
        planted.link.display(),
        planted.folder.display()
    ))
}

/// Files that the spec was read from (`env_file`, `include`, …) through such a link. Which folders services can write is
/// known only after the spec was read, so each file is read once more, without following links: the same text means
/// that no link was in the way at the first time either. `chosen` are the files that the user named.
pub(super) fn sources(spec: &Spec, read: &[(PathBuf, Arc<str>)], chosen: &BTreeSet<PathBuf>) -> Vec<Problem> {
    let writable = spec.writable_folders();
    let mut found = Vec::new();
    for (path, text) in read.iter().filter(|(path, _)| !chosen.contains(path)) {
        if let Some(message) = through_link(&writable, "the spec", path) {
            found.push(Problem::new(ProblemKind::HostAccess, message).hint(WAY_OUT));
        } else if writable.holds(path) && !reads_as(&writable, path, text) {
            let message = format!("`{}` was changed while the spec was read", path.display());
            found.push(Problem::new(ProblemKind::HostAccess, message).hint("run the command again"));
        }
    }
    found
}

fn reads_as(writable: &WritableFolders, path: &Path, text: &str) -> bool {
    let mut again = Vec::new();
    let file = writable.open(path).map(|file| file.take(text.len() as u64 + 1));
    file.is_ok_and(|mut file| file.read_to_end(&mut again).is_ok()) && again == text.as_bytes()
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

    #[test]
    fn what_the_spec_is_read_from_is_not_read_through_such_a_link_either() {
        let dir = tempfile::tempdir().unwrap();
        let path = |inner: &str| dir.path().join(inner);
        std::fs::create_dir(path("elsewhere")).unwrap();
        std::fs::create_dir(path("project")).unwrap();
        std::fs::write(path("elsewhere/file"), "A=1").unwrap();
        std::fs::write(path("elsewhere/profile"), r#"{"defaultAction":"SCMP_ACT_ERRNO"}"#).unwrap();
        std::fs::write(path("elsewhere/spec.yaml"), "services: { b: { image: x } }").unwrap();
        symlink("../elsewhere", path("project/door")).unwrap();
        let read = |more: &str, rest: &str, mode: &str| {
            let text =
                format!("services: {{ a: {{ image: x, volumes: ['.:/src{mode}'], {more} }} }}\n{rest}");
            std::fs::write(path("project/sandbox.yaml"), text).unwrap();
            let allow_host_access = HostAccess::Allowed;
            load(&LoadRequest { folder: path("project"), allow_host_access, ..LoadRequest::default() })
        };
        for (more, rest) in [
            ("env_file: door/file", ""),
            ("env_file: [{ path: door/file, format: raw }]", ""),
            ("label_file: door/file", ""),
            ("security_opt: ['seccomp=door/profile']", ""),
            ("develop: { watch: [{ path: door, action: sync, target: /x }] }", ""),
            ("extends: { file: door/spec.yaml, service: b }", ""),
            ("command: x", "include: [door/spec.yaml]"),
        ] {
            let said = read(more, rest, "").expect_err(more).to_string();
            assert!(said.contains("door` is a symbolic link"), "{more}: {said}");
            read(more, rest, ":ro").unwrap_or_else(|problems| panic!("{more}: {problems}"));
        }

        symlink("../elsewhere/file", path("project/.env")).unwrap();
        let said = read("command: x", "", "").unwrap_err().to_string();
        assert!(said.contains(".env` is a symbolic link"), "{said}");
    }

    #[test]
    fn a_seccomp_profile_is_used_as_it_was_checked() {
        let dir = tempfile::tempdir().unwrap();
        let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO"}"#;
        std::fs::write(dir.path().join("own.json"), profile).unwrap();
        let text = "services: { a: { image: x, volumes: ['.:/src'], security_opt: ['seccomp:own.json'] } }";
        std::fs::write(dir.path().join("sandbox.yaml"), text).unwrap();

        let loaded = load(&LoadRequest { folder: dir.path().to_owned(), ..LoadRequest::default() }).unwrap();

        assert_eq!(loaded.spec.services["a"].settings.security_opt, [format!("seccomp={profile}")]);
    }
}
