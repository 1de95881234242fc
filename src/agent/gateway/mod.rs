//! The gateway: everything that enters or leaves a sandbox passes through it.
//!
//! `sandbox agent gateway` runs once per sandbox, in our own image, on each of the sandbox's networks and on the edge
//! bridge. It forwards published ports, resolves outside names, enforces the egress policy, and probes services from
//! the inside. It keeps no state beyond its own life, has no engine socket, and keeps no capability after its set-up.
//!
//! # Required configuration of networks and containers
//!
//! The plan creates the objects according to this table. Every line was tried on engines of API 1.41 and later.
//!
//! | | `deny`, lists of names only | lists with addresses, `allow` |
//! | --- | --- | --- |
//! | the mode (`EgressPolicy::mode`) | `GatewayMode::Proxy` | `GatewayMode::Router` |
//! | each network of the spec: `Internal` | `true` | `false` (`true` for one the spec itself calls internal) |
//! | `com.docker.network.bridge.inhibit_ipv4` | `true` | `true` |
//! | `com.docker.network.bridge.enable_ip_masquerade` | – | `false` |
//! | `EnableIPv6` | `false` unless the spec asks for it | the same |
//! | IPAM | one explicit subnet and gateway | the same; the gateway's address is the one we adopt |
//! | gateway container: `CapDrop` / `CapAdd` | `ALL` / – | `ALL` / `NET_ADMIN` |
//! | gateway container: `Sysctls` | `net.ipv4.ip_forward=0` | `net.ipv4.ip_forward=1` |
//!
//! The edge bridge, one per scope: not internal, `com.docker.network.bridge.enable_icc=false`, masquerading on (the
//! default), `EnableIPv6: false`, one explicit subnet, which goes into `EdgeNetwork`.
//!
//! The gateway container, always:
//! - created on the edge, then connected to each network with `GatewayNetwork::address`, then started: a container
//!   created with `--network none` cannot be connected, and a port published on internal networks alone binds nothing;
//! - `ReadonlyRootfs: true`, `SecurityOpt: ["no-new-privileges"]`, user 0, `PidsLimit: 64`, no
//!   `Ulimits` (an engine may be forbidden to raise them; we use all that it gives), log driver `json-file` with
//!   `max-size=1m`, `max-file=2`;
//! - command `agent gateway`, and the environment of `GatewayConfig::to_environment`: all of it is known before the
//!   container is made;
//! - each published port `127.0.0.1:H` is bound to `Forward::edge_port` of the same protocol. Edge ports are free to
//!   choose, from 1024 up; below are the resolver's and the proxy's;
//! - ports 53, 80 and 443 need no capability: the engine sets `net.ipv4.ip_unprivileged_port_start=0`.
//!
//! Each service container: `--dns` is the gateway's `GatewayNetwork::address` on one of the service's networks, unless
//! the spec names its own servers (which are then reachable only under `allow` or by an address rule); `--dns-search .`
//! (so that the host's search domain does not turn `db` into an outside name); `CapDrop: ["NET_RAW"]`. Fixed addresses
//! in `ServiceAddress` save the gateway a look-up per connection and show the service's name in refusals; without them
//! the gateway looks up the container's name at the engine's resolver.
//!
//! IPv6, where a network has it, is only for traffic among services: the gateway neither listens on it nor forwards it.
//! `inhibit_ipv4` has no IPv6 counterpart, so the bridge's IPv6 address would be the host; `agent::host_firewall` turns
//! it off there.
//!
//! # What happens to a refused packet
//!
//! Under `deny` and lists of names a service has no route out: a connection to an outside address fails at once with
//! "network is unreachable" and nothing reaches the gateway (so it is not counted); a DNS query gets NXDOMAIN and is
//! counted. In router mode a refused packet is answered with a reset or "administratively prohibited", and counted.

pub use crate::plan::gateway_config as config;
mod client_hello;
mod context;
pub mod control;
mod dial;
mod directory;
mod dns_cache;
mod forward;
mod http_proxy;
mod lookup;
mod outbound;
mod packet_filter;
mod policy;
mod privileges;
pub mod probe;
mod relay;
mod resolver;
mod router;
pub mod stats;
mod tcp_proxy;

use std::{
    io::{self, Write},
    net::Ipv4Addr,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{
    net::UdpSocket,
    signal::unix::{SignalKind, signal},
};

use config::{EdgeNetwork, GatewayConfig, GatewayMode};
use context::Serving;
use stats::GatewayEvent;

/// Why the gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The environment has no readable configuration.
    #[error("cannot read the configuration in the environment")]
    Config(#[source] serde_json::Error),
    /// A step of the set-up failed.
    #[error("cannot {step}")]
    SetUp {
        /// The step.
        step: String,
        /// The cause.
        #[source]
        cause: io::Error,
    },
}

/// Adds the step that failed to an error.
fn failed_to(step: impl Into<String>) -> impl FnOnce(io::Error) -> GatewayError {
    move |cause| GatewayError::SetUp { step: step.into(), cause }
}

/// `sandbox agent gateway`: serves until it receives SIGTERM or SIGINT.
pub fn run() -> ExitCode {
    let config = GatewayConfig::from_environment(|name| std::env::var(name).ok());
    let served = config.map_err(GatewayError::Config).and_then(|config| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build();
        runtime.map_err(failed_to("start its own loop"))?.block_on(serve(config))
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause =
                std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            stats::trouble(format!("{error}{cause}"));
            ExitCode::FAILURE
        }
    }
}

/// `sandbox agent control`: connects its standard input and output to the gateway in the same container.
pub fn control() -> ExitCode {
    let carried = privileges::give_up().and_then(|()| control::carry_stdio());
    if carried.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `sandbox agent dial ADDRESS:PORT`: connects its standard input and output to a port of the sandbox.
pub fn dial(args: &[String]) -> ExitCode {
    let address = args.first().map(String::as_str).unwrap_or_default();
    let carried = privileges::give_up().and_then(|()| dial::carry_stdio(address));
    match carried {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: GatewayConfig) -> Result<(), GatewayError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(failed_to("listen for signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed_to("listen for signals"))?;
    privileges::use_all_descriptors();
    let serving = Serving::new(config);
    let edge = match &serving.config.edge {
        Some(edge) => {
            Some(own_address(edge).await.map_err(failed_to("find its address on the edge network"))?)
        }
        None => None,
    };
    become_router(&serving, edge)?;
    privileges::give_up().map_err(failed_to("give up its capabilities"))?;
    open_ports(&serving, edge).await?;
    control::serve(Arc::clone(&serving), edge).map_err(failed_to("listen for its clients"))?;
    stats::write_event(&GatewayEvent::Started {
        sandbox: serving.config.sandbox.clone(),
        at: Timestamp::now(),
    });
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = tick.tick() => serving.ledger.lock().write_due(Instant::now()),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    serving.ledger.lock().write_due(Instant::now());
    Ok(())
}

fn become_router(serving: &Arc<Serving>, edge_address: Option<Ipv4Addr>) -> Result<(), GatewayError> {
    if serving.config.mode() == GatewayMode::Proxy {
        return Ok(());
    }
    let (Some(edge), Some(edge_address)) = (&serving.config.edge, edge_address) else {
        return Err(failed_to("route")(io::Error::other("the configuration names no edge network")));
    };
    let refusals = router::set_up(&serving.config, &serving.policy, edge, edge_address)
        .map_err(failed_to("become the router"))?;
    router::serve(Arc::clone(serving), refusals).map_err(failed_to("hear of refused packets"))
}

async fn open_ports(serving: &Arc<Serving>, edge: Option<Ipv4Addr>) -> Result<(), GatewayError> {
    for network in &serving.config.networks {
        let step = format!("answer look-ups on network `{}` ({})", network.name, network.address);
        resolver::serve(Arc::clone(serving), network.address).await.map_err(failed_to(step))?;
        for port in serving.policy.proxy_ports() {
            let step = format!("listen for listed names on {}:{port}", network.address);
            tcp_proxy::serve(serving, network.address, port).map_err(failed_to(step))?;
        }
    }
    let Some(edge) = edge else { return Ok(()) };
    for forward in &serving.config.forwards {
        let step = format!("listen for `{}` on edge port {}", forward.service, forward.edge_port);
        forward::serve(Arc::clone(serving), edge, forward.clone()).await.map_err(failed_to(step))?;
    }
    Ok(())
}

/// Returns the address that the engine gave us on the edge network: the source address for its bridge.
async fn own_address(edge: &EdgeNetwork) -> io::Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect((edge.bridge, 9)).await?;
    match socket.local_addr()?.ip() {
        std::net::IpAddr::V4(address) if edge.subnet.contains(&address) => Ok(address),
        other => Err(io::Error::other(format!("{other} is not in {}", edge.subnet))),
    }
}
