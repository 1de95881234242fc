//! The operations of a plan. Each is one call to the engine (or one message to the keeper), with its payload.

use std::fmt;
use std::time::Duration;

use super::volume_source::VolumeSource;
use super::{Phase, divided_limits};
use crate::engine::identity::SandboxId;
use crate::engine::{Attachment, BuildImage, CreateContainer, CreateNetwork, CreateVolume, PullImage};
use crate::spec::{Condition, ConfigName, Hook, Limits, Probe, SecretName, Seed};
use crate::storage::{SetPath, VolumePath};

/// An operation of a plan, with its payload.
#[derive(Debug, Clone)]
pub enum Op {
    /// Pull an image.
    PullImage(PullImage),
    /// Build an image.
    BuildImage(Box<BuildImage>),
    /// Create the edge network, which gateways publish on.
    CreateEdge(CreateNetwork),
    /// Create the gateway's container, which is also the claim on the sandbox's name.
    Claim(Box<CreateContainer>),
    /// Create a network of the spec.
    CreateNetwork(CreateNetwork),
    /// Connect a container to a network.
    Connect {
        /// The container.
        container: String,
        /// The network and the container's address on it.
        attachment: Attachment,
    },
    /// Have the keeper limit all services together with a parent control group.
    Limit {
        /// The sandbox.
        sandbox: SandboxId,
        /// The limits for all services together.
        limits: Limits,
    },
    /// Have the keeper block packets from the sandbox's networks to the engine's host.
    ProtectHost(SandboxId),
    /// Create a volume's data, empty or as a clone.
    ProvideData {
        /// Its path in the storage.
        path: VolumePath,
        /// The source of its content.
        source: VolumeSource,
    },
    /// Create the engine's volume for existing data. The storage determines the driver options.
    CreateVolume {
        /// The volume.
        volume: CreateVolume,
        /// The path of its data in the storage.
        path: VolumePath,
    },
    /// Create a service's container.
    CreateContainer(Box<CreateContainer>),
    /// Fill a volume through a container that mounts it and is not started yet.
    Fill {
        /// The container.
        container: String,
        /// The volume's mount point in the container.
        target: String,
        /// The seed that fills it.
        seed: Seed,
    },
    /// Store the values of generated secrets with the sandbox's data.
    Keep {
        /// The path of the sandbox's data.
        set: SetPath,
        /// The secrets' names; the plan does not contain their values.
        secrets: Vec<SecretName>,
    },
    /// Copy secrets and configs into a container that is not started yet.
    Upload {
        /// The container.
        container: String,
        /// The files' metadata; the plan does not contain their content.
        files: Vec<GrantedFile>,
    },
    /// Start a container.
    Start {
        /// The container.
        container: String,
    },
    /// Run a command to completion in a container of its own, which is then removed.
    RunInit(Box<CreateContainer>),
    /// Run a command in a container that has just started.
    RunHook {
        /// The container.
        container: String,
        /// The command.
        hook: Hook,
    },
    /// Wait until a service's container reaches a state.
    Await {
        /// The container.
        container: String,
        /// The state to wait for.
        until: Until,
        /// How certain it must be that the image's entrypoint has started the real server.
        handover: Handover,
        /// Whether all dependents tolerate a failure; it is then only a warning.
        optional: bool,
    },
    /// Seed a service that is ready.
    Seed {
        /// The container.
        container: String,
        /// The service's image, which determines the client of a `sql` seed.
        image: String,
        /// The seed.
        seed: Seed,
    },
    /// Stop a container within its grace period.
    Stop {
        /// The container.
        container: String,
    },
    /// Remove a network that has changed, with its connections.
    RemoveNetwork {
        /// The network.
        network: String,
    },
    /// Remove a container that has changed or is no longer wanted.
    RemoveContainer {
        /// The container.
        container: String,
    },
    /// Remove a volume with its data, to create it again.
    RemoveVolume {
        /// The volume on the engine.
        volume: String,
        /// The path of its data in the storage.
        path: VolumePath,
    },
}

/// How certain it must be that an image's entrypoint, which may run a temporary server to initialize data, has handed
/// over to the real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// Best effort: a script that is still running after a minute is accepted.
    Expected,
    /// The script has exited, or a server listens on the network: data is about to be kept.
    Required,
    /// The script has exited: it runs files that the spec mounts.
    Proven,
}

/// The state of a container to wait for.
#[derive(Debug, Clone, PartialEq)]
pub enum Until {
    /// It is ready, or exited with 0.
    Ready {
        /// The readiness probe.
        probe: Probe,
        /// Maximum time to wait; `None` uses the timeout of `up`.
        timeout: Option<Duration>,
        /// A port that must accept connections before a command is tried, because a command is much more expensive.
        after_port: Option<u16>,
    },
    /// It runs, or exited with 0.
    Running {
        /// Ports that will probably open. They are waited for only briefly.
        ports: Vec<u16>,
    },
    /// It exited with 0.
    Completed,
}

/// A secret or config that is mounted as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedFile {
    /// Where the content comes from.
    pub source: FileSource,
    /// Absolute path in the container.
    pub path: String,
    /// Numeric user id of the owner.
    pub uid: u32,
    /// Numeric group id of the owner.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// The source of a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSource {
    /// A secret's value.
    Secret(SecretName),
    /// A config's content.
    Config(ConfigName),
    /// A symbolic link to this path.
    Link(String),
}

impl Until {
    /// Whether the gateway runs the probe, from inside the sandbox.
    pub(super) fn is_tried_by_gateway(&self) -> bool {
        match self {
            Self::Ready { probe, after_port, .. } => {
                after_port.is_some() || matches!(probe, Probe::Tcp { .. } | Probe::Http { .. })
            }
            Self::Running { ports } => !ports.is_empty(),
            Self::Completed => false,
        }
    }
}

impl Op {
    /// The kind of work.
    pub fn phase(&self) -> Phase {
        match self {
            Self::PullImage(_) => Phase::Pull,
            Self::BuildImage(_) => Phase::Build,
            Self::CreateEdge(_)
            | Self::Claim(_)
            | Self::CreateNetwork(_)
            | Self::Connect { .. }
            | Self::Limit { .. }
            | Self::ProtectHost(_) => Phase::Network,
            Self::ProvideData { .. } | Self::CreateVolume { .. } | Self::Keep { .. } | Self::Fill { .. } => {
                Phase::Data
            }
            Self::CreateContainer(_) | Self::Upload { .. } => Phase::Create,
            Self::Start { .. } | Self::RunInit(_) | Self::RunHook { .. } => Phase::Start,
            Self::Await { .. } => Phase::Ready,
            Self::Seed { .. } => Phase::Seed,
            Self::Stop { .. }
            | Self::RemoveContainer { .. }
            | Self::RemoveVolume { .. }
            | Self::RemoveNetwork { .. } => Phase::Remove,
        }
    }

    /// Describes the undo; `None` if destroying the operation's target undoes it, or if no undo is needed.
    pub fn undo(&self) -> Option<String> {
        match self {
            Self::Claim(container) | Self::CreateContainer(container) | Self::RunInit(container) => {
                Some(format!("remove container `{}`", container.name))
            }
            Self::CreateNetwork(network) => Some(format!("remove network `{}`", network.name)),
            Self::CreateVolume { volume, .. } => Some(format!("remove volume `{}`", volume.name)),
            Self::ProvideData { path, .. } => Some(format!("delete data `{path}`")),
            _ => None,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PullImage(pull) => write!(f, "pull image `{}`", pull.reference),
            Self::BuildImage(build) => write!(f, "build image `{}`", build.tags.join("`, `")),
            Self::CreateEdge(network) => write!(f, "create network `{}` for published ports", network.name),
            Self::Claim(container) => write!(f, "create gateway container `{}`", container.name),
            Self::CreateNetwork(network) => {
                write!(f, "create network `{}`", network.name)?;
                for subnet in &network.subnets {
                    write!(f, " {}", subnet.subnet)?;
                }
                if network.internal { write!(f, " (internal)") } else { Ok(()) }
            }
            Self::Connect { container, attachment } => {
                write!(f, "connect `{container}` to `{}`", attachment.network)?;
                attachment.ipv4.map_or(Ok(()), |address| write!(f, " as {address}"))
            }
            Self::Limit { limits, .. } => {
                write!(f, "set the limit of all services together: {}", divided_limits::words(limits))
            }
            Self::ProtectHost(_) => f.write_str("block packets from services to the engine's machine"),
            Self::ProvideData { path, source } => write!(f, "create data `{path}` {source}"),
            Self::CreateVolume { volume, .. } => write!(f, "create volume `{}`", volume.name),
            Self::CreateContainer(container) => {
                write!(f, "create container `{}` from `{}`", container.name, container.image)
            }
            Self::Fill { container, target, seed } => {
                write!(f, "fill `{target}` of `{container}` with {seed}")
            }
            Self::Keep { secrets, .. } => {
                f.write_str("store with the data: secret")?;
                secrets.iter().try_for_each(|secret| write!(f, " `{secret}`"))
            }
            Self::Upload { container, files } => {
                write!(f, "copy into `{container}`:")?;
                files.iter().try_for_each(|file| write!(f, " {}", file.path))
            }
            Self::Start { container } => write!(f, "start `{container}`"),
            Self::RunInit(container) => {
                let command = container.cmd.as_deref().unwrap_or_default().join(" ");
                write!(f, "run in `{}` from `{}`: {command}", container.name, container.image)
            }
            Self::RunHook { container, hook } => {
                write!(f, "run in `{container}`: {}", hook.command.join(" "))
            }
            Self::Await { container, until, .. } => write!(f, "wait until `{container}` {until}"),
            Self::Seed { container, seed, .. } => write!(f, "seed `{container}` with {seed}"),
            Self::Stop { container } => write!(f, "stop `{container}`"),
            Self::RemoveVolume { volume, .. } => write!(f, "remove volume `{volume}`"),
            Self::RemoveNetwork { network } => write!(f, "remove network `{network}`"),
            Self::RemoveContainer { container } => write!(f, "remove container `{container}`"),
        }
    }
}

impl Until {
    /// Describes the goal, as the object of "waits for".
    pub fn goal(&self) -> String {
        match self {
            Self::Ready { probe: Probe::Exec(command), .. } => format!("`{}`", command.join(" ")),
            Self::Ready { probe: Probe::Tcp { port }, .. } => format!("port {port}"),
            Self::Ready { probe: Probe::Http { port, path, .. }, .. } => {
                port.map_or_else(|| path.clone(), |port| format!("{path} on port {port}"))
            }
            Self::Ready { probe: Probe::Log { pattern }, .. } => format!("`{pattern}` in its log"),
            Self::Ready { probe: Probe::None, .. } => "its start".to_owned(),
            Self::Running { ports } if ports.is_empty() => "its start".to_owned(),
            Self::Running { ports } => port_list(ports),
            Self::Completed => "its completion".to_owned(),
        }
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready { probe, .. } => match probe {
                Probe::None => f.write_str("runs"),
                Probe::Exec(command) => write!(f, "is ready (`{}` succeeds)", command.join(" ")),
                Probe::Tcp { port } => write!(f, "is ready (port {port} accepts)"),
                Probe::Http { port, path, .. } => {
                    f.write_str("is ready (")?;
                    port.map_or(Ok(()), |port| write!(f, "port {port} "))?;
                    write!(f, "answers {path})")
                }
                Probe::Log { pattern } => write!(f, "is ready (its log has `{pattern}`)"),
            },
            Self::Running { ports } if ports.is_empty() => f.write_str("runs"),
            Self::Running { ports } => write!(f, "runs (and {} accepts, briefly)", port_list(ports)),
            Self::Completed => write!(f, "has completed ({})", Condition::CompletedSuccessfully.word()),
        }
    }
}

/// Formats `port 80`, or `port 80 or 443`.
fn port_list(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("port {}", ports.join(" or "))
}
