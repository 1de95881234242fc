//! Images of the engine, and the parameters to pull, build and import them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::create::{Healthcheck, Port, Ulimit};
use crate::host_files::WritableFolders;

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest (`sha256:…`) of its configuration or, with containerd's image store, of its manifest.
    pub id: String,
    /// `REPOSITORY@sha256:…` for each registry that it is known to be in.
    pub digests: Vec<String>,
    /// The tags as `REPOSITORY:TAG`.
    pub tags: Vec<String>,
    /// The architecture: `amd64`, `arm64`, …
    pub arch: String,
    /// The architecture's variant, such as `v8`; often empty.
    pub variant: String,
    /// The operating system, such as `linux`.
    pub os: String,
    /// The digests of its layers' uncompressed content (`diff_ids`), lowest first; empty in a listing.
    pub layers: Vec<String>,
    /// Size in bytes.
    pub size: u64,
    /// Creation time.
    pub created: Option<Timestamp>,
    /// When this engine last gave it a tag, as a pull does; unknown in a listing.
    pub tagged: Option<Timestamp>,
    /// The default configuration of its containers.
    pub config: ImageConfig,
}

/// The default configuration of an image's containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// User, optionally with a group; empty for root.
    pub user: String,
    /// Environment as `KEY=VALUE`.
    pub env: Vec<String>,
    /// The command, or the arguments of the entrypoint.
    pub cmd: Vec<String>,
    /// The entrypoint.
    pub entrypoint: Vec<String>,
    /// Exposed ports.
    pub exposed: Vec<Port>,
    /// Paths that get an anonymous volume.
    pub volumes: Vec<String>,
    /// Working directory.
    pub workdir: String,
    /// The image's healthcheck.
    pub healthcheck: Option<Healthcheck>,
    /// The signal that requests a stop.
    pub stop_signal: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Image {
    /// The digest of the image's content. It is the same in every image store, unlike `id`, which is a digest of the
    /// configuration in one store and of the manifest in another. `None` in a listing, which has no layers.
    pub fn content(&self) -> Option<String> {
        content_digest(&self.os, &self.arch, &self.layers, &self.config)
    }
}

/// The digest of what a container gets from an image: the platform, the layers, and the part of the configuration that
/// all engines keep. Labels and the healthcheck are excluded: engines write them differently, and labels differ per
/// machine.
pub fn content_digest(os: &str, arch: &str, layers: &[String], config: &ImageConfig) -> Option<String> {
    if layers.is_empty() {
        return None;
    }
    let mut volumes = config.volumes.clone();
    volumes.sort();
    let mut exposed: Vec<String> =
        config.exposed.iter().map(|port| format!("{}/{}", port.number, port.protocol)).collect();
    exposed.sort();
    let stop = config.stop_signal.as_deref().unwrap_or_default();
    // One image store writes the default explicitly, the other leaves it empty.
    let workdir = if config.workdir == "/" { "" } else { &config.workdir };
    let user = [&config.user, workdir, stop];
    let value = serde_json::json!([
        os,
        arch,
        layers,
        user,
        config.env,
        config.cmd,
        config.entrypoint,
        exposed,
        volumes
    ]);
    Some(format!("sha256:{}", hex::encode(Sha256::digest(value.to_string().as_bytes()))))
}

/// The parameters of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullImage {
    /// The reference, such as `postgres:16-alpine` or `ghcr.io/a/b@sha256:…`.
    pub reference: String,
    /// The platform, such as `linux/arm64`; `None` for the engine's own.
    pub platform: Option<String>,
}

/// A progress report of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// The layer's short id; empty for the image as a whole.
    pub layer: String,
    /// The phase of the layer.
    pub phase: PullPhase,
    /// Bytes processed.
    pub current: u64,
    /// Total bytes, if the engine reports them.
    pub total: Option<u64>,
}

/// The phase of a layer during a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullPhase {
    /// It is queued.
    Waiting,
    /// The download is in progress.
    Downloading,
    /// It is downloaded, not yet extracted.
    Downloaded,
    /// The extraction is in progress.
    Extracting,
    /// It is complete.
    Done,
    /// The engine already has it.
    Present,
    /// The whole pull is retried.
    Retrying {
        /// The number of the next attempt, from 2 on.
        attempt: u32,
        /// The error of the previous attempt.
        cause: String,
    },
    /// Any other message of the engine.
    Note(String),
}

/// How much of an image was pushed, over all layers that the registry does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushProgress {
    /// Bytes sent.
    pub current: u64,
    /// Bytes to send, as far as the engine knows.
    pub total: u64,
}

/// The parameters of a build.
#[derive(Debug, Clone, Default)]
pub struct BuildImage {
    /// The source of the build context.
    pub context: BuildContext,
    /// The source of the Dockerfile.
    pub dockerfile: Dockerfile,
    /// Folders that services can write to. Links below them are not followed.
    pub writable: WritableFolders,
    /// References to tag the image with.
    pub tags: Vec<String>,
    /// Build arguments (`None` uses the Dockerfile's default).
    pub args: BTreeMap<String, Option<String>>,
    /// The stage to build; `None` for the last.
    pub target: Option<String>,
    /// The target platform, such as `linux/arm64`.
    pub platform: Option<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Build every step without the cache.
    pub no_cache: bool,
    /// Check for newer base images.
    pub pull: bool,
    /// The network of `RUN` steps.
    pub network: Option<String>,
    /// Additional `HOST:ADDRESS` entries for `RUN` steps.
    pub extra_hosts: Vec<String>,
    /// Size of `/dev/shm` in `RUN` steps, in bytes.
    pub shm_size: Option<u64>,
    /// Limits of the processes of `RUN` steps.
    pub ulimits: Vec<Ulimit>,
    /// Images to use as cache sources.
    pub cache_from: Vec<String>,
    /// Embed cache metadata, so that others can use the image as a cache source; BuildKit only.
    pub inline_cache: bool,
    /// Stages that are built without the cache.
    pub fresh_stages: Vec<String>,
    /// Additional contexts, keyed by the stage or image name that they replace.
    pub contexts: BTreeMap<String, NamedContext>,
    /// Secrets that steps may mount; requires BuildKit.
    pub secrets: Vec<BuildSecret>,
    /// SSH agents or keys that steps may use (`default`, `ID=SOCKET`); requires BuildKit.
    pub ssh: Vec<String>,
}

/// The source of a build context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildContext {
    /// A local folder.
    Folder(PathBuf),
    /// A repository or archive that the engine fetches itself.
    Remote(String),
}

/// An additional build context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A local folder.
    Folder(PathBuf),
    /// An image's files.
    Image(String),
}

impl Default for BuildContext {
    fn default() -> Self {
        Self::Folder(PathBuf::from("."))
    }
}

/// The source of a Dockerfile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Dockerfile {
    /// `Dockerfile` in the context.
    #[default]
    Default,
    /// A path, absolute or relative to the context; may be outside the context.
    Path(PathBuf),
    /// The text of the Dockerfile.
    Inline(String),
}

/// A secret that build steps may read and that does not become part of the image.
#[derive(Clone, PartialEq, Eq)]
pub struct BuildSecret {
    /// The id in the Dockerfile.
    pub id: String,
    /// The source of the value.
    pub source: SecretSource,
}

impl fmt::Debug for BuildSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildSecret").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The source of a build secret.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A local file.
    File(PathBuf),
    /// An environment variable of this process.
    Environment(String),
}

/// A progress report of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildProgress {
    /// A step begins; the text is its instruction.
    Step(String),
    /// A line of output of a step or the builder.
    Line(String),
    /// Number of context bytes sent so far.
    Context(u64),
}

/// The parameters of an image import from a root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportImage {
    /// The tag as `REPOSITORY:TAG`.
    pub tag: String,
    /// Dockerfile instructions (`ENTRYPOINT ["/sandbox"]`, `ENV A=b`, `LABEL …`) that set its configuration.
    pub changes: Vec<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// The platform, such as `linux/amd64`; `None` for the engine's own.
    pub platform: Option<String>,
    /// A commit message.
    pub message: Option<String>,
}
