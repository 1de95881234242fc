//! The boundary of a spec that is not written by the user: a folder that neither its files nor its paths may leave.
//!
//! A spec of the user may read any file that the user can read, as secrets, seeds or build contexts. A program that
//! writes specs on its own, such as a coding agent, must not reach more of the machine than one folder.

use std::path::Path;

use super::canonical::leaves;
use super::diagnostics::Log;
use super::guard::local_cache;
use super::model::{Dockerfile, Spec};
use super::problem::{Problem, ProblemKind};
use super::request::Boundary;
use super::widening::{HostItem, host_items};

/// The problem of something outside of the boundary. It is not a form of host access that the user may allow.
pub(super) fn refused(what: &str, boundary: &Path) -> Problem {
    let message = format!("{what}, which is outside of `{}`", boundary.display());
    Problem::new(ProblemKind::HostAccess, message).hint("keep what the spec needs inside that folder")
}

/// Reports all that a spec names outside of the boundary.
pub(super) fn check(log: &Log, boundary: &Boundary, spec: &Spec) {
    let folder = &boundary.folder;
    for item in host_items(spec) {
        let outside = match item {
            HostItem::Path(_, path) | HostItem::Dockerfile(path) => leaves(folder, path),
            HostItem::Context(context) => {
                Path::new(context).is_absolute() && leaves(folder, Path::new(context))
            }
            HostItem::Cache(cache) => {
                local_cache(cache).is_some_and(|path| leaves(folder, &spec.folder.join(path)))
            }
            HostItem::SshKey(_) => true,
            HostItem::Snapshot(name) => !boundary.snapshots.contains(name),
            // The request's environment contains only what the spec may read.
            HostItem::Variable(_) => false,
        };
        if outside {
            log.push(refused(&format!("the spec names {item}"), folder));
        }
    }
    for service in spec.services.values() {
        if let Some(build) = service.build()
            && let Dockerfile::File(file) = &build.dockerfile
            && Path::new(&build.context).is_absolute()
            && leaves(folder, &Path::new(&build.context).join(file))
        {
            let what = format!("service `{}` is built by `{file}`", service.name);
            log.push(refused(&what, folder));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::{LoadRequest, Loaded, Problems, load};
    use super::*;

    /// A repository with the project in `inner`; `outer.env` lies beside it.
    fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".git")).unwrap();
        std::fs::create_dir(dir.path().join("inner")).unwrap();
        std::fs::write(dir.path().join("outer.env"), "not a variable: secret-text").unwrap();
        std::fs::write(dir.path().join("inner/Dockerfile"), "FROM x").unwrap();
        std::fs::write(dir.path().join("inner/seed.sql"), "select 1").unwrap();
        symlink("../outer.env", dir.path().join("inner/link")).unwrap();
        dir
    }

    fn read(dir: &Path, more: &str) -> Result<Loaded, Problems> {
        let folder = dir.canonicalize().unwrap().join("inner");
        std::fs::write(folder.join("sandbox.yaml"), format!("{{ services: {{ a: {{ image: x{more}")).unwrap();
        let boundary =
            Boundary { folder: folder.clone(), snapshots: std::iter::once("shared".to_owned()).collect() };
        load(&LoadRequest { folder, boundary: Some(boundary), ..LoadRequest::default() })
    }

    #[test]
    fn nothing_outside_of_the_boundary_is_named_or_read() {
        let dir = repository();
        for more in [
            ", volumes: ['..:/src'] } } }",
            ", volumes: ['./link:/src'] } } }",
            ", env_file: ../outer.env } } }",
            ", env_file: ./link } } }",
            ", build: { context: .. } } } }",
            ", build: { context: ., dockerfile: ../outer.env } } } }",
            ", build: { context: ., additional_contexts: { o: .. } } } } }",
            ", build: { context: ., ssh: [default] } } } }",
            ", secrets: [s] } }, secrets: { s: { file: ../outer.env } } }",
            ", configs: [s] } }, configs: { s: { file: ./link } } }",
            ", seed: [{ sql: ../outer.env }], volumes: ['d:/d'] } }, volumes: { d: {} } }",
            ", volumes: ['d:/d'] } }, volumes: { d: { seed: [{ snapshot: private }] } } }",
            ", extends: { file: ../outer.env, service: b } } } }",
            " } }, include: [../outer.env] }",
        ] {
            let problems = read(dir.path(), more).unwrap_err().to_string();
            assert!(problems.contains("outside of"), "{more}: {problems}");
            assert!(!problems.contains("secret-text"), "{more}: {problems}");
        }
    }

    #[test]
    fn what_is_inside_is_free() {
        let dir = repository();
        for more in [
            ", volumes: ['.:/src'] } } }",
            ", build: { context: . } } } }",
            ", secrets: [s] } }, secrets: { s: { file: ./seed.sql } } }",
            ", volumes: ['d:/d'] } }, volumes: { d: { seed: [{ snapshot: shared }] } } }",
        ] {
            if let Err(problems) = read(dir.path(), more) {
                panic!("{more}: {problems}");
            }
        }
    }
}
