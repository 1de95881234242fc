//! Describes the containers that a [`Starter`] creates: the keeper, and the storage server of a keeper that is a
//! process.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{SOCKET, Starter, VOLUME};
use crate::agent::cgroup;
use crate::agent::client::{KeeperError, Limiting};
use crate::agent::protocol::Build;
use crate::engine::identity::{self, Role};
use crate::engine::{CreateContainer, CreateVolume, EngineInfo, Mount, NetworkMode, RestartPolicy, Volume};

/// The path of the engine's socket in the keeper's container.
pub const ENGINE_SOCKET: &str = "/var/run/docker.sock";

/// The role of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent::client) enum ContainerRole {
    /// The keeper, storage included.
    Keeper,
    /// The storage server of a keeper that runs as a process.
    StorageServer,
}

/// Whether a container gets the privileges that a pool needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Powers {
    Pool,
    None,
}

/// What a container of ours is created from.
pub(super) struct ContainerSpec<'a> {
    pub info: &'a EngineInfo,
    pub build: &'a Build,
    pub image: &'a str,
    pub volume: &'a Volume,
    pub powers: Powers,
    /// The cgroup driver of the engine whose tree is mounted; or why it is not mounted.
    pub groups: &'a Result<cgroup::Driver, String>,
}

impl Starter {
    pub(super) fn name(&self) -> String {
        match self.post {
            ContainerRole::Keeper => self.options.scope.keeper(),
            ContainerRole::StorageServer => self.options.scope.storage_server(),
        }
    }

    /// Returns the keeper's volume; creates it if it is missing.
    pub(super) async fn volume(&self) -> Result<Volume, KeeperError> {
        let volume = CreateVolume {
            name: self.options.scope.pool(),
            labels: self.labels(Role::Pool),
            ..CreateVolume::default()
        };
        self.engine.create_volume(&volume).await.map_err(KeeperError::engine("make the keeper's volume"))
    }

    fn labels(&self, role: Role) -> BTreeMap<String, String> {
        let mut labels = [(identity::ROLE.to_owned(), role.as_str().to_owned())].into();
        self.options.scope.mark(&mut labels);
        labels
    }

    /// Describes the container, with the engine's socket if it is at this path on the engine's machine.
    pub(super) fn description(&self, made_of: &ContainerSpec<'_>, socket: Option<String>) -> CreateContainer {
        let ContainerSpec { info, build, image, volume, powers, groups } = *made_of;
        let (command, role) = match self.post {
            ContainerRole::Keeper => ("keeper", Role::Keeper),
            ContainerRole::StorageServer => ("storage-server", Role::Pool),
        };
        let mut container = CreateContainer::new(self.name(), image);
        let mut cmd = vec!["agent".to_owned(), command.to_owned()];
        cmd.extend(self.arguments(build, SOCKET, VOLUME, Some(&volume.mountpoint)));
        if self.post == ContainerRole::Keeper {
            cmd.push(format!("--patience={}", self.sockets.patience().as_millis()));
        }
        cmd.push(match groups {
            Ok(driver) => format!("--groups={driver}"),
            Err(why) => format!("--no-groups={why}"),
        });
        container.cmd = Some(cmd);
        container.labels = self.labels(role);
        container.env = [(identity::Scope::VARIABLE.to_owned(), Some(self.options.scope.to_string()))].into();
        container.network_mode = NetworkMode::None;
        match self.post {
            ContainerRole::Keeper => container.restart = RestartPolicy::Always,
            // It has no access to the engine, so it cannot remove itself when its keeper is gone.
            ContainerRole::StorageServer => container.auto_remove = true,
        }
        container.settings.stop_grace_period = Some(Duration::from_secs(5));
        container.mounts = socket.map(|socket| Mount::bind(socket, ENGINE_SOCKET)).into_iter().collect();
        container.mounts.push(Mount::volume(&volume.name, VOLUME));
        if groups.is_ok() {
            container.mounts.push(Mount::bind(cgroup::HOST_TREE, cgroup::TREE));
        }
        if *groups == Ok(cgroup::Driver::Systemd) {
            container.mounts.push(Mount::bind(cgroup::BUS, cgroup::BUS));
        }
        container.tmpfs = [("/run".to_owned(), "size=64k,mode=700".to_owned())].into();
        container.settings.read_only = true;
        container.settings.security_opt = vec!["no-new-privileges:true".to_owned()];
        if info.security.userns {
            // The root user of another user namespace may not use the engine's socket, mount, or make control groups.
            container.settings.userns_mode = Some("host".to_owned());
        }
        if info.security.selinux {
            // SELinux denies confined containers access to the engine's socket.
            container.settings.security_opt.push("label=disable".to_owned());
        }
        if powers == Powers::Pool {
            // `LINUX_IMMUTABLE` is needed to delete files that a service has made immutable.
            let added = ["SYS_ADMIN", "MKNOD", "LINUX_IMMUTABLE"];
            container.settings.cap_add = added.map(str::to_owned).to_vec();
            container.settings.device_cgroup_rules = vec!["b 7:* rwm".to_owned(), "c 10:237 rwm".to_owned()];
        }
        let asks_systemd = *groups == Ok(cgroup::Driver::Systemd);
        if info.security.apparmor && (powers == Powers::Pool || asks_systemd) {
            // The default profile denies every mount, whatever the capabilities, and every D-Bus message.
            container.settings.security_opt.push("apparmor=unconfined".to_owned());
        }
        container
    }

    /// Returns the engine's cgroup driver, if the container is to get the cgroup tree.
    pub(super) fn groups(&self, info: &EngineInfo) -> Result<cgroup::Driver, String> {
        match self.options.limiting {
            Limiting::Shared => cgroup::driver_of(info),
            Limiting::Divided => Err("the keeper was started with SANDBOX_LIMITS=divided".to_owned()),
        }
    }

    /// Returns the command-line arguments of a keeper or a storage server.
    pub(super) fn arguments(
        &self,
        build: &Build,
        socket: &str,
        volume: &str,
        host_root: Option<&str>,
    ) -> Vec<String> {
        let mut arguments = vec![
            format!("--build={}", serde_json::to_string(build).unwrap_or_default()),
            format!("--socket={socket}"),
            format!("--volume={volume}"),
            format!("--linger={}", self.options.linger.as_millis()),
        ];
        arguments.extend(host_root.map(|it| format!("--host-root={it}")));
        arguments.extend(self.options.storage.map(|it| format!("--storage={it}")));
        arguments.extend(self.options.budget.map(|it| format!("--budget={it}")));
        arguments
    }
}
