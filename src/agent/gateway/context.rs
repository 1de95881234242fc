//! The context that all tasks of the gateway share.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::config::GatewayConfig;
use super::directory::{ServiceDirectory, Shared};
use super::dns_cache::DnsCache;
use super::policy::Policy;
use super::stats::{GatewayStats, RefusalKey, RefusalKind};

/// The engine's own resolver, in every container on a user-defined network.
pub const ENGINE_RESOLVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 11)), 53);

/// A connection that was accepted.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The service's address.
    pub from: SocketAddr,
    /// The port that it was made to.
    pub port: u16,
}

/// The state of a running gateway.
#[derive(Debug)]
pub struct Serving {
    /// The configuration.
    pub config: GatewayConfig,
    /// The egress policy.
    pub policy: Policy,
    /// The service directory.
    pub roster: ServiceDirectory,
    /// The statistics.
    pub ledger: Shared<GatewayStats>,
    /// The proxy's cache of outside names.
    pub answers: Shared<DnsCache>,
}

/// An open connection; dropping it counts its end.
#[derive(Debug)]
pub struct ConnectionGuard(Arc<Serving>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.ledger.lock().closed();
    }
}

impl Serving {
    /// Creates the context for this configuration.
    pub fn new(config: GatewayConfig) -> Arc<Self> {
        Arc::new(Self {
            policy: Policy::new(&config),
            roster: ServiceDirectory::new(config.services.clone(), ENGINE_RESOLVER),
            ledger: Shared::default(),
            answers: Shared::default(),
            config,
        })
    }

    /// Returns the resolver for outside names.
    pub fn outside_resolver(&self) -> SocketAddr {
        self.config.resolver.unwrap_or(ENGINE_RESOLVER)
    }

    /// Counts a connection through a published port until the returned guard is dropped.
    pub fn count_connection(self: &Arc<Self>) -> ConnectionGuard {
        self.ledger.lock().opened();
        ConnectionGuard(Arc::clone(self))
    }

    /// Counts a refusal. The first of its kind is logged at once, so that a caller who reads the log next finds it.
    pub fn refuse(
        &self,
        from: SocketAddr,
        kind: RefusalKind,
        target: &str,
        port: Option<u16>,
        reason: Option<String>,
    ) {
        let service = match from {
            SocketAddr::V4(from) => self.roster.service_at(*from.ip()),
            SocketAddr::V6(from) => from.ip().to_string(),
        };
        let key = RefusalKey { service, target: target.to_owned(), port, kind, reason };
        let mut ledger = self.ledger.lock();
        if ledger.refused(key) {
            ledger.write_due(Instant::now());
        }
    }
}
