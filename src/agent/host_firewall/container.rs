//! The container that filters, and how the keeper reaches it: it is attached to its stdin and output for as long as it
//! lives, so that the process ends with the keeper, whatever ends that. A keeper that leaves removes the container, and the
//! next one what is left of one. (The engine is not asked to: engine 20.10, when it is killed and comes back, makes of a
//! container that it is to remove itself one without a name that nobody can remove.)

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

/// How long it may take until something is filtered, the container's start included.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the container's removal is waited for when its keeper leaves.
const FAREWELL: Duration = Duration::from_secs(5);
/// What is read-only in containers, but for `/proc/sys/net`: that is the one way to turn IPv6 off. Paths that a kernel has
/// not are passed over.
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
/// How often it is looked whether one that is on its way has gone.
const LOOK: Duration = Duration::from_millis(25);

/// Why packets to the engine's machine may be taken in.
#[derive(Debug, thiserror::Error)]
pub enum HostFirewallError {
    /// The engine refused the container.
    #[error("cannot start the container that filters")]
    Engine(#[from] EngineError),
    /// The process ended, or does not answer.
    #[error("the container that filters does not answer")]
    Lost(#[from] io::Error),
    /// It is not to be had of this engine.
    #[error("Podman gives its machine an address on each network")]
    Podman,
    /// The kernel refused.
    #[error("{0}")]
    Refused(String),
    /// Any of these, where services speak IPv6: nothing else stands against that, since an engine closes only IPv4.
    #[error("services could leave by IPv6, by way of the engine's machine")]
    Ipv6(#[source] Box<Self>),
}

impl HostFirewallError {
    /// The way out.
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

/// Whoever filters for the sandboxes of a scope.
pub struct HostFirewall {
    engine: Arc<dyn Engine>,
    scope: Scope,
    /// The reference of our own image.
    image: String,
    post: Mutex<FilterProcess>,
}

/// Whether there is a process that filters.
enum FilterProcess {
    Vacant,
    Taken(Box<Process>),
    /// There is to be none any more.
    Abolished,
}

/// The process, as long as it answers.
struct Process {
    attached: Attached,
    read: BytesMut,
}

impl HostFirewall {
    /// Makes nothing yet.
    pub fn new(engine: Arc<dyn Engine>, scope: Scope, image: String) -> Self {
        Self { engine, scope, image, post: Mutex::new(FilterProcess::Vacant) }
    }

    /// Has the engine's machine take in nothing from the networks that a sandbox has now.
    ///
    /// # Errors
    /// When that cannot be had, and why.
    pub async fn filter(&self, sandbox: &SandboxId) -> Result<(), HostFirewallError> {
        self.filter_those(Filter::all().label(identity::ID, sandbox.as_str())).await
    }

    /// The same for all sandboxes of the scope.
    ///
    /// # Errors
    /// When that cannot be had, and why.
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
                // One that was there may be gone by now: with its engine, or by somebody's hand.
                Err(HostFirewallError::Lost(_)) => self.ask(&mut post, &request).await,
                answer => answer,
            }
        };
        let filtered = timeout(PATIENCE, filtered).await.unwrap_or_else(|_elapsed| Err(late()));
        let ipv6 = request.bridges.iter().any(|bridge| bridge.ipv6);
        filtered.map_err(|error| if ipv6 { HostFirewallError::Ipv6(Box::new(error)) } else { error })
    }

    /// Starts it ahead of the first that is to be filtered.
    pub async fn prepare(&self) {
        let prepared = async {
            let mut post = self.post.lock().await;
            if matches!(*post, FilterProcess::Vacant)
                && let Ok(process) = self.begin().await
            {
                *post = FilterProcess::Taken(Box::new(process));
            }
        };
        // Whoever asks for something tries again, and hears why.
        let _ = timeout(PATIENCE, prepared).await;
    }

    /// Removes what an earlier keeper may have left where nothing has to be filtered.
    pub async fn tidy(&self) {
        let _ = timeout(FAREWELL, self.clear()).await;
    }

    /// Removes the container, for good. What is filtered stays so, but for an edge network on which nobody is left.
    pub async fn dismiss(&self) {
        let dismissed = async {
            let mut post = self.post.lock().await;
            if let FilterProcess::Taken(process) = &mut *post
                && self.is_unused().await
            {
                // Otherwise a table stays that is about nothing.
                let _ = process.ask(&Request { edge: Edge::Released, bridges: Vec::new() }).await;
            }
            *post = FilterProcess::Abolished;
            self.clear().await
        };
        // With the end of its stdin it goes by itself.
        let _ = timeout(FAREWELL, dismissed).await;
    }

    fn edge(&self) -> Edge {
        Edge::Filtered(self.scope.edge_bridge())
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
            // An earlier keeper's, or one that is just going.
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

    /// Removes the container, whoever made it, and waits until it has gone.
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
        create.user = Some("0".to_owned());
        create.network_mode = NetworkMode::Host;
        if info.security.userns {
            // Another user's root has no say in this network.
            create.userns = Some("host".to_owned());
        }
        create.stdin_open = true;
        create.stdin_once = true;
        create.stop_signal = Some("SIGKILL".to_owned());
        create.read_only = true;
        create.readonly_paths = Some(READ_ONLY.map(str::to_owned).to_vec());
        create.cap_drop = vec!["ALL".to_owned()];
        create.cap_add = vec!["NET_ADMIN".to_owned()];
        create.security_opt = vec!["no-new-privileges:true".to_owned()];
        // The default profiles close `/proc/sys/net` to containers.
        if info.security.apparmor {
            create.security_opt.push("apparmor=unconfined".to_owned());
        }
        if info.security.selinux {
            create.security_opt.push("label=disable".to_owned());
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

/// A network's bridge, as the engine's machine names it.
fn bridge(network: &Network) -> Bridge {
    let named = network.options.get(CreateNetwork::BRIDGE_NAME).cloned();
    let name = named.unwrap_or_else(|| format!("br-{}", network.id.get(..12).unwrap_or(&network.id)));
    Bridge { name, ipv6: network.ipv6 }
}
