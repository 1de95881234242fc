//! The container that filters, and how the keeper reaches it: it is attached to its stdin and output for as long as it
//! lives, so that the container goes with the keeper, whatever ends that.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{Answer, Request};
use crate::agent::image;
use crate::engine::identity::{self, Role, SandboxId, Scope};
use crate::engine::{
    Attached, CreateContainer, CreateNetwork, Engine, EngineError, EngineInfo, EngineKind, Filter, Network,
    NetworkMode, Resources,
};

/// How long the process may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why packets to the engine's machine may be taken in.
#[derive(Debug, thiserror::Error)]
pub enum IngressError {
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
}

impl IngressError {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Podman => "nothing of Podman's own closes that way: Docker's engine has none",
            _ => {
                "`sysctl net.ipv4.conf.default.rp_filter=1` on it before the next `up` closes that way on every new bridge"
            }
        }
    }
}

/// Whoever filters for the sandboxes of a scope.
pub struct Ingress {
    engine: Arc<dyn Engine>,
    scope: Scope,
    /// The reference of our own image.
    image: String,
    process: Mutex<Option<Process>>,
}

/// The process, as long as it answers.
struct Process {
    container: String,
    attached: Attached,
    read: BytesMut,
}

impl Ingress {
    /// Makes nothing yet.
    pub fn new(engine: Arc<dyn Engine>, scope: Scope, image: String) -> Self {
        Self { engine, scope, image, process: Mutex::default() }
    }

    /// Has the engine's machine take in nothing from the networks that a sandbox has now.
    ///
    /// # Errors
    /// When that cannot be had, and why.
    pub async fn filter(&self, sandbox: &SandboxId) -> Result<(), IngressError> {
        let of_it =
            Filter::all().label(identity::ID, sandbox.as_str()).label(identity::ROLE, Role::Network.as_str());
        let networks = self.engine.networks(&of_it).await?;
        let bridges = networks.iter().map(bridge).collect();
        let request = Request { bridges };
        let mut process = self.process.lock().await;
        // One that was there may be gone by now: with its engine, or by somebody's hand.
        let was_there = process.is_some();
        match self.ask(&mut process, &request).await {
            Err(IngressError::Lost(_)) if was_there => self.ask(&mut process, &request).await,
            answer => answer,
        }
    }

    /// Starts it ahead of the first that is to be filtered.
    pub async fn prepare(&self) {
        let mut process = self.process.lock().await;
        if process.is_none() {
            // Whoever asks for something tries again, and hears why.
            *process = self.begin().await.ok();
        }
    }

    /// Removes the container. What is filtered stays so.
    pub async fn dismiss(&self) {
        if let Some(process) = self.process.lock().await.take() {
            // With the end of its stdin it goes by itself.
            let _ = self.engine.remove_container(&process.container, true, false).await;
        }
    }

    async fn ask(&self, process: &mut Option<Process>, request: &Request) -> Result<(), IngressError> {
        let mut asked = match process.take() {
            Some(process) => process,
            None => self.begin().await?,
        };
        let late = |_elapsed| io::Error::from(io::ErrorKind::TimedOut);
        let answer = timeout(PATIENCE, asked.ask(request)).await.map_err(late)??;
        *process = Some(asked);
        match answer {
            Answer::Filtered => Ok(()),
            Answer::Refused(why) => Err(IngressError::Refused(why)),
        }
    }

    async fn begin(&self) -> Result<Process, IngressError> {
        let info = self.engine.info().await?;
        if info.kind == EngineKind::Podman {
            return Err(IngressError::Podman);
        }
        let create = self.description(&info);
        // An earlier keeper's.
        match self.engine.remove_container(&create.name, true, false).await {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        let container = image::create_container(&*self.engine, &create).await?;
        let attached = self.engine.attach(&container).await?;
        self.engine.start_container(&container).await?;
        Ok(Process { container, attached, read: BytesMut::new() })
    }

    fn description(&self, info: &EngineInfo) -> CreateContainer {
        let mut create = CreateContainer::new(self.scope.ingress(), &self.image);
        create.labels = BTreeMap::from([(identity::ROLE.to_owned(), Role::Ingress.to_string())]);
        self.scope.mark(&mut create.labels);
        create.entrypoint = Some(vec![image::PATH.to_owned()]);
        create.cmd = Some(vec!["agent".to_owned(), "ingress".to_owned()]);
        create.user = Some("0".to_owned());
        create.network_mode = NetworkMode::Host;
        if info.security.userns {
            // Another user's root has no say in this network.
            create.userns = Some("host".to_owned());
        }
        create.stdin_open = true;
        create.stdin_once = true;
        create.auto_remove = true;
        create.read_only = true;
        create.cap_drop = vec!["ALL".to_owned()];
        create.cap_add = vec!["NET_ADMIN".to_owned()];
        create.security_opt = vec!["no-new-privileges:true".to_owned()];
        create.resources = Resources { pids_limit: Some(16), ..Resources::default() };
        create
    }
}

impl Process {
    async fn ask(&mut self, request: &Request) -> io::Result<Answer> {
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

/// A network's bridge, as the engine's machine names it.
fn bridge(network: &Network) -> String {
    let named = network.options.get(CreateNetwork::BRIDGE_NAME).cloned();
    named.unwrap_or_else(|| format!("br-{}", network.id.get(..12).unwrap_or(&network.id)))
}
