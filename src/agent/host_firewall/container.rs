//! Runs the host firewall's container for the keeper.
//!
//! The keeper stays attached to the container's stdin and output, so that the process ends when the keeper ends for
//! whatever reason. A keeper that exits removes the container, and the next keeper removes one that was left behind.
//! (It does not use the engine's auto-removal: engine 20.10, if it is killed and restarted, turns such a container into
//! one without a name that cannot be removed.)

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::protocol::{Bridge, Edge, FilterReply, Request};
use crate::agent::image;
use crate::engine::identity::{self, Role, SandboxId, Scope};
use crate::engine::{
    Attached, CreateContainer, CreateNetwork, Engine, EngineError, EngineInfo, EngineKind, ErrorKind, Filter,
    Network, NetworkMode, Resources,
};

/// How long it may take until the filter is active, with the container's start.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait for the container's removal when its keeper exits.
const FAREWELL: Duration = Duration::from_secs(5);
/// The paths that are read-only in containers by default, except `/proc/sys/net`, which has to be writable to turn IPv6
/// off. Paths that a kernel does not have are ignored.
const READ_ONLY: [&str; 16] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sysrq-trigger",
    "/proc/sys/abi",
    "/proc/sys/crypto",
    "/proc/sys/debug",
    "/proc/sys/dev",
    "/proc/sys/fs",
    "/proc/sys/fscache",
    "/proc/sys/kernel",
    "/proc/sys/sunrpc",
    "/proc/sys/user",
    "/proc/sys/vm",
    "/proc/sys/xen",
    "/proc/asound",
];
/// How often to check whether a container that is being removed is gone.
const LOOK: Duration = Duration::from_millis(25);

/// Why the engine's machine may accept packets from services.
#[derive(Debug, thiserror::Error)]
pub enum HostFirewallError {
    /// The engine refused to run the container.
    #[error("cannot start the container that filters")]
    Engine(#[from] EngineError),
    /// The process ended, or does not answer.
    #[error("the container that filters does not answer")]
    Lost(#[from] io::Error),
    /// Podman does not support it.
    #[error("Podman gives its machine an address on each network")]
    Podman,
    /// The kernel refused.
    #[error("{0}")]
    Refused(String),
    /// Any of these, on a network with IPv6: there the engine itself protects only IPv4.
    #[error("services could leave by IPv6, by way of the engine's machine")]
    Ipv6(#[source] Box<Self>),
}

impl HostFirewallError {
    /// Returns a hint for the user.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Ipv6(_) => "take `enable_ipv6` out of the spec",
            Self::Podman => "nothing of Podman's own closes that way: Docker's engine has none",
            _ => {
                "`sysctl net.ipv4.conf.default.rp_filter=1` on it before the next `up` closes that way on every new bridge"
            }
        }
    }
}

/// The host firewall of a scope.
pub struct HostFirewall {
    engine: Arc<dyn Engine>,
    scope: Scope,
    /// The reference of our own image.
    image: String,
    post: Mutex<FilterProcess>,
}

/// The state of the filter process.
enum FilterProcess {
    Vacant,
    Taken(Box<Process>),
    /// The keeper is exiting; no process may be started.
    Abolished,
}

/// The process, while it answers.
struct Process {
    attached: Attached,
    read: BytesMut,
}

impl HostFirewall {
    /// Creates the handle; starts nothing yet.
    pub fn new(engine: Arc<dyn Engine>, scope: Scope, image: String) -> Self {
        Self { engine, scope, image, post: Mutex::new(FilterProcess::Vacant) }
    }

    /// Stops the engine's machine from accepting packets from a sandbox's current networks.
    ///
    /// # Errors
    /// Fails if that is impossible, with the reason.
    pub async fn filter(&self, sandbox: &SandboxId) -> Result<(), HostFirewallError> {
        self.filter_those(Filter::all().label(identity::ID, sandbox.as_str())).await
    }

    /// Does the same for all sandboxes of the scope.
    ///
    /// # Errors
    /// Fails if that is impossible, with the reason.
    pub async fn filter_all(&self) -> Result<(), HostFirewallError> {
        self.filter_those(self.scope.narrow(Filter::all())).await
    }

    async fn filter_those(&self, filter: Filter) -> Result<(), HostFirewallError> {
        let filter = filter.label(identity::ROLE, Role::Network.as_str());
        let mut networks = self.engine.networks(&filter).await?;
        networks.retain(|network| self.scope.owns(&network.labels));
        if networks.is_empty() {
            return Ok(());
        }
        let request = Request { edge: self.edge(), bridges: networks.iter().map(bridge).collect() };
        let filtered = async {
            let mut post = self.post.lock().await;
            match self.ask(&mut post, &request).await {
                // The process may have ended, with its engine or because a user removed the container. Then it is
                // started again.
                Err(HostFirewallError::Lost(_)) => self.ask(&mut post, &request).await,
                answer => answer,
            }
        };
        let filtered = timeout(PATIENCE, filtered).await.unwrap_or_else(|_elapsed| Err(late()));
        let ipv6 = request.bridges.iter().any(|bridge| bridge.ipv6);
        filtered.map_err(|error| if ipv6 { HostFirewallError::Ipv6(Box::new(error)) } else { error })
    }

    /// Starts the container before the first sandbox needs it.
    pub async fn prepare(&self) {
        let prepared = async {
            let mut post = self.post.lock().await;
            if matches!(*post, FilterProcess::Vacant)
                && let Ok(process) = self.begin().await
            {
                *post = FilterProcess::Taken(Box::new(process));
            }
        };
        // The next request tries again and reports the error.
        let _ = timeout(PATIENCE, prepared).await;
    }

    /// Removes a container that a previous keeper may have left although nothing needs filtering.
    pub async fn tidy(&self) {
        let _ = timeout(FAREWELL, self.clear()).await;
    }

    /// Removes the container permanently. The filter stays active, except on an edge network that no sandbox uses.
    pub async fn dismiss(&self) {
        let dismissed = async {
            let mut post = self.post.lock().await;
            if let FilterProcess::Taken(process) = &mut *post
                && self.is_unused().await
            {
                // Otherwise an unused table stays behind.
                let _ = process.ask(&Request { edge: Edge::Released, bridges: Vec::new() }).await;
            }
            *post = FilterProcess::Abolished;
            self.clear().await
        };
        // The process exits when its stdin closes.
        let _ = timeout(FAREWELL, dismissed).await;
    }

    fn edge(&self) -> Edge {
        Edge::Filtered(self.scope.edge_bridge(EngineKind::Docker))
    }

    async fn ask(&self, post: &mut FilterProcess, request: &Request) -> Result<(), HostFirewallError> {
        let mut process = match std::mem::replace(post, FilterProcess::Vacant) {
            FilterProcess::Taken(process) => process,
            FilterProcess::Vacant => Box::new(self.begin().await?),
            FilterProcess::Abolished => {
                *post = FilterProcess::Abolished;
                return Err(HostFirewallError::Refused("the keeper is leaving".to_owned()));
            }
        };
        let answer = process.ask(request).await?;
        *post = FilterProcess::Taken(process);
        match answer {
            FilterReply::Filtered => Ok(()),
            FilterReply::Refused(why) => Err(HostFirewallError::Refused(why)),
        }
    }

    async fn begin(&self) -> Result<Process, HostFirewallError> {
        let info = self.engine.info().await?;
        if info.kind == EngineKind::Podman {
            return Err(HostFirewallError::Podman);
        }
        let create = self.description(&info);
        let container = loop {
            // It belongs to a previous keeper, or is just being removed.
            self.clear().await?;
            match image::create_container(&*self.engine, &create).await {
                Err(error) if error.kind == ErrorKind::Conflict => sleep(LOOK).await,
                made => break made?,
            }
        };
        let attached = self.engine.attach(&container).await?;
        self.engine.start_container(&container).await?;
        Ok(Process { attached, read: BytesMut::new() })
    }

    /// Whether no sandbox of the scope has a network.
    async fn is_unused(&self) -> bool {
        let filter = self.scope.narrow(Filter::all()).label(identity::ROLE, Role::Network.as_str());
        let networks = self.engine.networks(&filter).await;
        networks.is_ok_and(|networks| !networks.iter().any(|network| self.scope.owns(&network.labels)))
    }

    /// Removes the container, even if another keeper created it, and waits until it is gone.
    async fn clear(&self) -> Result<(), EngineError> {
        loop {
            match self.engine.remove_container(&self.scope.host_firewall(), true, false).await {
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) if !matches!(error.kind, ErrorKind::Conflict | ErrorKind::InUse) => {
                    return Err(error);
                }
                _ => sleep(LOOK).await,
            }
        }
    }

    fn description(&self, info: &EngineInfo) -> CreateContainer {
        let mut create = CreateContainer::new(self.scope.host_firewall(), &self.image);
        create.labels = BTreeMap::from([(identity::ROLE.to_owned(), Role::HostFirewall.to_string())]);
        self.scope.mark(&mut create.labels);
        create.entrypoint = Some(vec![image::PATH.to_owned()]);
        create.cmd = Some(vec!["agent".to_owned(), "host-firewall".to_owned()]);
        create.settings.user = Some("0".to_owned());
        create.network_mode = NetworkMode::Host;
        if info.security.userns {
            // The root user of another user namespace has no rights in this network namespace.
            create.settings.userns_mode = Some("host".to_owned());
        }
        create.settings.stdin_open = true;
        create.stdin_once = true;
        create.settings.stop_signal = Some("SIGKILL".to_owned());
        create.settings.read_only = true;
        create.readonly_paths = Some(READ_ONLY.map(str::to_owned).to_vec());
        create.settings.cap_drop = vec!["ALL".to_owned()];
        create.settings.cap_add = vec!["NET_ADMIN".to_owned()];
        create.settings.security_opt = vec!["no-new-privileges:true".to_owned()];
        // The default profiles deny containers access to `/proc/sys/net`.
        if info.security.apparmor {
            create.settings.security_opt.push("apparmor=unconfined".to_owned());
        }
        if info.security.selinux {
            create.settings.security_opt.push("label=disable".to_owned());
        }
        create.resources = Resources { pids_limit: Some(16), ..Resources::default() };
        create
    }
}

impl Process {
    async fn ask(&mut self, request: &Request) -> io::Result<FilterReply> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.attached.input.write_all(&line).await?;
        self.attached.input.flush().await?;
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                return Ok(serde_json::from_slice(&self.read.split_to(end + 1))?);
            }
            match self.attached.output.next().await {
                Some(chunk) => self.read.extend_from_slice(&chunk.map_err(io::Error::other)?.bytes),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

fn late() -> HostFirewallError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

/// Returns a network's bridge, by its name on the engine's machine.
fn bridge(network: &Network) -> Bridge {
    let named = network.options.get(CreateNetwork::BRIDGE_NAME).cloned();
    let name = named.unwrap_or_else(|| format!("br-{}", network.id.get(..12).unwrap_or(&network.id)));
    Bridge { name, ipv6: network.ipv6 }
}
