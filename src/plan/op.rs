//! The operations of a plan. Each is one call to the engine (or one message to the keeper), with its payload.

use std::fmt;
use std::time::Duration;

use super::volume::VolumeSource;
use super::{Phase, divided_limits};
use crate::engine::identity::SandboxId;
use crate::engine::{Attachment, BuildImage, CreateContainer, CreateNetwork, CreateVolume, PullImage};
use crate::spec::{Condition, ConfigName, Hook, Limits, Probe, SecretName, Seed};
use crate::storage::{SetPath, VolumePath};

/// One operation.
#[derive(Debug, Clone)]
pub enum Op {
    /// Fetch an image.
    PullImage(PullImage),
    /// Build an image.
    BuildImage(Box<BuildImage>),
    /// Make the network that gateways publish on.
    CreateEdge(CreateNetwork),
    /// Create the gateway's container, which is also the claim on the sandbox's name.
    Claim(Box<CreateContainer>),
    /// Create a network of the spec.
    CreateNetwork(CreateNetwork),
    /// Put a container on a network.
    Connect {
        /// The container.
        container: String,
        /// The network and the address there.
        attachment: Attachment,
    },
    /// Have the keeper bind all services together by a control group above theirs.
    Limit {
        /// The sandbox.
        sandbox: SandboxId,
        /// What they may use together.
        limits: Limits,
    },
    /// Have the keeper see to it that the engine's machine takes in nothing from the sandbox's networks.
    ProtectHost(SandboxId),
    /// Make a volume's data, empty or cloned.
    ProvideData {
        /// Where it lies.
        path: VolumePath,
        /// Where it comes from.
        source: VolumeSource,
    },
    /// Create the engine's volume on data. Its driver's options are the storage's to say.
    CreateVolume {
        /// The volume.
        volume: CreateVolume,
        /// Its data.
        path: VolumePath,
    },
    /// Create a service's container.
    CreateContainer(Box<CreateContainer>),
    /// Fill a volume through a container that has it mounted and does not run yet.
    Fill {
        /// The container.
        container: String,
        /// Where the volume is mounted in it.
        target: String,
        /// With what.
        seed: Seed,
    },
    /// Keep the values of generated secrets beside the sandbox's data.
    Keep {
        /// The sandbox's data.
        set: SetPath,
        /// The secrets; what is in them is not known here.
        secrets: Vec<SecretName>,
    },
    /// Put secrets and configs into a container that does not run yet.
    Upload {
        /// The container.
        container: String,
        /// The files; what is in them is not known here.
        files: Vec<GrantedFile>,
    },
    /// Start a container.
    Start {
        /// The container.
        container: String,
    },
    /// Run a command to its end in a container of its own, which goes with it.
    RunInit(Box<CreateContainer>),
    /// Run a command in a container that has just been started.
    RunHook {
        /// The container.
        container: String,
        /// The command.
        hook: Hook,
    },
    /// Wait until a service's container is where it should be.
    Await {
        /// The container.
        container: String,
        /// What is waited for.
        until: Until,
        /// How certain it must be that the image's entrypoint has handed over to its server.
        handover: Handover,
        /// Whether only services that can do without it depend on it: a failure is a warning.
        optional: bool,
    },
    /// Seed a service that is ready.
    Seed {
        /// The container.
        container: String,
        /// The service's image, which tells the client that `sql` uses.
        image: String,
        /// The seed.
        seed: Seed,
    },
    /// Stop a container, in its own time.
    Stop {
        /// The container.
        container: String,
    },
    /// Remove a network of the spec that has changed, whoever is on it.
    RemoveNetwork {
        /// The network.
        network: String,
    },
    /// Remove a container that has changed or is not wanted any more.
    RemoveContainer {
        /// The container.
        container: String,
    },
}

/// How certain it must be that an image's entrypoint, which may run a temporary server to initialize data, has handed over
/// to the real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// A script that runs on for a minute never does.
    Expected,
    /// The script is gone, or a server listens on the network: data is about to be kept.
    Required,
    /// The script is gone: it runs files that the spec mounts.
    Proven,
}

/// What a container is waited for.
#[derive(Debug, Clone, PartialEq)]
pub enum Until {
    /// It is ready, or has completed with 0.
    Ready {
        /// What is tried.
        probe: Probe,
        /// How long it may take; `None`: as long as `up` waits.
        timeout: Option<Duration>,
        /// A port that must accept before a command is tried at all, since a command costs so much more.
        after_port: Option<u16>,
    },
    /// It runs, or has completed with 0.
    Running {
        /// Ports that will probably open. They are waited for, but not for long.
        ports: Vec<u16>,
    },
    /// It has ended with 0.
    Completed,
}

/// A secret or config as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedFile {
    /// Whose content.
    pub source: FileSource,
    /// The absolute path in the container.
    pub path: String,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// Whose content a file has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSource {
    /// A secret's.
    Secret(SecretName),
    /// A config's.
    Config(ConfigName),
    /// None of its own: a symbolic link to this path.
    Link(String),
}

impl Until {
    /// Whether it is the gateway that finds out, from inside.
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
    /// The part of a build that it belongs to.
    pub fn phase(&self) -> Phase {
        match self {
            Self::PullImage(_) | Self::BuildImage(_) => Phase::Images,
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
            Self::Start { .. } | Self::RunInit(_) | Self::RunHook { .. } | Self::Await { .. } => Phase::Start,
            Self::Seed { .. } => Phase::Seed,
            Self::Stop { .. } | Self::RemoveContainer { .. } | Self::RemoveNetwork { .. } => Phase::Remove,
        }
    }

    /// What takes it back; `None` where destroying what it was done to does, or where nothing has to be.
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
            Self::Claim(container) => write!(f, "claim the name: create container `{}`", container.name),
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
                write!(f, "let the services share {}", divided_limits::words(limits))
            }
            Self::ProtectHost(_) => f.write_str("keep services' packets off the engine's machine"),
            Self::ProvideData { path, source } => write!(f, "provide data `{path}` {source}"),
            Self::CreateVolume { volume, .. } => write!(f, "create volume `{}`", volume.name),
            Self::CreateContainer(container) => {
                write!(f, "create container `{}` from `{}`", container.name, container.image)
            }
            Self::Fill { container, target, seed } => {
                write!(f, "fill `{target}` of `{container}` with {}", seed_words(seed))
            }
            Self::Keep { secrets, .. } => {
                f.write_str("keep beside the data: secret")?;
                secrets.iter().try_for_each(|secret| write!(f, " `{secret}`"))
            }
            Self::Upload { container, files } => {
                write!(f, "put into `{container}`:")?;
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
            Self::Seed { container, seed, .. } => write!(f, "seed `{container}` with {}", seed_words(seed)),
            Self::Stop { container } => write!(f, "stop `{container}`"),
            Self::RemoveNetwork { network } => write!(f, "remove network `{network}`"),
            Self::RemoveContainer { container } => write!(f, "remove container `{container}`"),
        }
    }
}

impl Until {
    /// What is waited for, as the object of "waits for".
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

/// `port 80`, or `port 80 or 443`.
fn port_list(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("port {}", ports.join(" or "))
}

/// What a seed is, in a few words.
pub(super) fn seed_words(seed: &Seed) -> String {
    match seed {
        Seed::Copy { source, .. } => format!("copy of {}", source.display()),
        Seed::Sql { pattern, .. } => format!("sql {pattern}"),
        Seed::Exec { command, stdin: Some(file), .. } => {
            format!("exec {} < {}", command.join(" "), file.display())
        }
        Seed::Exec { command, .. } => format!("exec {}", command.join(" ")),
        Seed::Snapshot { snapshot, .. } => match snapshot {
            crate::spec::SnapshotRef::Stored(name) => format!("snapshot {name}"),
            crate::spec::SnapshotRef::File(path) => format!("snapshot {}", path.display()),
        },
    }
}
