//! The only layer that accesses the container engine's API.
//!
//! [`Engine`] lists the calls that this program needs. `docker` implements it for Docker and Podman, and `recording`
//! for an in-memory model that can fail or stall at any call. [`identity`] defines the labels and names of our
//! objects. This layer has no policy: it retries only transient failures of the transport and of pulls.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use jiff::Timestamp;

mod concurrency;
pub(crate) mod container;
pub(crate) mod create;
pub mod docker;
pub(crate) mod dockerfile;
pub(crate) mod error;
pub(crate) mod filter;
pub mod identity;
pub(crate) mod ignore;
pub(crate) mod image;
pub(crate) mod info;
pub mod network;
#[cfg(test)]
pub(crate) mod recording;
mod registry;
pub(crate) mod stream;
pub(crate) mod volume;

pub(crate) use concurrency::{CALLS, join_bounded};
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
    NamedContext, PullImage, PullPhase, PullProgress, PushProgress, SecretSource,
};
pub use info::{ApiVersion, CgroupVersion, EngineInfo, EngineKind, Location, SecurityOptions, architecture};
pub use network::{CreateNetwork, Network};
pub use registry::RegistryCredentials;
pub use stream::{
    Attached, EngineEvent, Exec, ExecSession, LogChunk, LogOptions, PathStat, Stats, StdStream, Tail,
};
pub use volume::{CreateVolume, Volume};

/// A stream of bytes to or from the engine, in most cases a tar archive.
pub type ByteStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;
/// The output of a container or exec.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<LogChunk>> + Send>>;
/// Events of the engine, as they happen.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<EngineEvent>> + Send>>;
/// Resource usage of one container, about one sample per second.
pub type StatsStream = Pin<Box<dyn Stream<Item = Result<Stats>> + Send>>;
/// Callback for the progress of a pull.
pub type OnPull<'a> = &'a mut (dyn FnMut(PullProgress) + Send);
/// Callback for the progress of a push.
pub type OnPush<'a> = &'a mut (dyn FnMut(PushProgress) + Send);
/// Callback for the progress of a build.
pub type OnBuild<'a> = &'a mut (dyn FnMut(BuildProgress) + Send);

/// A container engine.
///
/// Containers, networks, volumes and images are identified by name or id. A look-up of one object returns `None` if it
/// does not exist; every other call on a missing object fails with [`ErrorKind::NotFound`].
#[async_trait]
pub trait Engine: Send + Sync {
    /// Returns the engine's version and features.
    async fn info(&self) -> Result<EngineInfo>;

    /// Returns an image by reference, digest or id.
    async fn image(&self, reference: &str) -> Result<Option<Image>>;
    /// Lists images with these labels, or with one of these references as a tag. Their `config` holds only labels.
    async fn images(&self, filter: &Filter) -> Result<Vec<Image>>;
    /// Pulls an image with the credentials of the user's Docker configuration.
    async fn pull_image(&self, pull: &PullImage, progress: OnPull<'_>) -> Result<()>;
    /// Pushes an image to the registry in its reference, with the credentials of the user's Docker configuration.
    async fn push_image(&self, reference: &str, progress: OnPush<'_>) -> Result<()>;
    /// Builds an image and returns its id. If a step fails, the error's cause describes it.
    async fn build_image(&self, build: &BuildImage, progress: OnBuild<'_>) -> Result<String>;
    /// Imports an image of one layer from a tar of its root file system and returns its id.
    async fn import_image(&self, import: &ImportImage, rootfs: ByteStream) -> Result<String>;
    /// Exports images as one archive for [`Engine::load_images`].
    async fn save_images(&self, references: &[String]) -> Result<ByteStream>;
    /// Loads an archive of images and returns the references (or ids) in it.
    async fn load_images(&self, archive: ByteStream) -> Result<Vec<String>>;
    /// Adds a tag to an image.
    async fn tag_image(&self, reference: &str, tag: &str) -> Result<()>;
    /// Removes an image or one of its tags.
    async fn remove_image(&self, reference: &str) -> Result<()>;

    /// Creates a network and returns its id. Names are not unique: look for an existing one first.
    async fn create_network(&self, network: &CreateNetwork) -> Result<String>;
    /// Lists networks with these labels and one of these names.
    async fn networks(&self, filter: &Filter) -> Result<Vec<Network>>;
    /// Returns a network with its connected containers.
    async fn network(&self, name: &str) -> Result<Option<Network>>;
    /// Connects a container to a network ([`Attachment::network`]).
    async fn connect(&self, container: &str, attachment: &Attachment) -> Result<()>;
    /// Disconnects a container from a network, even if it is running.
    async fn disconnect(&self, network: &str, container: &str) -> Result<()>;
    /// Removes a network without connected containers.
    async fn remove_network(&self, name: &str) -> Result<()>;

    /// Creates a volume. If the name is taken, the engine silently returns the existing one: compare the result.
    async fn create_volume(&self, volume: &CreateVolume) -> Result<Volume>;
    /// Lists volumes with these labels and one of these names.
    async fn volumes(&self, filter: &Filter) -> Result<Vec<Volume>>;
    /// Returns a volume by name.
    async fn volume(&self, name: &str) -> Result<Option<Volume>>;
    /// Removes a volume that no container uses.
    async fn remove_volume(&self, name: &str) -> Result<()>;

    /// Creates a container with all its networks; returns its id and the engine's warnings. The name must be free.
    async fn create_container_with_warnings(
        &self,
        container: &CreateContainer,
    ) -> Result<(String, Vec<String>)>;
    /// Like `create_container_with_warnings`, without the warnings.
    async fn create_container(&self, container: &CreateContainer) -> Result<String> {
        Ok(self.create_container_with_warnings(container).await?.0)
    }
    /// Starts a container; succeeds if it runs already.
    async fn start_container(&self, name: &str) -> Result<()>;
    /// Stops a container: sends its stop signal (or this one) and kills it after `timeout` (`None` for the container's
    /// own). Succeeds if it is stopped already.
    async fn stop_container(
        &self,
        name: &str,
        signal: Option<&str>,
        timeout: Option<std::time::Duration>,
    ) -> Result<()>;
    /// Sends a signal (`SIGKILL`, `HUP`, …) to a running container.
    async fn kill_container(&self, name: &str, signal: &str) -> Result<()>;
    /// Pauses the processes of a running container.
    async fn pause_container(&self, name: &str) -> Result<()>;
    /// Resumes a paused container.
    async fn unpause_container(&self, name: &str) -> Result<()>;
    /// Stops and starts a container.
    async fn restart_container(&self, name: &str, timeout: Option<std::time::Duration>) -> Result<()>;
    /// Renames a container; the new name must be free.
    async fn rename_container(&self, name: &str, to: &str) -> Result<()>;
    /// Removes a container; `force` kills it first, `volumes` also removes its anonymous volumes.
    async fn remove_container(&self, name: &str, force: bool, volumes: bool) -> Result<()>;
    /// Lists containers with these labels and one of these names, including stopped ones unless the filter excludes
    /// them.
    async fn containers(&self, filter: &Filter) -> Result<Vec<ContainerSummary>>;
    /// Returns the full description of a container.
    async fn container(&self, name: &str) -> Result<Option<Container>>;
    /// Waits without a timeout until a container is not running, and returns its exit code.
    async fn wait_container(&self, name: &str) -> Result<i64>;

    /// Streams a container's logs; with `follow`, also new output.
    async fn logs(&self, name: &str, options: &LogOptions) -> Result<LogStream>;
    /// Attaches to a container's stdin and new output.
    async fn attach(&self, name: &str) -> Result<Attached>;
    /// Sets the size of a container's terminal.
    async fn resize_container(&self, name: &str, rows: u16, columns: u16) -> Result<()>;
    /// Streams a running container's resource usage until the stream is dropped.
    async fn stats(&self, name: &str) -> Result<StatsStream>;
    /// Lists the command lines of a container's processes.
    async fn processes(&self, name: &str) -> Result<Vec<String>>;

    /// Starts a command in a running container.
    async fn exec(&self, name: &str, exec: &Exec) -> Result<ExecSession>;
    /// Returns a command's exit code; `None` while it runs.
    async fn exec_exit_code(&self, id: &str) -> Result<Option<i64>>;
    /// Sets the size of a command's terminal.
    async fn exec_resize(&self, id: &str, rows: u16, columns: u16) -> Result<()>;

    /// Extracts a tar below the directory `path` of a container, running or not.
    async fn upload(&self, container: &str, path: &str, archive: ByteStream) -> Result<()>;
    /// Streams a file or directory of a container as a tar whose entries start with the path's last component.
    async fn download(&self, container: &str, path: &str) -> Result<ByteStream>;
    /// Returns the metadata of a path in a container.
    async fn stat_path(&self, container: &str, path: &str) -> Result<Option<PathStat>>;

    /// Streams events of objects with these labels, from `since` (or now) on. Ends only with the connection.
    async fn events(&self, filter: &Filter, since: Option<Timestamp>) -> Result<EventStream>;
}
