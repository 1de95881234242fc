//! The engine's description of itself and its host.

use std::fmt;
use std::path::PathBuf;

/// Version, host and features of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Docker or Podman.
    pub kind: EngineKind,
    /// The engine's version, such as `20.10.24`.
    pub version: String,
    /// The negotiated API version.
    pub api: ApiVersion,
    /// The address that this process reached it at.
    pub location: Location,
    /// The host's name.
    pub name: String,
    /// `linux` or `windows`.
    pub os: String,
    /// The distribution, such as `Debian GNU/Linux 12 (bookworm)` or `Docker Desktop`.
    pub distribution: String,
    /// The kernel's version.
    pub kernel: String,
    /// The architecture in OCI notation: `amd64`, `arm64`, …
    pub arch: String,
    /// Number of processors for containers.
    pub cpus: u32,
    /// Memory of the engine's host in bytes.
    pub memory: u64,
    /// The storage driver, such as `overlay2`.
    pub storage_driver: String,
    /// The directory on the engine's host with images and volumes.
    pub root_dir: PathBuf,
    /// The security features that apply to containers.
    pub security: SecurityOptions,
    /// The cgroup version.
    pub cgroup: CgroupVersion,
    /// The cgroup driver: `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// The default log driver; empty if the engine does not report it.
    pub log_driver: String,
    /// Whether the engine filters packets with nftables: then it does not turn forwarding on.
    pub nftables: bool,
    /// Whether the engine can build with BuildKit.
    pub buildkit: bool,
    /// Whether containers keep running while the engine restarts.
    pub live_restore: bool,
    /// Available container runtimes.
    pub runtimes: Vec<String>,
    /// Warnings of the engine about its configuration.
    pub warnings: Vec<String>,
}

impl EngineInfo {
    /// Whether the engine runs on this machine's kernel. One behind a local socket may have a virtual machine of its own,
    /// with another kernel or less memory.
    pub fn shares_kernel(&self) -> bool {
        let here = rustix::system::uname();
        let same = cfg!(target_os = "linux") && here.release().to_str() == Ok(self.kernel.as_str());
        self.location.is_local() && same && self.has_this_memory()
    }

    #[cfg(target_os = "linux")]
    fn has_this_memory(&self) -> bool {
        let here = rustix::system::sysinfo();
        let memory = here.totalram * u64::from(here.mem_unit);
        memory.abs_diff(self.memory) < memory / 50
    }

    #[cfg(not(target_os = "linux"))]
    fn has_this_memory(&self) -> bool {
        false
    }
}

/// The product that implements the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// Docker Engine (including Docker Desktop and similar products).
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
    /// The major version.
    pub major: u32,
    /// The minor version.
    pub minor: u32,
}

impl ApiVersion {
    /// The oldest supported version (Docker Engine 20.10).
    pub const OLDEST: Self = Self { major: 1, minor: 41 };

    /// Parses a version such as `1.41`.
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

/// The address of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A local unix socket.
    Unix(PathBuf),
    /// `HOST:PORT`, with or without TLS.
    Tcp(String),
    /// `USER@HOST:PORT` through `ssh`.
    Ssh(String),
}

impl Location {
    /// Whether the engine appears to share this machine's file system.
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

/// The security features that apply to containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecurityOptions {
    /// System calls are filtered.
    pub seccomp: bool,
    /// AppArmor profiles are applied.
    pub apparmor: bool,
    /// SELinux labels are applied: bind mounts need `z` or `Z`.
    pub selinux: bool,
    /// The engine runs rootless.
    pub rootless: bool,
    /// User namespaces map container users to other host users.
    pub userns: bool,
}

/// The version of the control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// A separate hierarchy per controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// Converts an architecture's kernel or Rust name to OCI notation.
pub fn architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" | "x86" => "386",
        "armv7l" | "armv6l" => "arm",
        other => other,
    }
}
