//! What an engine says about itself.

use std::fmt;
use std::path::PathBuf;

/// An engine's own description of itself and of the machine it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Docker or something that speaks its API.
    pub kind: EngineKind,
    /// The engine's version, such as `20.10.24`.
    pub version: String,
    /// The API version that we and the engine agreed on.
    pub api: ApiVersion,
    /// Where we reached it.
    pub location: Location,
    /// The host's name.
    pub name: String,
    /// `linux` or `windows`.
    pub os: String,
    /// The distribution, such as `Debian GNU/Linux 12 (bookworm)` or `Docker Desktop`.
    pub distribution: String,
    /// The kernel's version.
    pub kernel: String,
    /// The architecture in the registries' words: `amd64`, `arm64`, …
    pub arch: String,
    /// Processors that containers may use.
    pub cpus: u32,
    /// Bytes of memory of the engine's machine.
    pub memory: u64,
    /// Such as `overlay2`.
    pub storage_driver: String,
    /// Where the engine keeps images and volumes, on its own machine.
    pub root_dir: PathBuf,
    /// What confines containers.
    pub security: SecurityOptions,
    /// Version of the control groups.
    pub cgroup: CgroupVersion,
    /// Who makes the control groups: `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// The log driver of containers that ask for none; empty if the engine does not say.
    pub log_driver: String,
    /// Whether images can be built with BuildKit.
    pub buildkit: bool,
    /// Whether containers survive the engine's restart.
    pub live_restore: bool,
    /// Runtimes that a container may ask for.
    pub runtimes: Vec<String>,
    /// What the engine itself warns about.
    pub warnings: Vec<String>,
}

/// Whose engine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// Docker Engine (Docker Desktop and its kin included).
    Docker,
    /// Podman's service.
    Podman,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "Docker",
            Self::Podman => "Podman",
        })
    }
}

/// A version of the engine's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl ApiVersion {
    /// The oldest version that we speak (Docker Engine 20.10).
    pub const OLDEST: Self = Self { major: 1, minor: 41 };

    /// Reads `1.41`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// How an engine is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A socket of this machine.
    Unix(PathBuf),
    /// `HOST:PORT`, encrypted or not.
    Tcp(String),
    /// `USER@HOST:PORT` through `ssh`.
    Ssh(String),
}

impl Location {
    /// Whether the engine's file system is (as far as one can tell) this machine's.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Unix(_))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
            Self::Ssh(host) => write!(f, "ssh://{host}"),
        }
    }
}

/// What confines containers on this engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecurityOptions {
    /// System calls are filtered.
    pub seccomp: bool,
    /// AppArmor profiles are applied.
    pub apparmor: bool,
    /// SELinux labels are applied: bind mounts need `z` or `Z`.
    pub selinux: bool,
    /// The engine runs without root.
    pub rootless: bool,
    /// Containers' users are mapped to others on the host.
    pub userns: bool,
}

/// The generation of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// One hierarchy for each controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// An architecture's name, as the kernel and Rust have it, in the registries' words.
pub fn architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" | "x86" => "386",
        "armv7l" | "armv6l" => "arm",
        other => other,
    }
}
