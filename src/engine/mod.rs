//! The only room that knows the container engine's API.
//!
//! [`Engine`] lists the few calls that we need, in our own words; `docker` performs them on a Docker (or Podman)
//! engine and `recording` on a model in memory that can fail or stall at any call. [`identity`] says how our
//! objects are labelled and named. This room decides nothing: no retries beyond transport, no policy.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use jiff::Timestamp;

pub mod container;
pub mod create;
pub mod docker;
pub mod dockerfile;
pub mod error;
pub mod filter;
pub mod identity;
pub mod ignore;
pub mod image;
pub mod info;
pub mod network;
pub mod recording;
pub mod stream;
pub mod volume;

pub use container::{
    Container, ContainerState, ContainerSummary, Endpoint, Health, HealthProbe, HealthStatus, MountPoint,
    MountPointKind,
};
pub use create::{
    Attachment, BlkioLimit, CreateContainer, Device, DeviceRequest, HealthTest, Healthcheck, Logging, Mount,
    MountKind, NetworkMode, Port, Protocol, PublishedPort, Resources, RestartPolicy, SelinuxLabel, Ulimit,
};
pub use error::{EngineError, ErrorKind, ObjectKind, Result};
pub use filter::Filter;
pub use image::{
    BuildContext, BuildImage, BuildProgress, BuildSecret, Dockerfile, Image, ImageConfig, ImportImage,
    NamedContext, PullImage, PullPhase, PullProgress, SecretSource,
};
pub use info::{ApiVersion, CgroupVersion, EngineInfo, EngineKind, Location, SecurityOptions, architecture};
pub use network::{CreateNetwork, Network};
pub use stream::{
    Attached, EngineEvent, Exec, ExecSession, LogChunk, LogOptions, PathStat, Stats, StdStream, Tail,
};
pub use volume::{CreateVolume, Volume};

/// Bytes on their way to or from the engine, mostly a tar archive.
pub type ByteStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;
/// What a container or an exec writes.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<LogChunk>> + Send>>;
/// What happens on the engine, as it happens.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<EngineEvent>> + Send>>;
/// One container's use of resources, about one item a second.
pub type StatsStream = Pin<Box<dyn Stream<Item = Result<Stats>> + Send>>;
/// Told of every step of a pull.
pub type OnPull<'a> = &'a mut (dyn FnMut(PullProgress) + Send);
/// Told of every line of a build.
pub type OnBuild<'a> = &'a mut (dyn FnMut(BuildProgress) + Send);

/// A container engine.
///
/// Containers, networks, volumes and images are named by name or id. A look-up of one object answers `None` when
/// there is none; every other call on a missing object fails with [`ErrorKind::NotFound`].
#[async_trait]
pub trait Engine: Send + Sync {
    /// What kind of engine this is and what it can do.
    async fn info(&self) -> Result<EngineInfo>;

    /// An image that the engine has, by reference, digest or id.
    async fn image(&self, reference: &str) -> Result<Option<Image>>;
    /// The images with these labels, or with one of these references as a tag. Their `config` holds only labels.
    async fn images(&self, filter: &Filter) -> Result<Vec<Image>>;
    /// Fetches an image from its registry, with the credentials of the user's Docker configuration.
    async fn pull_image(&self, pull: &PullImage, progress: OnPull<'_>) -> Result<()>;
    /// Builds an image and answers its id. What failed is in the error's cause.
    async fn build_image(&self, build: &BuildImage, progress: OnBuild<'_>) -> Result<String>;
    /// Makes an image of one layer from a tar of its root file system and answers its id.
    async fn import_image(&self, import: &ImportImage, rootfs: ByteStream) -> Result<String>;
    /// Images as one archive that [`Engine::load_images`] takes.
    async fn save_images(&self, references: &[String]) -> Result<ByteStream>;
    /// Loads an archive of images and answers the references (or ids) it held.
    async fn load_images(&self, archive: ByteStream) -> Result<Vec<String>>;
    /// Gives an image one more reference.
    async fn tag_image(&self, reference: &str, tag: &str) -> Result<()>;
    /// Removes an image or one of its tags.
    async fn remove_image(&self, reference: &str) -> Result<()>;

    /// Creates a network and answers its id. Names are not unique: look first.
    async fn create_network(&self, network: &CreateNetwork) -> Result<String>;
    /// The networks with these labels and one of these names.
    async fn networks(&self, filter: &Filter) -> Result<Vec<Network>>;
    /// A network with the containers that are on it.
    async fn network(&self, name: &str) -> Result<Option<Network>>;
    /// Puts a container on a network ([`Attachment::network`]).
    async fn connect(&self, container: &str, attachment: &Attachment) -> Result<()>;
    /// Takes a container off a network, by force if it is running.
    async fn disconnect(&self, network: &str, container: &str) -> Result<()>;
    /// Removes a network that no container is on.
    async fn remove_network(&self, name: &str) -> Result<()>;

    /// Creates a volume. If the name is taken, the engine silently answers the old one: compare the result.
    async fn create_volume(&self, volume: &CreateVolume) -> Result<Volume>;
    /// The volumes with these labels and one of these names.
    async fn volumes(&self, filter: &Filter) -> Result<Vec<Volume>>;
    /// A volume by name.
    async fn volume(&self, name: &str) -> Result<Option<Volume>>;
    /// Removes a volume that no container has.
    async fn remove_volume(&self, name: &str) -> Result<()>;

    /// Creates a container with all its networks; its id and what the engine warns about. Its name must be free.
    async fn create_container_with_warnings(
        &self,
        container: &CreateContainer,
    ) -> Result<(String, Vec<String>)>;
    /// The same without the warnings.
    async fn create_container(&self, container: &CreateContainer) -> Result<String> {
        Ok(self.create_container_with_warnings(container).await?.0)
    }
    /// Starts a container; one that runs already is success.
    async fn start_container(&self, name: &str) -> Result<()>;
    /// Stops a container: its stop signal (or this one), then a kill after `timeout` (its own when `None`). One that
    /// is stopped already is success.
    async fn stop_container(
        &self,
        name: &str,
        signal: Option<&str>,
        timeout: Option<std::time::Duration>,
    ) -> Result<()>;
    /// Sends a signal (`SIGKILL`, `HUP`, …) to a running container.
    async fn kill_container(&self, name: &str, signal: &str) -> Result<()>;
    /// Freezes a running container's processes.
    async fn pause_container(&self, name: &str) -> Result<()>;
    /// Thaws a paused container.
    async fn unpause_container(&self, name: &str) -> Result<()>;
    /// Stops and starts a container.
    async fn restart_container(&self, name: &str, timeout: Option<std::time::Duration>) -> Result<()>;
    /// Gives a container another name, which must be free.
    async fn rename_container(&self, name: &str, to: &str) -> Result<()>;
    /// Removes a container; `force` kills it first, `volumes` takes its anonymous volumes along.
    async fn remove_container(&self, name: &str, force: bool, volumes: bool) -> Result<()>;
    /// The containers with these labels and one of these names; stopped ones too unless the filter says otherwise.
    async fn containers(&self, filter: &Filter) -> Result<Vec<ContainerSummary>>;
    /// All about one container.
    async fn container(&self, name: &str) -> Result<Option<Container>>;
    /// Waits until a container is not running and answers its exit code. Waits as long as it takes.
    async fn wait_container(&self, name: &str) -> Result<i64>;

    /// What a container has written and, with `follow`, writes.
    async fn logs(&self, name: &str, options: &LogOptions) -> Result<LogStream>;
    /// A container's own stdin and output, from now on.
    async fn attach(&self, name: &str) -> Result<Attached>;
    /// Sets the size of a container's terminal.
    async fn resize_container(&self, name: &str, rows: u16, columns: u16) -> Result<()>;
    /// A running container's use of resources, until the stream is dropped.
    async fn stats(&self, name: &str) -> Result<StatsStream>;
    /// The command lines of the processes that run in a container.
    async fn processes(&self, name: &str) -> Result<Vec<String>>;

    /// Starts a command in a running container.
    async fn exec(&self, name: &str, exec: &Exec) -> Result<ExecSession>;
    /// A command's exit code, `None` while it runs.
    async fn exec_exit_code(&self, id: &str) -> Result<Option<i64>>;
    /// Sets the size of a command's terminal.
    async fn exec_resize(&self, id: &str, rows: u16, columns: u16) -> Result<()>;

    /// Unpacks a tar below the folder `path` of a container, running or not.
    async fn upload(&self, container: &str, path: &str, archive: ByteStream) -> Result<()>;
    /// A file or folder of a container as a tar whose entries start with the path's last part.
    async fn download(&self, container: &str, path: &str) -> Result<ByteStream>;
    /// What is at a path of a container.
    async fn stat_path(&self, container: &str, path: &str) -> Result<Option<PathStat>>;

    /// What happens to objects with these labels, from `since` (or now) on. Ends only with the connection.
    async fn events(&self, filter: &Filter, since: Option<Timestamp>) -> Result<EventStream>;
}
