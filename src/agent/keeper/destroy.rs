//! Destroys a sandbox: collects its logs and artifacts, removes its objects from the engine until none is found, and
//! then deletes its stored data.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use tokio::time::timeout;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::state::Gather;
use super::store::Store;
use crate::agent::cgroup::Groups;
use crate::agent::protocol::Destroyed;
use crate::data::snapshot;
use crate::engine::identity::{self, Role, SandboxId, SandboxName, Scope};
use crate::engine::{ContainerSummary, Engine, Filter, LogOptions, Tail, join_bounded};
use crate::host_files::{self, Folder, Links, Unpack};
use crate::spec::Artifact;
use crate::storage::{SetPath, Storage};
use crate::sweep::{self, Aftermath, Patience, StopMode, Target};

/// How long collecting logs may take: the sandbox should be gone soon.
const LOGS: Duration = Duration::from_secs(3);
/// How long collecting declared artifacts may take.
const ARTIFACTS: Duration = Duration::from_mins(1);
/// How many lines of each service's log are kept.
const LOG_LINES: u64 = 20_000;

/// The dependencies of a destruction.
#[derive(Clone)]
pub struct Destroyer {
    pub engine: Arc<dyn Engine>,
    /// The scope of our objects.
    pub scope: Scope,
    /// Where logs and artifacts are stored.
    pub store: Store,
    /// The storage with the sandbox's data, if the keeper is to delete it.
    pub storage: Option<Arc<dyn Storage>>,
    /// The control group operations, if the keeper has any.
    pub groups: Option<Arc<dyn Groups>>,
}

impl Destroyer {
    /// Destroys everything of one instance. Tries every step, even if an earlier one fails.
    pub async fn destroy(&self, name: &SandboxName, sandbox: &SandboxId, gather: Gather) -> Destroyed {
        if gather == Gather::Yes {
            self.gather(name, sandbox).await;
        }
        let target = Target::id(&self.scope, sandbox);
        let data = Data { storage: self.storage.as_deref(), groups: self.groups.as_deref(), name };
        let swept = sweep::destroy(&*self.engine, &target, StopMode::Kill, &Patience::default(), &data).await;
        Destroyed::from(&swept)
    }

    /// Collects logs and declared artifacts into the keeper's volume, as far as time allows.
    async fn gather(&self, name: &SandboxName, sandbox: &SandboxId) {
        let filter = self.scope.narrow(
            Filter::all().label(identity::ID, sandbox.as_str()).label(identity::ROLE, Role::Service.as_str()),
        );
        let Ok(containers) = self.engine.containers(&filter).await else { return };
        if containers.is_empty() {
            return;
        }
        // Kills the containers first: a service without a lease must not keep working while its logs are read.
        join_bounded(containers.iter().filter(|it| it.state.is_alive()).map(|it| self.kill(&it.id))).await;
        let folder = self.store.left_folder(sandbox);
        let _ = std::fs::remove_dir_all(&folder);
        if std::fs::create_dir_all(folder.join("logs")).is_err() {
            return;
        }
        let logs = join_bounded(containers.iter().map(|it| self.log(it, folder.join("logs"))));
        if timeout(LOGS, logs).await.is_err() {
            tracing::warn!(%name, "its logs could not all be kept in time");
        }
        let artifacts = self.artifacts(&containers, sandbox, &folder);
        if timeout(ARTIFACTS, artifacts).await.is_err() {
            tracing::warn!(%name, "its artifacts could not all be kept in time");
        }
        if let Err(error) = self.store.name_left(name, sandbox, Timestamp::now()) {
            tracing::warn!(%name, %error, "cannot keep its logs");
        }
    }

    async fn kill(&self, id: &str) {
        // A container that exited meanwhile cannot be killed and does not need to be.
        let _ = self.engine.kill_container(id, "SIGKILL").await;
    }

    async fn log(&self, container: &ContainerSummary, folder: PathBuf) {
        let options = LogOptions { tail: Tail::Lines(LOG_LINES), timestamps: true, ..LogOptions::default() };
        let Ok(mut stream) = self.engine.logs(&container.id, &options).await else { return };
        let path = folder.join(format!("{}.log", place(container)));
        let Ok(mut file) = std::fs::File::create(path) else { return };
        while let Some(Ok(chunk)) = stream.next().await {
            if file.write_all(&chunk.bytes).is_err() {
                return;
            }
        }
    }

    /// Copies the `artifacts` of the current spec.
    async fn artifacts(&self, containers: &[ContainerSummary], sandbox: &SandboxId, folder: &Path) {
        let Some(declared) = self.store.declared(sandbox) else { return };
        for Artifact { service, path, .. } in declared.spec.artifacts {
            let of_service = |it: &&ContainerSummary| {
                it.labels.get(identity::SERVICE).is_some_and(|of| of == service.as_str())
            };
            for container in containers.iter().filter(of_service) {
                let Ok(stream) = self.engine.download(&container.id, &path).await else { continue };
                let reader = SyncIoBridge::new(StreamReader::new(stream.map_err(std::io::Error::other)));
                let into = folder.join("artifacts").join(place(container));
                let how = Unpack::plain(0, Links::LeftOut);
                let unpacked = tokio::task::spawn_blocking(move || {
                    host_files::unpack(reader, &Folder::make(&into)?, &how)
                })
                .await;
                if let Ok(Err(error)) = unpacked {
                    tracing::warn!(%service, path, %error, "cannot keep the artifact");
                }
            }
        }
    }
}

/// The stored data of a sandbox, which is deleted once the engine has no object of it.
struct Data<'a> {
    storage: Option<&'a dyn Storage>,
    groups: Option<&'a dyn Groups>,
    name: &'a SandboxName,
}

#[async_trait]
impl Aftermath for Data<'_> {
    async fn sandbox_gone(&self, id: &str) -> Result<(), String> {
        let mut left = Vec::new();
        if let (Some(groups), Ok(sandbox)) = (self.groups, id.parse())
            && let Err(error) = groups.remove(&sandbox).await
        {
            left.push(format!("control group of `{}`: {error}", self.name));
        }
        if let (Some(storage), Ok(set)) = (self.storage, SetPath::live(id))
            && let Err(error) = storage.delete_set(&set).await
        {
            left.push(format!("data of `{}`: {error}", self.name));
        }
        if let Some(storage) = self.storage
            && let Err(error) = snapshot::delete_owned(storage, |owner| owner.as_str() == id).await
        {
            left.push(format!("snapshots of `{}`: {error}", self.name));
        }
        if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
    }
}

/// Returns a service's name, with the replica's number unless it is the first.
fn place(container: &ContainerSummary) -> String {
    let service = container.labels.get(identity::SERVICE).map_or(container.name.as_str(), String::as_str);
    let replica = container.labels.get(identity::REPLICA).and_then(|number| number.parse().ok());
    identity::replica_name(service, replica.unwrap_or(1))
}
