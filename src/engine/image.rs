//! Images: what the engine has, what is to be pulled, built or imported.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::create::{Healthcheck, Port};

/// An image of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…` of its configuration (or, with containerd's store, of its manifest).
    pub id: String,
    /// `REPOSITORY@sha256:…` of each registry it is known to be in.
    pub digests: Vec<String>,
    /// `REPOSITORY:TAG`s.
    pub tags: Vec<String>,
    /// The architecture: `amd64`, `arm64`, …
    pub arch: String,
    /// The architecture's variant, such as `v8`; often empty.
    pub variant: String,
    /// The operating system.
    pub os: String,
    /// The digests of its layers' uncompressed content (`diff_ids`), lowest first; empty in a listing.
    pub layers: Vec<String>,
    /// Bytes.
    pub size: u64,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// What containers of it start with.
    pub config: ImageConfig,
}

/// What containers of an image start with, where they do not say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// User, perhaps with a group; empty: root.
    pub user: String,
    /// `KEY=VALUE`s.
    pub env: Vec<String>,
    /// The command, or the arguments of the entrypoint.
    pub cmd: Vec<String>,
    /// The entrypoint.
    pub entrypoint: Vec<String>,
    /// Ports that it listens on.
    pub exposed: Vec<Port>,
    /// Folders that get an anonymous volume.
    pub volumes: Vec<String>,
    /// Where it starts.
    pub workdir: String,
    /// How its health is told.
    pub healthcheck: Option<Healthcheck>,
    /// The signal that stops it.
    pub stop_signal: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Image {
    /// The digest of the image's content. Every image store computes the same one, unlike `id`, which is a digest of the
    /// configuration in one store and of the manifest in another. `None` in a listing, which has no layers.
    pub fn content(&self) -> Option<String> {
        content_digest(&self.os, &self.arch, &self.layers, &self.config)
    }
}

/// The digest of what a container gets from an image: the platform, the layers, and the configuration as far as all
/// engines keep it. Labels and the health check are left out: engines write them differently, and labels differ by machine.
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
    // One store writes the default out, the other leaves it empty.
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

/// An image to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullImage {
    /// Such as `postgres:16-alpine` or `ghcr.io/a/b@sha256:…`.
    pub reference: String,
    /// Such as `linux/arm64`; `None`: the engine's own.
    pub platform: Option<String>,
}

/// A step of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// The layer's short id; empty for the image as a whole.
    pub layer: String,
    /// What is done with it.
    pub phase: PullPhase,
    /// Bytes done.
    pub current: u64,
    /// Bytes in all, where the engine says.
    pub total: Option<u64>,
}

/// What is done with a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullPhase {
    /// It waits for its turn.
    Waiting,
    /// It is being fetched.
    Downloading,
    /// It is here, not yet unpacked.
    Downloaded,
    /// It is being unpacked.
    Extracting,
    /// It is complete.
    Done,
    /// It was here already.
    Present,
    /// The whole pull starts over.
    Retrying {
        /// Which attempt follows, from 2 on.
        attempt: u32,
        /// Why.
        cause: String,
    },
    /// Something else, in the engine's words.
    Note(String),
}

/// An image to be built.
#[derive(Debug, Clone, Default)]
pub struct BuildImage {
    /// Where its files are.
    pub context: BuildContext,
    /// Its recipe.
    pub dockerfile: Dockerfile,
    /// References it gets.
    pub tags: Vec<String>,
    /// Arguments of the recipe (`None`: none given, the recipe's own default).
    pub args: BTreeMap<String, Option<String>>,
    /// The stage to build; `None`: the last.
    pub target: Option<String>,
    /// Such as `linux/arm64`.
    pub platform: Option<String>,
    /// Labels it gets.
    pub labels: BTreeMap<String, String>,
    /// Build every step anew.
    pub no_cache: bool,
    /// Look for newer base images.
    pub pull: bool,
    /// The network of the steps.
    pub network: Option<String>,
    /// `HOST:ADDRESS`es of the steps.
    pub extra_hosts: Vec<String>,
    /// Bytes of `/dev/shm` in the steps.
    pub shm_size: Option<u64>,
    /// Images whose layers may be taken.
    pub cache_from: Vec<String>,
    /// Whether the image says which layers it has, so that others may take them; BuildKit only.
    pub inline_cache: bool,
    /// Stages that do not come from the cache.
    pub fresh_stages: Vec<String>,
    /// Further contexts, by the name of the stage or image that they stand for.
    pub contexts: BTreeMap<String, NamedContext>,
    /// Secrets that steps may mount; needs BuildKit.
    pub secrets: Vec<BuildSecret>,
    /// Agents or keys that steps may use (`default`, `ID=SOCKET`); needs BuildKit.
    pub ssh: Vec<String>,
}

/// Where the files of a build are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildContext {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A repository or archive that the engine fetches itself.
    Remote(String),
}

/// A further context of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A folder of this machine.
    Folder(PathBuf),
    /// An image's files.
    Image(String),
}

impl Default for BuildContext {
    fn default() -> Self {
        Self::Folder(PathBuf::from("."))
    }
}

/// The recipe of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Dockerfile {
    /// `Dockerfile` in the context.
    #[default]
    Default,
    /// A path, absolute or relative to the context; may be outside it.
    Path(PathBuf),
    /// The text itself.
    Inline(String),
}

/// Something that steps of a build may read but that stays out of the image.
#[derive(Clone, PartialEq, Eq)]
pub struct BuildSecret {
    /// Its id in the recipe.
    pub id: String,
    /// Where it comes from.
    pub source: SecretSource,
}

impl fmt::Debug for BuildSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildSecret").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Where a build's secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file of this machine.
    File(PathBuf),
    /// A variable of our environment.
    Environment(String),
}

/// A step of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildProgress {
    /// A step begins, in the recipe's words.
    Step(String),
    /// A line that a step (or the builder) wrote.
    Line(String),
    /// Bytes of the context sent so far.
    Context(u64),
}

/// An image to be made from a root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportImage {
    /// Its `REPOSITORY:TAG`.
    pub tag: String,
    /// Dockerfile instructions (`ENTRYPOINT ["/sandbox"]`, `ENV A=b`, `LABEL …`) that make its configuration.
    pub changes: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Such as `linux/amd64`; `None`: the engine's own.
    pub platform: Option<String>,
    /// A word about where it comes from.
    pub message: Option<String>,
}
