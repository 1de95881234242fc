//! Checks a container's bind mounts for symbolic links just before it starts.
//!
//! The engine resolves the source of a bind at each start and follows every link in the path. A service that can write
//! to a folder in that path may have put a link there: with `.:/src` and `./data:/data`, the service can replace
//! `/src/data` with a link to `/`. So both the session and the keeper start services through this module, which rejects
//! a link in any component below a folder that a service can write to. The check asks the engine, through a container
//! that mounts the folder, since the files are on the engine's machine and may not be on ours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::engine::identity::{self, Role};
use crate::engine::{
    ContainerSummary, Engine, EngineError, ErrorKind, Filter, MountPoint, MountPointKind, ObjectKind, Result,
};

/// Starts a service's container. Fails if a service replaced part of a bind's source with a link.
///
/// # Errors
/// Fails if the engine fails, or with an error of kind [`ErrorKind::Invalid`] that names the link.
pub async fn start(engine: &dyn Engine, container: &str) -> Result<()> {
    check(engine, container).await?;
    engine.start_container(container).await
}

/// Checks the binds of a service's container as [`start`] does, without starting it.
///
/// # Errors
/// As [`start`].
pub async fn check(engine: &dyn Engine, container: &str) -> Result<()> {
    if let Some(planted) = find_link(engine, container).await? {
        return Err(EngineError::new(
            "start",
            ObjectKind::Container,
            container,
            ErrorKind::Invalid,
            planted.to_string(),
        ));
    }
    Ok(())
}

/// A symbolic link in the path of a bind's source.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Planted {
    source: String,
    link: PathBuf,
    writer: String,
}

impl std::fmt::Display for Planted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { source, link, writer } = self;
        write!(
            f,
            "it mounts `{source}`, and `{}` is a symbolic link, which service `{writer}` can have made: \
             it is not followed; remove the link, or mount what it points to",
            link.display()
        )
    }
}

async fn find_link(engine: &dyn Engine, container: &str) -> Result<Option<Planted>> {
    let is_bind = |mount: &&MountPoint| mount.kind == MountPointKind::Bind;
    let found = engine.containers(&Filter::all().name(container)).await?;
    let sources: BTreeSet<String> = found
        .iter()
        .filter(|one| one.name == container || one.id == container)
        .flat_map(|one| one.mounts.iter().filter(is_bind).map(|mount| mount.source.clone()))
        .collect();
    if sources.is_empty() {
        return Ok(None);
    }
    let services = engine.containers(&Filter::all().label(identity::ROLE, Role::Service.as_str())).await?;
    for source in sources {
        for (on_host, views) in views(&services, Path::new(&source)) {
            if let Some(writer) = planted_by(engine, &views).await? {
                return Ok(Some(Planted { source, link: on_host, writer }));
            }
        }
    }
    Ok(None)
}

/// Returns the service that may have made the link, if the path is one. All views show the same file. If one view fails
/// (a container whose own binds are broken cannot be inspected), another one is used.
async fn planted_by(engine: &dyn Engine, views: &[View]) -> Result<Option<String>> {
    let mut failed = None;
    for view in views {
        match engine.stat_path(&view.container, &view.inside).await {
            Ok(stat) => {
                let is_link = stat.is_some_and(|stat| stat.link_target.is_some());
                return Ok(is_link.then(|| view.service.clone()));
            }
            // The container was removed in the meantime, and can no longer change the folder.
            Err(error) if error.is_not_found() => {}
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(None), Err)
}

/// A path on the engine's machine as a service's container sees it.
#[derive(Debug, PartialEq, Eq)]
struct View {
    container: String,
    service: String,
    inside: String,
}

/// Every component of a source path that a service can replace, outermost first, with its path in each of those
/// services. Running services come first, since only their files are mounted already.
fn views(services: &[ContainerSummary], source: &Path) -> BTreeMap<PathBuf, Vec<View>> {
    let mut views: BTreeMap<PathBuf, Vec<View>> = BTreeMap::new();
    let (running, others): (Vec<_>, Vec<_>) =
        services.iter().partition(|container| container.state.is_alive());
    for container in running.into_iter().chain(others) {
        for mount in container.mounts.iter().filter(|it| it.kind == MountPointKind::Bind && !it.read_only) {
            let Ok(inner) = source.strip_prefix(&mount.source) else { continue };
            let (mut on_host, mut inside) = (PathBuf::from(&mount.source), PathBuf::from(&mount.target));
            for part in inner.components() {
                on_host.push(part);
                inside.push(part);
                if is_covered(container, mount, &inside) {
                    break;
                }
                views.entry(on_host.clone()).or_default().push(View {
                    container: container.id.clone(),
                    service: container.labels.get(identity::SERVICE).cloned().unwrap_or_default(),
                    inside: inside.display().to_string(),
                });
            }
        }
    }
    views
}

/// Whether another mount covers a path: the container then sees that mount, and cannot replace the files under it.
fn is_covered(container: &ContainerSummary, mount: &MountPoint, path: &Path) -> bool {
    container.mounts.iter().any(|other| {
        other.target != mount.target
            && Path::new(&other.target).starts_with(&mount.target)
            && path.starts_with(&other.target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ContainerState;

    fn bind(source: &str, target: &str, read_only: bool) -> MountPoint {
        MountPoint {
            kind: MountPointKind::Bind,
            name: String::new(),
            source: source.to_owned(),
            target: target.to_owned(),
            read_only,
        }
    }

    fn container(mounts: Vec<MountPoint>) -> ContainerSummary {
        ContainerSummary {
            id: "1".to_owned(),
            name: "sbx-shop.web".to_owned(),
            labels: [(identity::SERVICE.to_owned(), "web".to_owned())].into(),
            state: ContainerState::Running,
            status: String::new(),
            image: String::new(),
            image_id: String::new(),
            created: None,
            ports: Vec::new(),
            networks: std::collections::BTreeMap::new(),
            mounts,
        }
    }

    fn looked_at(mounts: Vec<MountPoint>, source: &str) -> Vec<String> {
        views(&[container(mounts)], Path::new(source))
            .into_values()
            .flatten()
            .map(|view| view.inside)
            .collect()
    }

    #[test]
    fn every_component_below_a_folder_that_a_service_can_write_is_looked_at() {
        let written = || vec![bind("/p", "/src", false)];
        assert_eq!(looked_at(written(), "/p/a/b"), ["/src/a", "/src/a/b"]);
        assert!(looked_at(written(), "/p").is_empty(), "the folder itself cannot be replaced from inside");
        assert!(looked_at(written(), "/papers/a").is_empty());
        assert!(looked_at(vec![bind("/p", "/src", true)], "/p/a").is_empty());
    }

    #[test]
    fn what_another_mount_covers_cannot_be_replaced() {
        let mounts = vec![bind("/p", "/src", false), bind("/p/a/b", "/src/a/b", false)];
        // Through the second mount the last component can still be replaced.
        assert_eq!(looked_at(mounts, "/p/a/b/c"), ["/src/a", "/src/a/b/c"]);
    }
}
