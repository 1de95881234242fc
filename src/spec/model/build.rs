//! The source of a service's image: a reference or a build.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{At, Json, Ulimit};

/// The source of a service's image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageSource {
    /// An existing or pulled image, by reference.
    Image(String),
    /// An image that is built from a context.
    Build(Box<Build>),
}

/// The parameters of an image build (`build`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// The context: an absolute folder, or a URL that the builder fetches.
    pub context: String,
    /// The source of the Dockerfile.
    pub dockerfile: Dockerfile,
    /// Build arguments; an argument without a value is omitted.
    pub args: BTreeMap<String, Option<String>>,
    /// The stage to build.
    pub target: Option<String>,
    /// The service's `image`, which is then the tag of the result.
    pub tag: Option<String>,
    /// Additional tags of the result.
    pub tags: Vec<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Cache sources.
    pub cache_from: Vec<String>,
    /// Cache destinations.
    pub cache_to: Vec<String>,
    /// Whether to build without the cache.
    pub no_cache: bool,
    /// Stages to build without the cache.
    pub no_cache_filter: Vec<String>,
    /// Whether to pull newer base images.
    pub pull: bool,
    /// The network of the build's `RUN` steps.
    pub network: Option<String>,
    /// Additional contexts: name → absolute folder or URL.
    pub additional_contexts: BTreeMap<String, String>,
    /// Entries for `/etc/hosts` during the build: name → addresses.
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    /// Secrets that `RUN --mount=type=secret` may read.
    pub secrets: Vec<BuildSecret>,
    /// SSH agents or keys for `RUN --mount=type=ssh`: id → path, empty for the default agent.
    pub ssh: BTreeMap<String, Option<String>>,
    /// Size of `/dev/shm` in the build, in bytes.
    pub shm_size: Option<u64>,
    /// Ulimits of the build.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Platforms to build for.
    pub platforms: Vec<String>,
    /// Entitlements of the build, such as `network.host`.
    pub entitlements: Vec<String>,
    /// Whether the build runs privileged.
    pub privileged: bool,
    /// Isolation technology (Windows).
    pub isolation: Option<String>,
    /// Free `x-` keys.
    pub extensions: BTreeMap<String, Json>,
    /// The location of `build`.
    #[serde(skip)]
    pub at: At,
}

impl Build {
    /// The services whose images are contexts of this build.
    pub fn service_contexts(&self) -> impl Iterator<Item = &str> {
        self.additional_contexts.values().filter_map(|from| from.strip_prefix("service:"))
    }
}

/// The source of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dockerfile {
    /// A file, relative to the context unless absolute.
    File(String),
    /// The text of the Dockerfile.
    Inline(String),
}

impl Default for Dockerfile {
    fn default() -> Self {
        Self::File("Dockerfile".to_owned())
    }
}

/// A secret that a build may read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildSecret {
    /// The key of the secret in the spec.
    pub source: String,
    /// The id in the Dockerfile; `source` if `None`.
    pub target: Option<String>,
    /// Numeric user id of the owner, if set.
    pub uid: Option<String>,
    /// Numeric group id, if set.
    pub gid: Option<String>,
    /// Permission bits, if set.
    pub mode: Option<u32>,
}

/// When an image is pulled or built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// Always pulled.
    Always,
    /// Never pulled.
    Never,
    /// Pulled if absent; the default.
    Missing,
    /// Pulled if absent; the older name `if_not_present`.
    IfNotPresent,
    /// Always built.
    Build,
    /// Pulled if the last pull is older than a day.
    Daily,
    /// Pulled if the last pull is older than a week.
    Weekly,
    /// Pulled if the last pull is older than this many seconds.
    Every(u64),
    /// As `Missing`: `refresh` without its `pull_refresh_after`.
    Refresh,
}

impl PullPolicy {
    /// The age after which an image is pulled again, if the policy sets one.
    pub fn longest_age(self) -> Option<Duration> {
        const DAY: u64 = 24 * 60 * 60;
        let seconds = match self {
            Self::Daily => DAY,
            Self::Weekly => 7 * DAY,
            Self::Every(seconds) => seconds,
            Self::Always | Self::Never | Self::Missing | Self::IfNotPresent | Self::Build | Self::Refresh => {
                return None;
            }
        };
        Some(Duration::from_secs(seconds))
    }
}
