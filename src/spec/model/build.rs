//! Where a service's image comes from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{At, Json, Ulimit};

/// Where a service's image comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageSource {
    /// An image that exists or is pulled, by reference.
    Image(String),
    /// An image that is built.
    Build(Box<Build>),
}

/// How an image is built (`build`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// The context: an absolute folder, or a URL that the builder fetches.
    pub context: String,
    /// The Dockerfile.
    pub dockerfile: Dockerfile,
    /// Build arguments; one without a value is left out.
    pub args: BTreeMap<String, Option<String>>,
    /// The stage to build.
    pub target: Option<String>,
    /// The service's `image`, which then names the result.
    pub tag: Option<String>,
    /// More names for the result.
    pub tags: Vec<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Where layers may be taken from.
    pub cache_from: Vec<String>,
    /// Where layers are kept.
    pub cache_to: Vec<String>,
    /// Whether to ignore all cached layers.
    pub no_cache: bool,
    /// Stages that are built without the cache.
    pub no_cache_filter: Vec<String>,
    /// Whether to pull base images anew.
    pub pull: bool,
    /// The network of the build's `RUN` steps.
    pub network: Option<String>,
    /// Further contexts: name → absolute folder or URL.
    pub additional_contexts: BTreeMap<String, String>,
    /// Entries for `/etc/hosts` during the build: name → addresses.
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    /// Secrets that `RUN --mount=type=secret` may read.
    pub secrets: Vec<BuildSecret>,
    /// Agents or keys that `RUN --mount=type=ssh` may use: id → path, empty for the default agent.
    pub ssh: BTreeMap<String, Option<String>>,
    /// Size of `/dev/shm` in the build, bytes.
    pub shm_size: Option<u64>,
    /// Ulimits of the build.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Platforms to build for.
    pub platforms: Vec<String>,
    /// Rights of the build, such as `network.host`.
    pub entitlements: Vec<String>,
    /// Whether the build runs privileged.
    pub privileged: bool,
    /// Isolation technology (Windows).
    pub isolation: Option<String>,
    /// Free `x-` keys.
    pub extensions: BTreeMap<String, Json>,
    /// Where `build` stands.
    #[serde(skip)]
    pub at: At,
}

impl Build {
    /// The services whose images are contexts of this build.
    pub fn service_contexts(&self) -> impl Iterator<Item = &str> {
        self.additional_contexts.values().filter_map(|from| from.strip_prefix("service:"))
    }
}

/// A build's Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dockerfile {
    /// A file, relative to the context unless absolute.
    File(String),
    /// Its text.
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
    /// The secret of the spec.
    pub source: String,
    /// The id it is asked for by; `source` if none.
    pub target: Option<String>,
    /// Owner, if written.
    pub uid: Option<String>,
    /// Group, if written.
    pub gid: Option<String>,
    /// Mode, if written.
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
    /// Pulled if absent: the default.
    Missing,
    /// Pulled if absent, under the older word `if_not_present`.
    IfNotPresent,
    /// Always built.
    Build,
    /// Pulled if the last pull is a day ago.
    Daily,
    /// Pulled if the last pull is a week ago.
    Weekly,
    /// Pulled if the last pull is so many seconds ago.
    Every(u64),
    /// Pulled as often as `pull_refresh_after` says.
    Refresh,
}
